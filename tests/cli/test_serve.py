"""`inhouse serve`: from options to a stack, and what is printed as the gateway and its replicas report.

The gateway is a stand-in that reports by script; what is looked at is the command around it.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inhouse.cli.announce import Announcer
from inhouse.cli.serve import name_of
from inhouse.config import Stack
from inhouse.core import ReplicaReport
from inhouse.engines.cpu import Cpu
from inhouse.engines.hardware import look

STAND_IN = """
import sys, types
from inhouse.core import FetchReport, GatewayReport, KeyMinted, ReplicaReport

def serve(stack, *, environ, report):
    print(stack.model_dump_json(), file=sys.stderr)
    for one in {reports!r}:
        report(eval(one))
    return {code}

module = types.ModuleType("inhouse.gateway.server")
module.serve = serve
sys.modules[module.__name__] = module
from inhouse.cli.main import run
sys.argv[0] = "inhouse"
run()
"""
LISTENING = "GatewayReport('listening', 'http://127.0.0.1:8080', 0.2)"
READY = "ReplicaReport('demo', 'llamacpp', 'ready', 2, 4, 4096, 38 * 2**20, 0.42)"
WAIT = "sys.stdin.readline() and KeyMinted('k', 'k', 'k')"
MINTED = "KeyMinted('ih-abc-def', 'abc', '/s')"

Serve = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def serve(tmp_path: Path, environment: dict[str, str]) -> Serve:
    """Runs `inhouse serve` around a gateway that makes these reports."""

    def run(*args: str, reports: tuple[str, ...] = (), code: int = 0) -> subprocess.CompletedProcess[str]:
        script = STAND_IN.format(reports=reports, code=code)
        return subprocess.run(
            [sys.executable, "-c", script, "serve", *args],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=30,
            check=False,
        )

    return run


def test_a_first_start_prints_what_a_person_needs(serve: Serve) -> None:
    """Address, key, a request to paste, the chat command, what runs, how to serve a real model, how to stop."""
    loading = "ReplicaReport('demo', 'llamacpp', 'loading')"
    done = serve(reports=(MINTED, loading, LISTENING, READY))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "serves an OpenAI-compatible API at http://127.0.0.1:8080/v1" in lines[1]
    assert "  key      ih-abc-def" in lines
    assert "  chat     inhouse chat" in lines
    assert "  stop     Ctrl-C" in lines
    assert any("inhouse serve ./model.gguf" in line for line in lines)
    assert "  loading  demo …" in lines
    assert "  ready    demo: llamacpp, 2 threads, 4 slots of 4096 tokens, 38 MiB, loaded in 0.4 s" in lines


def test_a_faster_engine_that_could_be_built_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a real model on a CPU with more instructions than the package uses; never of the demo, nor of one that was
    built here, nor where the stack has decided."""
    here = replace(look(with_gpus=False), system="Linux x86_64", cpu=Cpu("new", 2, 2, ("AVX2", "AVX-512", "AMX")))
    monkeypatch.setattr("inhouse.engines.hardware.look", lambda with_gpus=True: here)
    models = {
        "demo": {"source": "demo"},
        "real": {"source": "./m.gguf"},
        "own": {"source": "./m.gguf", "engine_build": "package"},
    }

    def told(*ready: str, native: bool = False) -> list[str]:
        with Announcer(Stack(models=models), chat=["inhouse", "chat"], as_json=False) as announcer:  # type: ignore[arg-type]
            for model in ready:
                announcer(ReplicaReport(model, "llamacpp", "ready", 2, 4, 4096, native=native))
        return capsys.readouterr().out.splitlines()

    hint = "  faster   `inhouse engine build` makes an engine that uses AMX, AVX-512"
    assert told("real", "real").count(hint) == 1
    assert not any("engine build" in line for line in told("demo", "own"))
    (line,) = told("real", native=True)
    assert "built here" in line


