"""The smaller commands, `--help` everywhere, and the pages made from the commands."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inhouse import __version__
from inhouse.cli.reference import page

ROOT = Path(__file__).parents[2]
HEAVY = (
    "pydantic",
    "msgspec",
    "starlette",
    "httpx",
    "openai",
    "uvicorn",
    "yaml",
    "rich",
    "sqlite3",
    "xllamacpp",
    "torch",
)


def test_help_is_as_on_file(inhouse: Any) -> None:
    """Else: COLUMNS=80 inhouse --help | cat > tests/cli/help.txt"""
    done = inhouse("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "tests/cli/help.txt").read_text()


def test_help_is_quick(environment: dict[str, str]) -> None:
    """Under 0.3 s. Counted in processor time, which is the same on a busy machine; best of five."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "inhouse", "--help"], env=environment, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.3


def test_importing_the_commands_brings_in_nothing_heavy(environment: dict[str, str]) -> None:
    """Whatever a command needs, it imports itself."""
    code = f"import sys, inhouse.cli.commands as c; c.app_of(); print([one for one in {HEAVY} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


COMMANDS = ["serve", "chat", "keys", "keys create", "keys list", "keys revoke", "models", "models list", "version"]
COMMANDS += [
    "config",
    "config show",
    "config check",
    "config schema",
    "doctor hardware",
    "tenants",
    "tenants list",
    "usage",
    "fake-engine",
    "transformers-engine",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_examples(inhouse: Any, command: str) -> None:
    done = inhouse(*command.split(), "--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout
    assert f"inhouse {command}" in done.stdout.partition("Examples:")[2]


def test_the_reference_page_is_fresh() -> None:
    """Else: python -m inhouse.cli.reference > docs/reference/cli.md"""
    assert (ROOT / "docs/reference/cli.md").read_text() == page()


def test_version(inhouse: Any) -> None:
    assert inhouse("--version").stdout == f"inhouse {__version__}\n"
    assert f"inhouse    {__version__}\n" in inhouse("version").stdout
    facts = json.loads(inhouse("version", "--json").stdout)
    assert facts["inhouse"] == __version__
    assert set(facts) == {"inhouse", "build", "python", "xllamacpp", "platform"}


def test_an_unknown_command(inhouse: Any) -> None:
    done = inhouse("serv")
    assert done.returncode == 2
    assert "serve" in done.stderr


def test_completion_is_there(inhouse: Any) -> None:
    done = inhouse("--show-completion", "bash")
    assert "_INHOUSE_COMPLETE" in done.stdout


def test_models_of_a_running_gateway(inhouse: Any, gateway: Any) -> None:
    port = str(gateway.server_port)
    done = inhouse("models", INHOUSE_GATEWAY__PORT=port)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["MODEL", "ENGINE", "SOURCE", "STATE", "CONTEXT", "SLOTS"]
    assert rows[1] == ["alpha", "-", "-", "ready", "512", "3"]
    assert rows[2][:1] == ["beta"]
    listed = json.loads(inhouse("models", "list", "--json", "--base-url", gateway.url, "--api-key", "k").stdout)
    assert listed["running"] is True
    assert [model["model"] for model in listed["models"]] == ["alpha", "beta"]


def test_models_without_a_gateway_are_those_configured(inhouse: Any) -> None:
    """It says so, on standard error."""
    done = inhouse("models", INHOUSE_GATEWAY__PORT="1")
    assert done.returncode == 0
    assert "No gateway runs" in done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[1] == ["demo", "llamacpp", "demo", "not", "running", "4096", "-"]
    listed = json.loads(inhouse("models", "--json", INHOUSE_GATEWAY__PORT="1").stdout)
    assert (listed["running"], listed["models"][0]["state"]) == (False, "not running")


def test_models_at_a_named_address_must_be_there(inhouse: Any) -> None:
    done = inhouse("models", "--base-url", "http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing listens" in done.stderr


def test_config_check(inhouse: Any, tmp_path: Path) -> None:
    """`ok` and 0, or every mistake with its line and 2."""
    done = inhouse("config", "check")
    assert (done.returncode, done.stdout) == (0, "ok: no file, defaults: serves demo on http://127.0.0.1:8080/v1\n")
    (tmp_path / "inhouse.yaml").write_text("gateway:\n  prt: 1\nlog: {level: loud}\n")
    done = inhouse("config", "check")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: inhouse.yaml:2: unknown key `prt` in `gateway`\n"
        "  hint: did you mean `port`? expected form: a whole number from 0 to 65535\n"
        "error: inhouse.yaml:3: `log.level` is 'loud': not one of the choices\n"
        "  hint: expected one of debug, info, warning, error (default info)\n"
    )
    done = inhouse("config", "check", "--json")
    assert done.returncode == 2
    assert [problem["where"] for problem in json.loads(done.stdout)["problems"]] == ["inhouse.yaml:2", "inhouse.yaml:3"]


def test_config_check_of_an_engine_that_may_go_wrong(inhouse: Any, tmp_path: Path) -> None:
    """What the engine is in danger of is told, and is no mistake."""
    (tmp_path / "inhouse.yaml").write_text("models: {chat: {source: ./chat, engine: vllm, gpus: 2, threads: 8}}\n")
    done = inhouse("config", "check")
    assert done.returncode == 0
    assert "note: models.chat: split over several GPUs it needs a large /dev/shm" in done.stdout
    notes = json.loads(inhouse("config", "check", "--json").stdout)["notes"]
    assert {note["where"] for note in notes} == {"models.chat"}


def test_config_show(inhouse: Any) -> None:
    done = inhouse("config", "show", INHOUSE_GATEWAY__PORT="9000")
    assert done.stdout.startswith("# file: none\nmodels:\n  demo:\n")
    gateway = done.stdout.partition("\ngateway:\n")[2].partition("\nauth:\n")[0]
    assert [line.split() for line in gateway.splitlines() if line.split()[0] == "port:"] == [
        ["port:", "9000", "#", "INHOUSE_GATEWAY__PORT"]
    ]
    shown = json.loads(inhouse("config", "show", "--json").stdout)
    assert shown["gateway"]["request_bytes_max"] == 8 * 1024**2


def test_config_schema(inhouse: Any) -> None:
    assert json.loads(inhouse("config", "schema").stdout)["title"] == "inhouse.yaml"
