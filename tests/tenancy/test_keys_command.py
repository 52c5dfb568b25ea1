"""`inhouse keys` as people and scripts use it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from inhouse.cli.keys import app
from inhouse.errors import Conflict, NotFound, StackError
from inhouse.store.sqlite import SqliteStore
from inhouse.tenancy.auth import Authenticator


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INHOUSE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "state"


def keys(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=given)


def created(*arguments: str) -> dict[str, str]:
    made: dict[str, str] = json.loads(keys("create", "--json", *arguments).stdout)
    return made


def test_create_prints_the_key_alone_on_standard_output(state_dir: Path) -> None:
    """So that `KEY=$(inhouse keys create)` works; what a person should know goes to standard error."""
    result = keys("create", "--note", "laptop", "--expires", "30 d")
    assert result.exit_code == 0
    assert re.fullmatch(r"sk-ih-[a-z2-7]{10}-[\w-]{43}\n", result.stdout)
    assert "not shown again" in result.stderr
    with SqliteStore(state_dir) as store:
        (record,) = store.list()
        assert record.note == "laptop"
        assert record.expires_at == record.created_at + 30 * 86400
        assert Authenticator(store).identify(None, result.stdout.strip().encode()).key_id == record.id


def test_the_state_folder_is_that_of_the_flag_the_variable_or_the_file(tmp_path: Path) -> None:
    """A flag goes over the variable, the variable over the file."""
    keys("create", "--state-dir", "by-flag")
    keys("create")
    (tmp_path / "other.yaml").write_text("state_dir: by-file\n")
    assert CliRunner(env={"INHOUSE_STATE_DIR": None}).invoke(app, ["create", "-c", "other.yaml"]).exit_code == 0
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"by-flag", "state", "by-file"}


def test_list_shows_live_keys_and_never_a_secret() -> None:
    """Revoked ones are counted, and shown with --all; neither form contains a secret or a hash."""
    kept, gone = created("--note", "kept [bold]"), created("--note", "gone")
    keys("revoke", gone["id"])
    listed, everything, as_json = keys("list"), keys("list", "--all"), keys("list", "--all", "--json")
    assert kept["id"] in listed.stdout
    assert "kept [bold]" in listed.stdout
    assert gone["id"] not in listed.stdout
    assert "1 revoked or expired" in listed.stderr
    assert gone["id"] in everything.stdout
    assert [(key["note"], key["state"]) for key in json.loads(as_json.stdout)] == [
        ("kept [bold]", "live"),
        ("gone", "revoked"),
    ]
    for output in (listed.output, everything.output, as_json.output):
        assert kept["key"][17:] not in output
        assert "hash" not in output


def test_an_empty_list_says_how_to_begin() -> None:
    assert "`inhouse keys create` makes one" in keys("list").stdout
    assert json.loads(keys("list", "--json").stdout) == []


def test_revoke_can_be_said_twice() -> None:
    """The second time is no error and says that nothing changed."""
    key_id = created()["id"]
    assert "is revoked" in keys("revoke", key_id).stdout
    again = keys("revoke", key_id)
    assert again.exit_code == 0
    assert "revoked already" in again.stdout
    assert json.loads(keys("revoke", key_id, "--json").stdout)["state"] == "revoked"


def test_mistakes_are_told_as_what_they_are() -> None:
    """An unknown id and an impossible lifetime reach the top as errors of the house, which renders them."""
    assert isinstance(keys("revoke", "aaaaaaaaaa").exception, NotFound)
    for lifetime in ("soon", "0 s", "3 fortnights"):
        error = keys("create", "--expires", lifetime).exception
        assert isinstance(error, StackError)
        assert error.where == "--expires"


@pytest.mark.parametrize("command", [(), ("create",), ("list",), ("rotate",), ("revoke",), ("hash",)])
def test_help_has_examples(command: tuple[str, ...]) -> None:
    result = keys(*command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert "inhouse keys" in result.stdout


STACK = """
models: {chat: {source: demo}, big: {source: demo}}
tenants: {acme: {weight: 2}}
keys:
  ci: {from_env: CI_KEY, tenant: acme, roles: [operator], expires: 2100-01-31, note: nightly}
  over: {hash: "sha256:5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5", expires: 2001-01-01}
