"""`inhouse keys` as people and scripts use it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from inhouse.cli.keys import app
from inhouse.errors import NotFound, StackError
from inhouse.store.sqlite import SqliteStore
from inhouse.tenancy.auth import Authenticator


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INHOUSE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "state"


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


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


@pytest.mark.parametrize("command", [(), ("create",), ("list",), ("revoke",)])
def test_help_has_examples(command: tuple[str, ...]) -> None:
    result = keys(*command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert "inhouse keys" in result.stdout
