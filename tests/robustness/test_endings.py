"""How it ends: Ctrl-C, SIGTERM, twice, by force; and starts that come to nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rawhttp import (
    Client,
    Start,
    ask,
    chat,
    descendants,
    events,
    frozen,
    head,
    in_service,
    is_alive,
    long_chat,
    post,
    still_works,
    until,
    waiting,
)

import engines
from serving import Gateway


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files of the gateways in this test."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def ended(gateway: Gateway, number: int) -> tuple[int, float]:
    """Exit status, and the seconds it took."""
    began_s = time.monotonic()
    gateway.process.send_signal(number)
    status = gateway.process.wait(timeout=60)
    return status, time.monotonic() - began_s


def streaming(gateway: Gateway, **fields: Any) -> Client:
    client = Client(gateway)
    client.send(post({**long_chat(stream=True), **fields}))
    client.read_until(b"data: ")
    return client


def last_event(client: Client) -> Any:
    return events(b"data: " + client.answer_body())[-1]


def test_ctrl_c(start: Start, temporary: Path) -> None:
    """Open streams are told by a terminal event, others and those who wait by a 503; all within 3 s, with exit code 0,
    no process and no file left behind."""
    gateway = start("models: {demo: {source: demo, slots: 2, threads: 1}}")
    engines_running = descendants(gateway.process.pid)
    assert list(temporary.iterdir())
    stream, whole, waiter, idle, half = streaming(gateway), *(Client(gateway) for _ in range(4))
    whole.send(post(long_chat()))
    until(lambda: in_service(gateway) == 2, "both slots are taken")
    waiter.send(post(chat()))
    until(lambda: waiting(gateway) == 1, "one waits")
    half.send(post(chat())[:-10])
    status, took_s = ended(gateway, signal.SIGINT)
    assert (status, took_s < 3.0) == (0, True), took_s
    assert last_event(stream)["error"]["code"] == "shutting_down"
    for client in (whole, waiter, half):
        answer = client.answer()
        assert (answer.status, answer.code) == (503, "shutting_down")
        assert "retry-after" in answer.headers
    for client in (stream, whole, waiter, idle, half):
        client.close()
    until(lambda: not any(map(is_alive, engines_running)), "the engine is gone")
    assert not list(temporary.iterdir())
    assert gateway.wait_for(event="gateway", state="draining")["open_requests"] == 4
    gateway.wait_for(event="gateway", state="stopped")
    assert not [line for line in gateway.log if "Traceback" in line]


def test_ctrl_c_with_clients_that_do_not_read_and_an_engine_that_hangs(start: Start, tmp_path: Path) -> None:
    """Nobody can hold it up."""
    binary = engines.flood(tmp_path, tmp_path / "progress")
    gateway = start(f"models: {{demo: {{source: demo, engine_binary: {binary}}}}}")
    stalled = Client(gateway, receive_buffer=4096)
    stalled.send(post(chat(stream=True, max_tokens=64_000)))
    stalled.read_until(b"data: ")
    running = descendants(gateway.process.pid)
    with frozen(running[-1]):
        status, took_s = ended(gateway, signal.SIGINT)
    assert (status, took_s < 5.0) == (0, True), took_s
    until(lambda: not any(map(is_alive, running)), "the engine is gone")
    stalled.close()


def test_ctrl_c_while_it_loads(start: Start, tmp_path: Path) -> None:
    binary = engines.late(tmp_path, tmp_path / "gate")
    gateway = start(f"models: {{demo: {{source: demo, engine_binary: {binary}, load_wait: 60s}}}}", ready=False)
    gateway.wait_for(event="replica", state="loading")
    until(lambda: len(descendants(gateway.process.pid)) == 2, "the engine runs")
    running = descendants(gateway.process.pid)
    with Client(gateway) as client:
        client.send(post(chat()))
        until(lambda: waiting(gateway) == 1, "it waits")
        status, took_s = ended(gateway, signal.SIGINT)
        assert (status, took_s < 3.0) == (0, True), took_s
        assert client.answer().status == 503
    until(lambda: not any(map(is_alive, running)), "the engine is gone")


def test_sigterm(start: Start, temporary: Path) -> None:
    """Open answers and those who wait come to their end; who comes later, on whatever connection, is told 503."""
    gateway = start("models: {demo: {source: demo, slots: 1, threads: 1}}\ngateway: {drain: 60s}")
    stream, waiter, kept = streaming(gateway, max_tokens=1000), Client(gateway), Client(gateway)
    waiter.send(post(chat()))
    kept.send(post(chat(model="no-such")))
    assert kept.answer().status == 404
    until(lambda: waiting(gateway) == 1, "one waits")
    gateway.process.send_signal(signal.SIGTERM)
    gateway.wait_for(event="gateway", state="draining")
    late = Client(gateway)
    for client in (kept, late):
        client.send(post(chat()))
        refused = client.answer()
        assert (refused.status, refused.code) == (503, "shutting_down")
        assert int(refused.headers["retry-after"]) >= 1
        client.send(head("GET", "/health", key=None))
        assert client.answer().status == 503
    assert last_event(stream) == "[DONE]"
    assert waiter.answer().status == 200
    assert gateway.process.wait(timeout=60) == 0
    assert kept.is_closed()
    for client in (stream, waiter, kept, late):
        client.close()
    assert not list(temporary.iterdir())


def test_sigterm_and_an_answer_that_takes_longer_than_the_drain(start: Start) -> None:
    """It is told why it ends."""
    gateway = start("models: {demo: {source: demo, slots: 1, threads: 1}}\ngateway: {drain: 500ms}")
    stream = streaming(gateway)
    with frozen(descendants(gateway.process.pid)[0]):
        status, _ = ended(gateway, signal.SIGTERM)
    assert status == 0
    assert last_event(stream)["error"]["code"] == "shutting_down"
    stream.close()


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal(start: Start, second: signal.Signals) -> None:
    """It does not wait for anything any more; the engine ends with it all the same."""
    gateway = start("models: {demo: {source: demo, slots: 1, threads: 1}}\ngateway: {drain: 60s}")
    running = descendants(gateway.process.pid)
    with streaming(gateway):
        gateway.process.send_signal(signal.SIGTERM)
        gateway.wait_for(event="gateway", state="draining")
        status, took_s = ended(gateway, second)
    assert (status, took_s < 3.0) == (128 + second, True)
    until(lambda: not any(map(is_alive, running)), "the engine is gone", within_s=2.0)


@pytest.mark.parametrize("own_binary", [False, True])
def test_killed(start: Start, tmp_path: Path, own_binary: bool) -> None:
    """kill -9 of the gateway leaves no engine behind, of one model or of two, busy or not, after 2 s."""
    own = f", engine_binary: {engines.endless(tmp_path)}" if own_binary else ""
    model = f"{{source: demo, slots: 1, threads: 1{own}}}"
    gateway = start(f"models: {{demo: {model}, other: {model}}}")
    gateway.wait_for(event="replica", state="ready")
    running = descendants(gateway.process.pid)
    assert len(running) == (4 if own_binary else 2)
    with streaming(gateway):
        gateway.process.kill()
        gateway.process.wait(timeout=60)
        until(lambda: not any(map(is_alive, running)), "the engines are gone", within_s=2.0)


def test_lifeline_itself_is_killed(start: Start, tmp_path: Path) -> None:
    """What stands between us and an own binary takes the engine along; then both are started anew."""
    gateway = start(
        f"models: {{demo: {{source: demo, slots: 1, threads: 1, engine_binary: {engines.endless(tmp_path)}}}}}"
    )
    lifeline, engine = descendants(gateway.process.pid)
    os.kill(lifeline, signal.SIGKILL)
    until(lambda: not is_alive(engine), "the engine is gone", within_s=2.0)
    gateway.wait_for(event="replica", state="ready")
    still_works(gateway)


def test_nobody_reads_what_it_logs(start: Start, tmp_path: Path) -> None:
    """A full pipe on standard error holds up neither answers nor the end."""
    read, write = os.pipe()
    config = tmp_path / "inhouse.yaml"
    config.write_text("models: {demo: {source: demo, slots: 1, threads: 1}}\nauth: {enabled: false}")
    command = [sys.executable, "-m", "inhouse", "serve", "--json", "--port", "0", "--config", str(config)]
    with subprocess.Popen(
        [*command, "--state-dir", str(tmp_path / "s")], stdout=subprocess.PIPE, stderr=write, text=True
    ) as process:
        assert process.stdout is not None
        gateway = Gateway(process, tmp_path / "s")
        try:
            while not gateway.url:
                gateway.url = json.loads(process.stdout.readline()).get("url", "")
            fill(write)
            for _ in range(20):
                assert ask(gateway, post(chat(model="no-such"))).status == 404
            process.send_signal(signal.SIGINT)
            while "draining" not in process.stdout.readline():
                pass
            status, took_s = ended(gateway, signal.SIGINT)
            assert (status in (0, 130), took_s < 3.0) == (True, True)
        finally:
            process.kill()
            os.close(read)
            os.close(write)


def fill(pipe: int) -> None:
    """Writes until there is no room for more."""
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe, b"x" * 4096)
    os.set_blocking(pipe, True)


def _start(tmp_path: Path, stack: str) -> subprocess.CompletedProcess[str]:
    config = tmp_path / "inhouse.yaml"
    config.write_text(stack)
    command = [sys.executable, "-m", "inhouse", "serve", "--json", "--config", str(config)]
    return subprocess.run(
        [*command, "--state-dir", str(tmp_path / "s")], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_port_is_taken(tmp_path: Path) -> None:
    """Said with port and way out, exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = _start(tmp_path, f"gateway: {{port: {port}}}")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert "--port" in done.stderr


@pytest.mark.parametrize(
    ("content", "said"), [(None, "there is no file"), (b"not a model at all", "nothing.gguf"), (b"", "nothing.gguf")]
)
def test_a_model_file_that_is_missing_or_no_model(tmp_path: Path, content: bytes | None, said: str) -> None:
    """Said with the path, exit code 1, before anything listens."""
    file = tmp_path / "nothing.gguf"
    if content is not None:
        file.write_bytes(content)
    done = _start(tmp_path, f"models: {{a: {{source: {file}}}}}\ngateway: {{port: 0}}")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert said in done.stderr
    assert str(file) in done.stderr
    assert "listening" not in done.stdout


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    """Said with both files, exit code 2."""
    (tmp_path / "cert.pem").write_text("nothing")
    for cert in ("cert.pem", "missing.pem"):
        done = _start(tmp_path, f"gateway: {{port: 0, tls_cert: {tmp_path}/{cert}, tls_key: {tmp_path}/key.pem}}")
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
        assert cert in done.stderr
