"""Several engines behind one model name: found, watched, used up to their slots, failed over before the first token."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from rawhttp import ask, events, post, until

from fleet import Fakes, Load, Start, chat, stack, together
from inhouse.engines.table import ENGINES


def served(engine: Any) -> int:
    found: int = engine.stats()["requests"]
    return found


def test_requests_are_spread(fakes: Fakes, start: Start) -> None:
    """All slots of all engines are used at once, none beyond its own."""
    engines = fakes(3, slots=2, tokens_per_s=40, metrics_as="vllm", queue_max=0, full_status=400)
    gateway = start(stack(engines, "routing: {policy: least-load}", slots=2), ready=3)
    answers = together(gateway, [chat(f"{number}") for number in range(12)])
    assert [answer.status for answer in answers] == [200] * 12
    assert all(served(engine) >= 2 for engine in engines)


def test_an_engine_that_knows_the_model_by_another_name(fakes: Fakes, start: Start) -> None:
    """The client sees the public name only, streaming or not."""
    gateway = start(stack(fakes(1), "upstream_model: org/Some-Model"), ready=1)
    whole = ask(gateway, post(chat())).json
    assert whole["model"] == "demo"
    streamed = events(ask(gateway, post(chat(stream=True))).body)
    assert {event["model"] for event in streamed if event != "[DONE]"} == {"demo"}


@pytest.mark.parametrize(
    ("engine", "page"),
    [("vllm", "vllm"), ("vllm", "vllm-old"), ("sglang", "sglang"), ("tgi", "tgi"), ("tensorrt-llm", "trtllm"),
     ("llama-server", "llamacpp"), ("openai", "none")],
)  # fmt: skip
def test_each_kind_of_engine(fakes: Fakes, start: Start, engine: str, page: str) -> None:
    """It answers chats and texts, and embeddings where the engine makes them; else it says so."""
    gateway = start(stack(fakes(1, metrics_as=page), engine=engine), ready=1)
    assert ask(gateway, post(chat())).status == 200
    assert ask(gateway, post({"model": "demo", "prompt": "a"}, path="/v1/completions")).status == 200
    vectors = ask(gateway, post({"model": "demo", "input": ["a", "b"]}, path="/v1/embeddings"))
    if "embeddings" in ENGINES[engine].abilities:
        assert len(vectors.json["data"]) == 2
    else:
        assert (vectors.status, vectors.json["error"]["code"]) == (400, "unsupported_by_model")


def test_a_socket_and_slots_that_the_engine_tells(fakes: Fakes, start: Start, tmp_path: Path) -> None:
    """llama-server says how many slots and how much context it has."""
    path = tmp_path / "e.sock"
    fakes(1, socket=path, slots=3, context_tokens=3 * 777)
    gateway = start(stack([f"unix:{path}"], engine="llama-server", slots=None), ready=1)
    model = gateway.get("/v1/models")["data"][0]
    assert (model["slots"], model["context"]) == (3, 777)
    assert ask(gateway, post(chat())).status == 200


@pytest.mark.parametrize(
    "fault",
    [*({"error_rate": 1, "error_status": status} for status in (500, 503, 429, 404)), {"garbage_rate": 1},
     {"refuse_rate": 0.7}],
    ids=lambda fault: "-".join(f"{name}-{value}" for name, value in fault.items()),
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_one_of_two_fails(fakes: Fakes, start: Start, fault: dict[str, Any], stream: bool) -> None:
    """Every request is answered: what failed before its first token goes on at the other engine."""
    good, bad = fakes(2, slots=4)
    more = "routing: {policy: round-robin, retries: {percent: 1000, floor_per_second: 1000}}"
    gateway = start(stack([good, bad], more), ready=2)
    bad.set(**fault)
    answers = [ask(gateway, post(chat(f"{number}", stream=stream))) for number in range(12)]
    assert [answer.status for answer in answers] == [200] * 12
    if stream:
        assert all(answer.body.endswith(b"data: [DONE]\n\n") for answer in answers)


def test_one_that_fails_much_is_left_out(fakes: Fakes, start: Start) -> None:
    """The log says which, why and for how long; so does the list of endpoints."""
    good, bad = fakes(2)
    retries, breaker = "{percent: 1000, floor_per_second: 1000}", "{failures: 1000}"
    gateway = start(
        stack([good, bad], f"routing: {{policy: round-robin, retries: {retries}, breaker: {breaker}}}"), ready=2
    )
    bad.set(error_rate=1, error_status=500)

    def told() -> list[str]:
        assert ask(gateway, post(chat())).status == 200
        return [line for line in gateway.log if "endpoint left out" in line]

    said = json.loads(until(told, "it is left out")[0])
    assert (said["level"], said["endpoint"]) == ("warning", bad.url.removeprefix("http://"))
    assert "of its requests failed" in said["reason"]
    assert 0 < said["for_s"] <= 10


def test_a_request_that_is_wrong_is_not_tried_elsewhere(fakes: Fakes, start: Start) -> None:
    """The client's own mistake is no failure of the engine."""
    engines = fakes(2)
    for engine in engines:
        engine.set(error_rate=1, error_status=400)
    gateway = start(stack(engines), ready=2)
    assert ask(gateway, post(chat())).status == 400
    assert sum(served(engine) for engine in engines) <= 1


