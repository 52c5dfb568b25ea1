"""Several models on one machine, and memory for only some of them: the demo model under many names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from rawhttp import (
    Client,
    Start,
    ask,
    chat,
    descendants,
    events,
    head,
    in_service,
    long_chat,
    post,
    until,
    waiting,
)

import engines
from inhouse.store.sqlite import SqliteStore
from inhouse.tenancy import keys
from serving import KEY, Gateway

ONE_FITS = """
memory: {budget: 100 MiB}
models:
  a: {source: demo, slots: 1, threads: 1, memory: 80 MiB}
  b: {source: demo, slots: 1, threads: 1, memory: 80 MiB}
"""


def of(model: str, **more: object) -> bytes:
    return post({**chat(**more), "model": model})


def figure(gateway: Gateway, name: str, **labels: str) -> float:
    """A figure of /metrics; 0 where there is no such series."""
    with urllib.request.urlopen(gateway.url + "/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    series = name + ("{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else "")
    return next((float(line.split()[1]) for line in lines if line.split()[0] == series), 0.0)


def state(gateway: Gateway, model: str) -> str:
    listed = gateway.get("/v1/models")["data"]
    return next(str(entry["state"]) for entry in listed if entry["id"] == model)


def engines_of(gateway: Gateway) -> int:
    return len(gateway.engine_pids())


def test_room_for_one_of_two(start: Start) -> None:
    """The first is loaded at the start. A request to the other is held while the first makes room, and answered;
    never are both in memory, and each comes back when it is asked for."""
    gateway = start(ONE_FITS)
    assert (state(gateway, "a"), state(gateway, "b")) == ("ready", "asleep")
    assert ask(gateway, head("GET", "/health", key=None)).json["models"] == {"a": "ready", "b": "asleep"}
    for model, other in (("b", "a"), ("a", "b"), ("b", "a")):
        answer = ask(gateway, of(model))
        assert (answer.status, answer.json["model"]) == (200, model)
        assert (state(gateway, model), state(gateway, other)) == ("ready", "asleep")
        assert engines_of(gateway) == 1
    assert figure(gateway, "inhouse_memory_budget_bytes") == 100 << 20
    assert figure(gateway, "inhouse_memory_planned_bytes", model="b") == 80 << 20
    assert figure(gateway, "inhouse_memory_planned_bytes", model="a") == 0
    assert figure(gateway, "inhouse_model_loads_total", model="b") == 2
    assert figure(gateway, "inhouse_model_sleeps_total", model="a", reason="room") == 2
    assert figure(gateway, "inhouse_model_resident_bytes", model="b") > 10 << 20
    gateway.wait_for(event="replica", model="a", state="asleep")


def test_the_others_requests_never_cost_a_running_answer(start: Start) -> None:
    """A model that answers stays. Who asks for another meanwhile waits, and is told what is in the way if it does not
    want to wait for long; once the answer is over, those who still wait are served."""
    gateway = start(ONE_FITS)
    with Client(gateway) as busy, Client(gateway) as patient:
        busy.send(post({**long_chat(stream=True), "model": "a"}))
        busy.read_until(b"data: ")
        patient.send(of("b"))
        until(lambda: waiting(gateway, "b") == 1, "it waits")
        refused = ask(gateway, of("b", stream=True).replace(b"\r\n\r\n", b"\r\nPrefer: wait=1\r\n\r\n", 1))
        assert (refused.status, refused.code) == (503, "memory_full")
        message = refused.json["error"]["message"]
        assert "needs 80 MiB of the 100 MiB" in message
        assert "'a' (80 MiB) is in use" in message
        assert int(refused.headers["retry-after"]) >= 1
        assert state(gateway, "a") == "ready"
        assert b"[DONE]" in busy.answer_body()
        assert patient.answer().status == 200
    assert (state(gateway, "a"), state(gateway, "b")) == ("asleep", "ready")


def test_a_stream_that_waits_hears_what_is_done(start: Start, tmp_path: Path) -> None:
    """Comments tell that the model is being loaded; the answer follows in the same stream."""
    gate = tmp_path / "gate"
    gateway = start(
        f"models: {{a: {{source: demo, load: on_first_use, queue_notice_every: 100ms, threads: 1, "
        f"engine_binary: {engines.late(tmp_path, gate)}}}}}",
        ready=False,
    )
    gateway.wait_for(event="replica", model="a", state="asleep")
    assert ask(gateway, head("GET", "/health", key=None)).status == 200
    assert engines_of(gateway) == 0
    with Client(gateway) as client:
        client.send(of("a", stream=True))
        told = client.read_until(b"model=loading")
        assert b": queued position=1" in told
        assert b"data: " not in told
        gate.touch()
        assert events(client.answer_body())[-1] == "[DONE]"
    assert state(gateway, "a") == "ready"


def test_a_model_that_idles(start: Start) -> None:
    """It sleeps after its time, its process is gone and its memory with it; a count of tokens wakes it as well."""
    gateway = start("models: {a: {source: demo, sleep_after: 300ms, threads: 1}}")
    (pid,) = descendants(gateway.process.pid)
    gateway.wait_for(event="replica", model="a", state="asleep")
    until(lambda: not Path(f"/proc/{pid}").exists(), "its process ends")
    assert figure(gateway, "inhouse_model_sleeps_total", model="a", reason="idle") == 1
    counted = ask(gateway, post({"model": "a", "content": "hello"}, path="/tokenize"))
    assert (counted.status, len(counted.json["tokens"]) > 0) == (200, True)
    gateway.wait_for(event="replica", model="a", state="asleep")
    assert ask(gateway, of("a")).status == 200


def test_embeddings_wake_it(start: Start) -> None:
    """They wait at a door of their own, which counts as well."""
    gateway = start("models: {a: {source: demo, load: on_first_use, threads: 1}}", ready=False)
    gateway.wait_for(event="replica", model="a", state="asleep")
    answer = ask(gateway, post({"model": "a", "input": ["one", "two"]}, path="/v1/embeddings"))
    assert (answer.status, len(answer.json["data"])) == (200, 2)


def test_models_that_can_never_fit(start: Start) -> None:
    """They are refused at once, with the numbers, beside others that serve; pinned ones have taken their room for
    good. What is planned is what the header says, where nothing is set."""
    gateway = start(
        """
        memory: {budget: 500 MiB}
        models:
          pinned: {source: demo, pinned: true, memory: 200 MiB, threads: 1}
          fits: {source: demo, slots: 1, threads: 1, prompt_cache: 64 MiB}
          large: {source: demo, slots: 2, load: on_first_use}
        """,
        ready=False,
    )
    failed = gateway.wait_for(event="replica", model="large", state="failed")
    until(lambda: {state(gateway, model) for model in ("pinned", "fits")} == {"ready"}, "the others are ready")
    assert "the budget is 500 MiB, of which pinned models hold 200 MiB" in failed["reason"]
    refused = ask(gateway, of("large"))
    assert (refused.status, refused.code) == (503, "model_does_not_fit")
    assert "raise `memory.budget`" in refused.json["error"]["message"]
    listed = {entry["id"]: entry for entry in gateway.get("/v1/models")["data"]}
    assert "it needs" in listed["large"]["reason"]
    planned = figure(gateway, "inhouse_memory_planned_bytes", model="fits")
    assert figure(gateway, "inhouse_model_resident_bytes", model="fits") < planned < 300 << 20
    for model in ("pinned", "fits"):
        assert ask(gateway, of(model)).status == 200


def test_slots_that_do_not_fit(start: Start) -> None:
    """Where nothing is set, there are as many slots as the memory has room for; their contexts stay as long."""
    gateway = start("{memory: {budget: 90 MiB}, models: {a: {source: demo, prompt_cache: 0, threads: 1}}}")
    ready = gateway.events[-1]
    assert (ready["slots"], ready["context_tokens"]) == (2, 2048)
    assert ask(gateway, of("a")).status == 200


def test_a_model_without_embeddings(start: Start) -> None:
    """It generates as before, takes less memory, and says that it makes none."""
    gateway = start(
        "models: {a: {source: demo, embeddings: false, threads: 1}, b: {source: demo, threads: 1}}", ready=False
    )
    until(lambda: {state(gateway, "a"), state(gateway, "b")} == {"ready"}, "both are ready")
    assert ask(gateway, of("a")).status == 200
    refused = ask(gateway, post({"model": "a", "input": "one"}, path="/v1/embeddings"))
    assert (refused.status, "`embeddings` are off" in refused.json["error"]["message"]) == (400, True)
    planned = [figure(gateway, "inhouse_memory_planned_bytes", model=name) for name in ("a", "b")]
    assert planned[0] < planned[1]


def test_a_model_that_does_not_load(start: Start, tmp_path: Path) -> None:
    """Whoever asked for it is told why, without a folder of ours; operators see the engine's last lines; it is tried
    again by itself, ever more rarely, and once the fault is mended it serves."""
    gate = tmp_path / "gate"
    gateway = start(
        "models: {a: {source: demo, load: on_first_use, threads: 1, "
        f"engine_binary: {engines.broken(tmp_path, gate)}}}}}",
        ready=False,
    )
    gateway.wait_for(event="replica", model="a", state="asleep")
    answer = ask(gateway, of("a"))
    assert (answer.status, answer.code) == (503, "model_failed")
    message = answer.json["error"]["message"]
    assert "exit status 9: error: the moon is full; it is tried again in" in message
    assert int(answer.headers["retry-after"]) >= 1
    assert gateway.get("/v1/models")["data"][0]["reason"] == "exit status 9: error: the moon is full"
    command = [sys.executable, "-m", "inhouse", "models", "list", "--base-url", gateway.base_url, "--api-key", KEY]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert listed[0].split()[-1] == "WHY"
    assert listed[1].endswith("exit status 9: error: the moon is full")
    with SqliteStore(gateway.state_dir) as store:
        operator = keys.mint(
            store, note="test", rights=keys.Rights("default", frozenset({"operator"})), now=time.time()
        ).key
    endpoints = ask(gateway, head("GET", "/admin/endpoints", key=operator)).json["endpoints"]
    assert "error: the moon is full" in endpoints[0]["log"]
    gateway.wait_for(event="replica", model="a", state="failed")
    gate.touch()
    gateway.wait_for(event="replica", model="a", state="ready")
    assert ask(gateway, of("a")).status == 200
    assert gateway.get("/v1/models")["data"][0]["reason"] is None


def test_an_engine_that_is_killed_again_and_again(start: Start) -> None:
    """Each end is followed by a start, until it has ended too often: then it is left alone for a while, those who ask
    are told so at once, and it comes back by itself."""
    gateway = start("models: {a: {source: demo, threads: 1, crashes_max: 3, crash_pause: 2s}}")
    for _ in range(2):
        os.kill(gateway.engine_pids()[-1], signal.SIGKILL)
        gateway.wait_for(event="replica", state="restarting")
        gateway.wait_for(event="replica", state="ready")
    killed_s = time.monotonic()
    os.kill(gateway.engine_pids()[-1], signal.SIGKILL)
    failed = gateway.wait_for(event="replica", state="failed")
    assert "it ended 3 times in a row" in failed["reason"]
    answer = ask(gateway, of("a"))
    assert (answer.status, answer.code) == (503, "model_failed")
    assert "each within 60 s of being ready, the last time killed by signal 9" in answer.json["error"]["message"]
    assert engines_of(gateway) == 0
    gateway.wait_for(event="replica", state="ready")
    assert time.monotonic() - killed_s >= 2.0
    still = ask(gateway, of("a"))
    assert still.status == 200


def test_killed_while_many_models_take_turns(start: Start) -> None:
    """Engines die while models make room for each other: every request is answered or told why, and in the end all of
    it is free and every model serves."""
    names = ("a", "b", "c")
    lines = "".join(f"  {name}: {{source: demo, slots: 1, threads: 1, memory: 80 MiB}}\n" for name in names)
    gateway = start(f"memory: {{budget: 170 MiB}}\nmodels:\n{lines}")
    told: list[tuple[int, str]] = []
    for turn in range(9):
        clients = [Client(gateway) for _ in names]
        for client, name in zip(clients, names, strict=True):
            client.send(of(name, max_tokens=20))
        if turn % 3 == 1:
            os.kill(gateway.engine_pids()[-1], signal.SIGKILL)
        for client in clients:
            answer = client.answer()
            told.append((answer.status, "" if answer.status == 200 else answer.code))
            client.close()
        assert engines_of(gateway) <= 2
    assert sum(status == 200 for status, _ in told) >= 18
    # the last of the engines may still load when it is killed: its model has failed then, until it is tried again
    assert {code for _, code in told} <= {"", "engine_failed", "model_loading", "model_failed", "memory_full"}
    for name in names:
        assert ask(gateway, of(name)).status == 200
    until(lambda: sum(in_service(gateway, name) for name in names) == 0, "nothing is left in service")