"""
RIGHTS = ("--tenant", "acme", "--role", "auditor", "--role", "developer", "--model", "chat")
LIMITS = ("--limit", "tokens_per_day=50000", "--limit", "money_per_month=99.5", "--limit", "concurrent_requests=2")


def test_a_key_with_rights_shows_them(tmp_path: Path) -> None:
    """What it was made with stands in the table and in the JSON, and the gateway takes it from there."""
    (tmp_path / "inhouse.yaml").write_text("models: {chat: {source: demo}}")
    made = created(*RIGHTS, *LIMITS, "--expires", "2100-01-31", "--note", "agency")
    (shown,) = json.loads(keys("list", "--json").stdout)
    assert {name: shown[name] for name in ("tenant", "roles", "models", "limits", "expires_at", "origin")} == {
        "tenant": "acme",
        "roles": ["auditor", "developer"],
        "models": ["chat"],
        "limits": {"tokens_per_day": 50000, "money_per_month": 99.5, "concurrent_requests": 2},
        "expires_at": "2100-01-31T00:00:00Z",
        "origin": "store",
    }
    assert made.items() >= shown.items()
    table = " ".join(keys("list").stdout.split())
    assert "auditor, developer chat 50,000 tokens/day, 99.50 EUR/month, 2 at once" in table


def test_a_column_without_content_is_left_out() -> None:
    created()
    assert keys("list").stdout.split("\n")[0].split() == ["ID", "NOTE", "TENANT", "MADE", "EXPIRES", "STATE"]


@pytest.mark.parametrize(
    ("options", "where", "told"),
    [
        (("--role", "operater"), "--role", "did you mean 'operator'"),
        (("--model", "chatt"), "--model", "did you mean 'chat'"),
        (("--limit", "token_per_day=5"), "--limit", "did you mean 'tokens_per_day'"),
        (("--limit", "tokens_per_day"), "--limit", "expected form: tokens_per_day=50000"),
        (("--tenant", "a b"), "--tenant", "a tenant's name"),
        (("--note", "two\nlines"), "--note", "one line"),
    ],
)
def test_a_wrong_option_names_itself_and_makes_nothing(
    tmp_path: Path, options: tuple[str, ...], where: str, told: str
) -> None:
    (tmp_path / "inhouse.yaml").write_text(STACK)
    error = keys("create", *options).exception
    assert isinstance(error, StackError)
    assert error.where == where
    assert told in error.message
    assert [key["id"] for key in json.loads(keys("list", "--json").stdout)] == ["ci"]


def test_models_are_not_compared_where_no_file_lists_them() -> None:
    """`inhouse serve MODEL` serves what no file names."""
    assert json.loads(keys("create", "--model", "gemma", "--json").stdout)["models"] == ["gemma"]


def test_a_tenant_that_the_file_does_not_name_is_remarked(tmp_path: Path) -> None:
    """It is allowed, for tenants need no entry; a typo is seen."""
    (tmp_path / "inhouse.yaml").write_text(STACK)
    result = keys("create", "--tenant", "acne")
    assert result.exit_code == 0
    assert "does not name the tenant 'acne'" in result.stderr
    assert "Did you mean 'acme'?" in result.stderr


def test_rotate_prints_the_new_key_alone() -> None:
    """Once, on standard output; how long the old one opens is said beside it, and shown in the list."""
    made = created("--note", "laptop")
    result = keys("rotate", made["id"], "--grace", "1 h")
    assert re.fullmatch(rf"sk-ih-{made['id']}-[\w-]{{43}}\n", result.stdout)
    assert result.stdout.strip() != made["key"]
    assert "The old one is accepted until" in result.stderr
    assert "live, old until" in keys("list").stdout
    assert json.loads(keys("list", "--json").stdout)[0]["old_accepted_until"] is not None
    assert "refused within 2 seconds" in keys("rotate", made["id"], "--grace", "0").stderr
    assert json.loads(keys("list", "--json").stdout)[0]["old_accepted_until"] is None
    keys("revoke", made["id"])
    assert isinstance(keys("rotate", made["id"]).exception, Conflict)


def test_declared_keys_are_listed_with_their_origin(tmp_path: Path) -> None:
    """Before those of the store, without their text or hash; the variable need not be set for it."""
    (tmp_path / "inhouse.yaml").write_text(STACK)
    made = created()
    shown = json.loads(keys("list", "--json").stdout)
    assert [(key["id"], key["origin"], key["reference"]) for key in shown] == [
        ("ci", "inhouse.yaml", "from_env CI_KEY"),
        (made["id"], "store", None),
    ]
    assert shown[0]["created_at"] is None
    everything = keys("list", "--all").stdout
    assert "DECLARED BY" in everything
    assert "5994471a" not in everything
    assert [key["id"] for key in json.loads(keys("list", "--json", "--tenant", "acme").stdout)] == ["ci"]


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_a_declared_key_is_changed_in_its_file(tmp_path: Path, command: str) -> None:
    (tmp_path / "inhouse.yaml").write_text(STACK)
    error = keys(command, "ci").exception
    assert isinstance(error, Conflict)
    assert "declared in inhouse.yaml (from_env CI_KEY); change or remove `keys.ci` there" in error.message


def test_limits_of_the_file_and_of_the_key_are_shown_as_they_hold(state_dir: Path, tmp_path: Path) -> None:
    """The tighter of each."""
    made = created("--limit", "tokens_per_day=100", "--limit", "requests_per_minute=9", "--model", "a", "--model", "b")
    limits = "{tokens_per_day: 500, requests_per_minute: 3, concurrent_requests: 1}"
    (tmp_path / "inhouse.yaml").write_text(
        f"models: {{b: {{source: demo}}}}\nkeys: {{{made['id']}: {{models: [b], limits: {limits}}}}}"
    )
    (shown,) = json.loads(keys("list", "--json").stdout)
    assert shown["limits"] == {"tokens_per_day": 100, "requests_per_minute": 3, "concurrent_requests": 1}
    assert shown["models"] == ["b"]


def test_the_hash_of_a_key_is_taken_from_standard_input() -> None:
    """What it prints declares the key; a text that is no key is refused without being repeated."""
    known = "sha256:5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5\n"
    assert keys("hash", given="12345678901234567890\n").stdout != known
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", keys("hash", given="a-key-of-sixteen-or-more\n").stdout)
    error = keys("hash", given="hunter2\n").exception
    assert isinstance(error, StackError)
    assert "hunter2" not in error.message
    assert keys("hash", "a-key-in-an-argument").exit_code == 2
