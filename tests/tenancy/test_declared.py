"""Keys that the stack declares: by hash, by variable, by file; and a file that changes under a running gateway."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from inhouse.config import KeySpec
from inhouse.core import Identity
from inhouse.errors import StackError, Unauthorized
from inhouse.store.ledger import Limits
from inhouse.store.sqlite import SqliteStore
from inhouse.tenancy import keys
from inhouse.tenancy.auth import Authenticator
from inhouse.tenancy.declared import DeclaredKeys, hash_text

ONE, TWO, THREE = (letter * 32 for letter in "abc")


def spec(**fields: Any) -> KeySpec:
    return KeySpec.model_validate(fields)


def door(declared: DeclaredKeys, at: float = 0.0) -> Authenticator:
    return Authenticator(None, declared=declared, clock=lambda: at)


def opens(auth: Authenticator, key: str) -> str | None:
    """The id of the caller whom the key proves."""
    try:
        return auth.identify(b"Bearer " + key.encode(), None).key_id
    except Unauthorized:
        return None


def put(path: Path, text: str) -> None:
    """As a secret is replaced: whole, at once."""
    path.with_suffix(".new").write_text(text)
    os.replace(path.with_suffix(".new"), path)


def test_each_way_to_declare_opens(tmp_path: Path) -> None:
    """By hash, variable and file; a newline behind the text, as editors leave it, is no part of it."""
    (tmp_path / "key").write_text(THREE + "\n")
    auth = door(
        DeclaredKeys(
            {
                "by-hash": spec(hash=hash_text(ONE)),
                "by-variable": spec(from_env="CI_KEY"),
                "by-file": spec(from_file=tmp_path / "key"),
                "k4w7qd2mzp": spec(limits={"tokens_per_day": 5}),
            },
            {"CI_KEY": f" {TWO} "},
        )
    )
    assert [opens(auth, key) for key in (ONE, TWO, THREE)] == ["by-hash", "by-variable", "by-file"]
    assert opens(auth, ONE[:-1]) is None
    assert opens(auth, hash_text(ONE)) is None


def test_the_key_of_the_environment_can_be_declared() -> None:
    """With rights of its own, in place of those that INHOUSE_API_KEY has by itself."""
    declared = DeclaredKeys({"boss": spec(from_env="INHOUSE_API_KEY", roles=["admin"])}, {"INHOUSE_API_KEY": ONE})
    auth = Authenticator(None, static_keys=[ONE], declared=declared)
    assert auth.identify(None, ONE.encode()) == Identity("boss", roles=frozenset({"admin"}))


def test_the_hash_is_that_of_the_whole_text() -> None:
    """Anything that makes a SHA-256 makes it."""
    assert hash_text(f"{ONE}\n") == "sha256:" + hashlib.sha256(ONE.encode()).hexdigest()


def test_the_caller_has_what_was_declared() -> None:
    """Tenant, roles, models and limits; and the key ends when it was said to."""
    fields = {"tenant": "acme", "roles": ["auditor"], "models": ["chat"], "limits": {"concurrent_requests": 2}}
    declared = DeclaredKeys({"ci": spec(hash=hash_text(ONE), expires="1970-01-02", **fields)}, {})
    identity = door(declared, at=86399.0).identify(None, ONE.encode())
    assert identity == Identity("ci", "acme", frozenset({"auditor"}), ("chat",), (("concurrent_requests", 2),))
    record = declared.find(hashlib.sha256(ONE.encode()).digest())
    assert record is not None
    assert record.limits == Limits(concurrent_requests=2)
    with pytest.raises(Unauthorized, match="expired on 1970-01-02 00:00 UTC"):
        door(declared, at=86400.0).identify(None, ONE.encode())


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"from_env": "CI_KEY"}, "the environment variable CI_KEY, which is not set"),
        ({"from_env": "EMPTY"}, "the environment variable EMPTY, which is not set"),
        ({"from_env": "SHORT"}, "the variable SHORT holds a key of 6 characters, at least 16"),
        ({"from_env": "WORDS"}, "spaces or characters that cannot be sent"),
        ({"from_file": "/nowhere/key"}, "the file /nowhere/key, which does not exist"),
        ({"from_file": "/"}, "the file / with its text cannot be read: Is a directory"),
    ],
)
def test_what_is_missing_stops_the_start(fields: dict[str, str], told: str) -> None:
    """The message has the key's name, what is wrong and the way out, and nothing of a text."""
    environ = {"EMPTY": "", "SHORT": "secret", "WORDS": "secret words of some length"}
    with pytest.raises(StackError, match=told) as caught:
        DeclaredKeys({"ci": spec(**fields)}, environ)
    assert caught.value.where == "keys.ci"
    assert caught.value.hint is not None
    assert "secret" not in caught.value.message