def test_a_gpu_that_is_used_and_one_that_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It is named; one that lies idle is worth a build; a build that finds none is worth a warning, unless the stack
    keeps the model off GPUs."""
    here = replace(look(with_gpus=False), system="Linux x86_64", cpu=Cpu("old", 2, 2, ("AVX2",)))
    monkeypatch.setattr("inhouse.engines.hardware.look", lambda with_gpus=True: here)
    monkeypatch.setattr("inhouse.engines.gpus.nvidia_driver_runs", lambda: True)
    monkeypatch.setenv("INHOUSE_CACHE", str(tmp_path))

    def told(*engine_args: str, gpu: str = "") -> str:
        models = {"real": {"source": "./m.gguf", "engine_args": list(engine_args)}}
        with Announcer(Stack(models=models), chat=["inhouse", "chat"], as_json=False) as announcer:  # type: ignore[arg-type]
            announcer(ReplicaReport("real", "llamacpp", "ready", 2, 4, 4096, native=True, gpu=gpu))
        return capsys.readouterr().out

    assert "real: llamacpp, built here, on NVIDIA H200, 2 threads" in told(gpu="NVIDIA H200")
    assert "faster   `inhouse engine build --gpu` makes an engine that uses NVIDIA's GPU\n" in told()
    (tmp_path / "engines" / "llama.cpp-1.2-cuda-0").mkdir(parents=True)
    assert "an engine for GPUs lies here, and no GPU of its kind answers" in told()
    assert told("--device", "none").count("\n") == told(gpu="NVIDIA H200").count("\n") == 1


def test_one_of_several_replicas_is_named(serve: Serve) -> None:
    elsewhere = "ReplicaReport('chat', 'vllm', 'ready', endpoint='10.0.0.7:8000', slots=8)"
    assert (
        "  ready    10.0.0.7:8000 of chat: vllm, 8 slots" in serve(reports=(LISTENING, elsewhere)).stdout.splitlines()
    )


def test_the_request_to_paste_is_one_line_that_works(serve: Serve) -> None:
    """A shell splits it into the words that curl needs, key and JSON intact, however narrow the terminal."""
    (line,) = [line for line in serve(reports=(MINTED, LISTENING)).stdout.splitlines() if line.startswith("curl ")]
    words = shlex.split(line)
    assert words[:3] == ["curl", "-s", "http://127.0.0.1:8080/v1/chat/completions"]
    assert "Authorization: Bearer ih-abc-def" in words
    body = json.loads(words[words.index("-d") + 1])
    assert (body["model"], body["messages"][0]["role"]) == ("demo", "user")


def test_later_starts_take_the_key_from_the_environment(serve: Serve) -> None:
    """The key cannot be shown again; the request takes it from $INHOUSE_API_KEY, which the shell puts in."""
    out = serve(reports=(LISTENING,)).stdout
    assert '-H "Authorization: Bearer $INHOUSE_API_KEY"' in out
    assert "`inhouse keys create` makes another" in out


def test_without_keys_there_is_a_warning(serve: Serve) -> None:
    out = serve("--no-auth", reports=(LISTENING,)).stdout
    assert "  warning  keys are off" in out
    assert "Authorization" not in out


def test_the_chat_command_finds_this_very_gateway(serve: Serve) -> None:
    out = serve(
        "--port", "9000", "--state-dir", "a b", reports=("GatewayReport('listening', 'http://127.0.0.1:9000')",)
    ).stdout
    assert "  chat     inhouse chat --base-url http://127.0.0.1:9000/v1 --state-dir 'a b'\n" in out


def test_a_failed_load_says_why_and_what_next(serve: Serve) -> None:
    failed = "ReplicaReport('demo', 'llamacpp', 'failed', reason='not enough memory')"
    out = serve(reports=(LISTENING, failed)).stdout
    assert "  failed   demo: not enough memory\n" in out
    assert "told 503; it is tried again by itself" in out


def test_a_load_that_fails_again_for_the_same_reason(serve: Serve) -> None:
    """It is said once; another reason, or the same after it was ready, is said again."""
    failed, other = (f"ReplicaReport('demo', 'llamacpp', 'failed', reason='{why}')" for why in ("no room", "no file"))
    ready = "ReplicaReport('demo', 'llamacpp', 'ready')"
    out = serve(reports=(LISTENING, failed, failed, other, other, ready, other)).stdout
    assert [out.count(f"failed   demo: {why}\n") for why in ("no room", "no file")] == [1, 2]


def test_the_rest_of_a_life(serve: Serve) -> None:
    """Restart, download, drain, stop."""
    out = serve(
        reports=(
            "FetchReport('demo', 0, None)",
            *(f"FetchReport('demo', {step} * 2**20, 1000 * 2**20)" for step in range(0, 1001, 10)),
            "ReplicaReport('demo', 'llamacpp', 'restarting', reason='killed by signal 9')",
            "GatewayReport('draining', open_requests=2)",
            "GatewayReport('stopped')",
        )
    ).stdout
    assert out.count("fetching") == 11, "a line for each tenth, not for each report"
    assert "  fetching demo: 500 MiB of 1000 MiB (50 %)\n" in out
    assert "  restart  demo: killed by signal 9\n" in out
    assert "  stopping 2 answers still run; Ctrl-C again ends them\n" in out
    assert out.endswith("  stopped\n")


def test_on_a_terminal_a_line_turns_until_it_is_ready(terminal: Any, tmp_path: Path) -> None:
    """Loading and downloads turn on one line, cleared before anything is printed; the cursor is never hidden."""
    loading = "ReplicaReport('demo', 'llamacpp', 'loading')"
    fetch = "FetchReport('demo', 2**20, 4 * 2**20)"
    script = STAND_IN.format(reports=(LISTENING, fetch, WAIT, loading, WAIT, READY), code=0)
    (tmp_path / "s.py").write_text(script)
    screen = terminal("serve", run=("s.py",))
    screen.expect("⠋ fetching demo: 1 MiB of 4 MiB (25 %)")
    screen.expect("⠙ fetching")
    screen.type("\n")
    screen.expect("⠋ loading demo …")
    screen.type("\n")
    screen.expect("\r\x1b[2K  \x1b[1mready    \x1b[0mdemo: llamacpp")
    assert screen.ended() == 0
    assert "\x1b[?25l" not in screen.seen


def test_json_is_one_object_a_report(serve: Serve) -> None:
    out = serve("--json", reports=(MINTED, LISTENING, READY, "FetchReport('demo', 1, 2)")).stdout
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == ["key", "gateway", "replica", "fetch"]
    assert (events[0]["key"], events[1]["base_url"], events[2]["slots"]) == (
        "ih-abc-def",
        "http://127.0.0.1:8080/v1",
        4,
    )


def test_options_make_the_stack(serve: Serve, tmp_path: Path) -> None:
    done = serve(
        *("./some-model.Q4.gguf", "--slots", "2", "--context", "512", "--threads", "3", "--host", "::1", "--port", "0"),
        *("--engine-binary", "llama-server", "--state-dir", "s", "--log-level", "debug", "--no-auth"),
    )
    stack = json.loads(done.stderr)
    (spec,) = stack["models"].values()
    assert list(stack["models"]) == ["some-model.Q4"]
    assert (spec["source"], spec["engine_binary"]) == (str(tmp_path / "some-model.Q4.gguf"), "llama-server")
    assert (spec["slots"], spec["context"], spec["threads"]) == (2, 512, 3)
    assert (stack["gateway"]["host"], stack["gateway"]["port"]) == ("::1", 0)
    assert (stack["state_dir"], stack["log"]["level"], stack["auth"]["enabled"]) == (
        str(tmp_path / "s"),
        "debug",
        False,
    )


def test_the_exit_code_is_the_gateways(serve: Serve) -> None:
    assert serve(code=3).returncode == 3


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("llama",), "error: MODEL: `MODEL` is 'llama', which is no name of the catalogue"),
        (("--no-auth", "--host", "0.0.0.0"), "error: --no-auth: auth is off while the gateway listens on 0.0.0.0"),
        (("--port", "70000"), "error: --port: `--port` is 70000: too large"),
        (("--config", "nowhere.yaml"), "error: --config: there is no file `nowhere.yaml`"),
        (("--name", "x"), "needs MODEL"),
        (("--prot", "1"), "No such option: --prot"),
    ],
)
def test_wrong_use_is_exit_code_2(serve: Serve, args: tuple[str, ...], said: str) -> None:
    done = serve(*args)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_the_gateway_goes_on_when_nobody_reads(environment: dict[str, str], tmp_path: Path) -> None:
    """`inhouse serve | head -1`: the reader leaves, the gateway stays and ends in its own time."""
    for option in ("", " --json"):
        (tmp_path / "s.py").write_text(STAND_IN.format(reports=(LISTENING,) * 2000, code=7))
        command = f"({sys.executable} s.py serve{option} 2>errors; echo $? >code) | head -n 1"
        subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, env=environment, timeout=30, check=True, capture_output=True
        )
        assert (tmp_path / "code").read_text().strip() == "7", (tmp_path / "errors").read_text()[-500:]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("demo", "demo"),
        ("./a/gemma-3-1b-it-Q4_K_M.gguf", "gemma-3-1b-it-Q4_K_M"),
        ("hf://org/repo/sub/m.gguf@v1.0", "m"),
        ("/x/big-00001-of-00003.gguf", "big"),
        ("./my model (1).gguf", "my-model-1-"),
    ],
)
def test_a_model_is_called_like_its_file(source: str, name: str) -> None:
    assert name_of(source) == name
