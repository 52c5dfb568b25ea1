"""Answers that are asked for in one piece, of engines that notice a hang-up without a stream."""

from __future__ import annotations

import json

from rawhttp import Client, ask, free_within_a_second, gauge, post, until

from fleet import Fakes, Start, chat, seen, stack


def test_a_whole_answer_goes_on_as_the_engine_wrote_it(fakes: Fakes, start: Start) -> None:
    """Only the model's name is the public one; its tokens are counted like those of a stream."""
    (engine,) = fakes(1)
    gateway = start(stack([engine], "upstream_model: org/Some-Model"), ready=1)
    answer = ask(gateway, post(chat(max_tokens=5), "x-request-id: whole"))
    document = answer.json
    assert (document["object"], document["model"]) == ("chat.completion", "demo")
    assert document["usage"]["completion_tokens"] == 5
    assert document["choices"][0]["message"]["content"]
    (story,) = gateway.get("/admin/requests/whole")["requests"]
    assert story["tokens"]["completion"] == 5


def test_a_long_silence_before_a_whole_answer_is_no_fault(fakes: Fakes, start: Start) -> None:
    """Neither the engine's idle timeout nor the limits between tokens count: there are none to be heard."""
    (engine,) = fakes(1, ttft_s=2.5)
    limits = "idle_timeout: 1 s, first_token_timeout: 1 s, token_gap_timeout: 1 s"
    gateway = start(stack([engine], limits), ready=1)
    assert ask(gateway, post(chat())).status == 200
    assert ask(gateway, post(chat(stream=True))).status == 504


def test_the_total_limit_ends_it(fakes: Fakes, start: Start) -> None:
    """The engine is told by the connection that ends, and has room again."""
    (engine,) = fakes(1, ttft_s=30)
    gateway = start(stack([engine], "total_timeout: 1 s"), ready=1)
    answer = ask(gateway, post(chat()))
    assert (answer.status, answer.code) == (504, "total_timeout")
    until(lambda: engine.stats()["running"] == 0, "the engine has stopped")


def test_a_hang_up_reaches_the_engine(fakes: Fakes, start: Start) -> None:
    """Within a second, though nothing was streamed."""
    (engine,) = fakes(1, ttft_s=30)
    gateway = start(stack([engine]), ready=1)
    with Client(gateway) as client:
        client.send(post(chat()))
        until(lambda: engine.stats()["running"] == 1, "the engine is at it")
    free_within_a_second(gateway)
    until(lambda: engine.stats()["running"] == 0, "the engine has stopped")
    assert gauge(gateway, "inhouse_requests_in_service") == 0


def test_an_engine_that_dies_before_its_answer(fakes: Fakes, start: Start) -> None:
    """The client has seen nothing, so the whole request goes on at another."""
    engines = fakes(2, ttft_s=1)
    more = "routing: {policy: round-robin, retries: {percent: 1000, floor_per_second: 1000}}"
    gateway = start(stack(engines, more), ready=2)
    with Client(gateway) as client:
        client.send(post(chat()))
        until(lambda: sum(map(seen, engines)) == 1, "one of them has it")
        next(engine for engine in engines if engine.stats()["running"]).process.kill()
        answer = client.answer()
    assert answer.status == 200
    assert json.loads(answer.body)["usage"]["completion_tokens"] == 8