def test_two_keys_of_one_text_stop_the_start() -> None:
    """Nobody could say whose request it is."""
    with pytest.raises(StackError, match=r"same text as `keys.a`") as caught:
        DeclaredKeys({"a": spec(hash=hash_text(ONE)), "b": spec(from_env="B")}, {"B": ONE})
    assert caught.value.where == "keys.b"


def test_a_name_that_is_the_id_of_another_key_stops_the_start(tmp_path: Path) -> None:
    """Limits and use go by the id: two keys of one id would share them."""
    with SqliteStore(tmp_path) as store:
        other = keys.mint(store, note="", now=1.0).record.id
        DeclaredKeys({"ci": spec(hash=hash_text(ONE)), other: spec()}, {}).check_apart_from(store)
        with pytest.raises(StackError, match="made by `inhouse keys create`") as caught:
            DeclaredKeys({other: spec(hash=hash_text(ONE))}, {}).check_apart_from(store)
    assert caught.value.where == f"keys.{other}"


def test_a_file_that_changes_takes_effect_at_the_next_refresh(tmp_path: Path) -> None:
    """The new text opens and the old one does not; also where it had been proven before."""
    path = tmp_path / "key"
    put(path, ONE)
    auth = door(DeclaredKeys({"ci": spec(from_file=path)}, {}))
    assert opens(auth, ONE) == "ci"
    put(path, TWO)
    auth.refresh()
    assert (opens(auth, ONE), opens(auth, TWO)) == (None, "ci")


def test_a_mounted_secret_that_is_swapped_is_noticed(tmp_path: Path) -> None:
    """Kubernetes turns a symbolic link to another folder: same path, size and perhaps time."""
    for name, text in (("old", ONE), ("new", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(text)
        os.utime(tmp_path / name / "key", (1, 1))
    (tmp_path / "data").symlink_to("old")
    auth = door(DeclaredKeys({"ci": spec(from_file=tmp_path / "data" / "key")}, {}))
    (tmp_path / "swap").symlink_to("new")
    os.replace(tmp_path / "swap", tmp_path / "data")
    auth.refresh()
    assert (opens(auth, ONE), opens(auth, TWO)) == (None, "ci")


def test_a_file_that_goes_takes_its_key_along(tmp_path: Path) -> None:
    """It opens nothing while it is gone or holds no key, that is told once, and it opens again when it is back."""
    told: list[tuple[str, str | None]] = []
    path = tmp_path / "key"
    put(path, ONE)
    declared = DeclaredKeys({"ci": spec(from_file=path)}, {}, tell=lambda name, reason: told.append((name, reason)))
    auth = door(declared)
    path.unlink()
    for _ in range(3):
        auth.refresh()
        assert opens(auth, ONE) is None
    assert declared.faults() == {"ci": f"its text is to come from the file {path}, which does not exist"}
    path.write_text("")
    auth.refresh()
    assert opens(auth, ONE) is None
    put(path, ONE)
    auth.refresh()
    assert opens(auth, ONE) == "ci"
    assert [(name, reason is None) for name, reason in told] == [("ci", False), ("ci", False), ("ci", True)]


def test_a_file_cannot_take_the_text_of_another_key(tmp_path: Path) -> None:
    """Whoever may write the file of one key does not become another caller."""
    path = tmp_path / "key"
    put(path, ONE)
    declared = DeclaredKeys({"weak": spec(from_file=path), "boss": spec(hash=hash_text(TWO), roles=["admin"])}, {})
    auth = door(declared)
    put(path, TWO)
    auth.refresh()
    assert (opens(auth, ONE), opens(auth, TWO)) == (None, "boss")
    assert "same text" in declared.faults()["weak"]


def test_unchanged_files_cost_no_proof(tmp_path: Path) -> None:
    """Nothing that was proven is forgotten while nothing changes."""
    put(tmp_path / "key", ONE)
    declared = DeclaredKeys({"ci": spec(from_file=tmp_path / "key")}, {})
    before = declared.refresh()
    assert declared.refresh() == before
