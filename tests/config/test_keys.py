"""Keys in the stack: declared whole or not at all, and nothing of a pasted secret in a message."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from inhouse.config import read
from inhouse.config.moments import parse_moment, render_moment
from inhouse.config.show import render
from inhouse.config.stack import Stack
from inhouse.errors import StackError

HASH = "sha256:" + "0a" * 32


def stack(tmp_path: Path, keys: str) -> Stack:
    (tmp_path / "inhouse.yaml").write_text(f"models: {{chat: {{source: demo}}}}\nkeys:\n  {keys}\n")
    return read(tmp_path / "inhouse.yaml", environ={}, flags={}).stack


def test_a_declared_key_as_it_is_read(tmp_path: Path) -> None:
    """A relative file starts at the folder of the stack; a date is its first instant in UTC."""
    spec = stack(tmp_path, "ci: {from_file: ./secrets/ci, expires: 2027-01-31, roles: [auditor], note: n}").keys["ci"]
    assert spec.declared
    assert spec.from_file == tmp_path / "secrets" / "ci"
    assert spec.expires == "2027-01-31T00:00:00Z"
    assert spec.reference == f"from_file {tmp_path}/secrets/ci"
    assert not stack(tmp_path, "k4w7qd2mzp: {limits: {tokens_per_day: 5}}").keys["k4w7qd2mzp"].declared


@pytest.mark.parametrize(
    ("keys", "message", "hint"),
    [
        ("ci: {from_env: A, from_file: b}", "`from_env` and `from_file` both say", "keep one"),
        ("k4w7qd2mzp: {tenant: acme}", "`tenant` is for keys that are declared here", "add `hash`"),
        ("k4w7qd2mzp: {expires: 2027-01-01}", "`expires` is for keys that are declared here", "add `hash`"),
        ("ci: {from_env: A, roles: [operater]}", "there is no role 'operater'; did you mean `operator`", "list"),
        ("ci: {from_env: A, expires: never}", "not a date such as 2027-01-31", "text"),
        ("ci: {from_env: INHOUSE_CI}", "variables of that prefix are settings", "text"),
        ("ci: {from_env: A, models: [chatt]}", "names 'chatt', which is no model", "did you mean `chat`"),
        ("static-1: {from_env: A}", "no key can be declared as 'static-1'", "another kind"),
        ("ci: {from_env: A, nota: n}", "unknown key `nota`", "did you mean `note`"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_the_way_out(tmp_path: Path, keys: str, message: str, hint: str) -> None:
    with pytest.raises(StackError) as caught:
        stack(tmp_path, keys)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert caught.value.where == f"{tmp_path / 'inhouse.yaml'}:3"


@pytest.mark.parametrize("key", ["hash", "from_env"])
def test_a_key_that_is_pasted_in_place_of_its_hash_is_not_repeated(tmp_path: Path, key: str) -> None:
    """The message goes to terminals and logs."""
    with pytest.raises(StackError) as caught:
        stack(tmp_path, f"ci: {{{key}: sk-ih-abcdefghij-a-secret-by-mistake}}")
    assert f"keys.ci.{key}" in caught.value.message
    assert "secret" not in caught.value.message + (caught.value.hint or "")


def test_what_is_shown_describes_the_same_keys_again(tmp_path: Path) -> None:
    """`inhouse config show` can be pasted back, for declared keys and for limits of others."""
    before = stack(tmp_path, f"ci: {{hash: '{HASH}', expires: 2027-01-31}}\n  k4w7qd2mzp: {{models: [chat]}}")
    shown = render(read(tmp_path / "inhouse.yaml", environ={}, flags={}))
    assert Stack.model_validate(yaml.safe_load(shown)).keys == before.keys


def test_a_variable_declares_a_key(tmp_path: Path) -> None:
    """Without a file, as containers do it."""
    environ = {"INHOUSE_KEYS__CI__HASH": HASH, "INHOUSE_KEYS__CI__ROLES": "auditor developer"}
    spec = read(None, environ=environ, flags={}).stack.keys["ci"]
    assert (spec.hash, spec.roles) == (HASH, ["auditor", "developer"])


def test_moments() -> None:
    """A time without a zone is UTC; rendering and parsing again changes nothing."""
    assert parse_moment("1970-01-02") == 86400.0
    assert parse_moment("1970-01-02T01:00:00+01:00") == parse_moment("1970-01-02T00:00:00Z") == 86400.0
    assert render_moment(parse_moment("2027-01-31T12:30:00")) == "2027-01-31T12:30:00Z"
    for value in ("never", 5, True, None, "2027-02-30"):
        with pytest.raises(ValueError, match="not a date"):
            parse_moment(value)