def test_the_story_of_a_request_that_was_tried_again(fakes: Fakes, start: Start) -> None:
    """It names who could have had it, who failed and with what, and who answered."""
    good, bad = fakes(2)
    more = "routing: {policy: round-robin, retries: {percent: 1000, floor_per_second: 1000}}"
    gateway = start(stack([good, bad], more), ready=2)
    bad.set(error_rate=1, error_status=500)
    ids = [f"story-{number}" for number in range(2)]  # one of them goes to the bad one first
    for name in ids:
        assert ask(gateway, post(chat(), f"x-request-id: {name}")).status == 200
    stories = [gateway.get(f"/admin/requests/{name}")["requests"][0] for name in ids]
    steps = next(story["steps"] for story in stories if any(step["what"] == "failed" for step in story["steps"]))
    kinds = [step["what"] for step in steps if step["what"] in ("picked", "asked", "failed")]
    assert kinds == ["picked", "asked", "failed", "picked", "asked"]
    first, second = (step for step in steps if step["what"] == "picked")
    assert (first["endpoint"], second["endpoint"]) == tuple(
        engine.url.removeprefix("http://") for engine in (bad, good)
    )
    assert {candidate["endpoint"] for candidate in first["candidates"]} == {first["endpoint"], second["endpoint"]}
    assert [candidate["out"] for candidate in second["candidates"]] == ["", "tried already"]


def test_all_fail(fakes: Fakes, start: Start) -> None:
    """The client is told, with the engine's own failure, at once."""
    engines = fakes(2)
    gateway = start(stack(engines), ready=2)
    for engine in engines:
        engine.set(error_rate=1, error_status=500)
    answer = ask(gateway, post(chat()))
    assert (answer.status, answer.code) == (502, "engine_failed")


def test_killed_under_load(fakes: Fakes, start: Start) -> None:
    """kill -9 of one of three: no request that had no token yet is lost, and all goes on with the other two."""
    engines = fakes(3, slots=4, ttft_s=0.05)
    more = "routing: {policy: round-robin, retries: {percent: 1000, floor_per_second: 1000}}"
    gateway = start(stack(engines, more), ready=3)
    with Load(gateway, 16, chat(max_tokens=1)) as load:
        until(lambda: load.total > 50, "it runs")
        engines[0].process.kill()
        before = load.total
        until(lambda: load.total > before + 100, "it goes on")
    assert load.answers.keys() == {200}, (load.answers, load.odd[:3])
    gateway.wait_for(event="replica", state="unreachable")


def test_frozen_and_thawed(fakes: Fakes, start: Start) -> None:
    """A frozen engine is found by its health check and by its silence, its requests go on elsewhere; thawed it serves
    again."""
    engines = fakes(2, slots=2, ttft_s=0.02)
    more = "idle_timeout: 1 s, routing: {policy: round-robin, retries: {percent: 1000, floor_per_second: 1000}}"
    gateway = start(stack(engines, more, slots=2), ready=2)
    os.kill(engines[0].process.pid, signal.SIGSTOP)
    try:
        answers = together(gateway, [chat(f"{number}", max_tokens=1) for number in range(8)])
        assert [answer.status for answer in answers] == [200] * 8
        gateway.wait_for(event="replica", state="unreachable")
    finally:
        os.kill(engines[0].process.pid, signal.SIGCONT)
    gateway.wait_for(event="replica", state="ready")
    assert json.loads(ask(gateway, post(chat())).body)["choices"]


def test_nothing_listens(start: Start) -> None:
    """The gateway starts all the same and says what it misses."""
    gateway = start(stack(["http://127.0.0.1:1"]), ready=0)
    gateway.wait_for(event="replica", state="unreachable")
    answer = ask(gateway, post(chat()))
    assert (answer.status, answer.code) == (503, "model_unavailable")
    assert "endpoints list" in answer.json["error"]["message"]
