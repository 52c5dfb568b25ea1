"""Responses in the background, and streams that are resumed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from clients import client_at
from fake_engine import fake_engine
from kept_streams import events, text_of
from serving import KEY, Gateway, serving

CHAT = {"model": "demo", "stream": True, "temperature": 0, "messages": [{"role": "user", "content": "What is a slot?"}]}
HEADERS = {"authorization": f"Bearer {KEY}"}
ENGINE = 'models: {{demo: {{endpoints: ["{url}"], engine: llama-server}}}}\n{more}'


def whole(client: openai.OpenAI, id: str) -> Any:
    end = time.monotonic() + 30
    while (found := client.responses.retrieve(id)).status in ("queued", "in_progress"):
        assert time.monotonic() < end
    return found


def test_a_response_is_made_while_nobody_listens(gateway: Gateway) -> None:
    """Queued at once, completed later, the same as it would have been in the foreground."""
    client = client_at(gateway)
    asked: dict[str, Any] = {"model": "demo", "input": "What is a slot?", "temperature": 0}
    begun = client.responses.create(**asked, background=True)
    assert (begun.status, begun.background) == ("queued", True)
    found = whole(client, begun.id)
    assert (found.status, found.id, found.background) == ("completed", begun.id, True)
    assert found.output_text == client.responses.create(**asked).output_text
    assert found.usage.output_tokens > 0


def test_its_events_are_there_from_any_number_on(gateway: Gateway) -> None:
    """With `starting_after`, what follows that event."""
    client = client_at(gateway)
    begun = client.responses.create(model="demo", input="What is a slot?", background=True)
    all_ = [event.sequence_number for event in client.responses.retrieve(begun.id, stream=True)]
    rest = [event.sequence_number for event in client.responses.retrieve(begun.id, stream=True, starting_after=5)]
    assert all_ == list(range(len(all_)))
    assert rest == all_[6:]


def test_it_can_be_cancelled_and_deleted(tmp_path: Path) -> None:
    """The engine hears of it."""
    with (
        fake_engine(tokens_per_s=20, answer_tokens=1000) as engine,
        serving(tmp_path, ENGINE.format(url=engine.url, more="")) as gateway,
    ):
        client = client_at(gateway)
        begun = client.responses.create(model="demo", input="a", background=True, max_output_tokens=1000)
        while not engine.stats()["running"]:
            pass
        client.responses.cancel(begun.id)
        assert whole(client, begun.id).status == "cancelled"
        while engine.stats()["running"]:
            pass
        with pytest.raises(openai.ConflictError):
            client.responses.cancel(begun.id)
        client.responses.delete(begun.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(begun.id)


def test_a_refusal_in_the_background_is_a_failed_response(gateway: Gateway) -> None:
    """What the door would have said; what is wrong with the request is told at once."""
    client = client_at(gateway)
    begun = client.responses.create(model="nope", input="a", background=True)
    failed = whole(client, begun.id)
    assert failed.status == "failed"
    assert "nope" in failed.error.message
    with pytest.raises(openai.BadRequestError, match="stream"):
        client.responses.create(model="demo", input="a", background=True, stream=True)
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="demo", input=[{"type": "nonsense"}], background=True)  # type: ignore[list-item]


def test_it_is_its_tenants_alone(gateway: Gateway) -> None:
    """Another one does not find it."""
    begun = client_at(gateway).responses.create(model="demo", input="a", background=True)
    command = [sys.executable, "-m", "inhouse", "keys", "create", "--tenant", "other"]
    made = subprocess.run([*command, "--state-dir", str(gateway.state_dir)], capture_output=True, text=True, check=True)
    with pytest.raises(openai.NotFoundError):
        client_at(gateway, made.stdout.strip()).responses.retrieve(begun.id)


def test_a_dropped_stream_is_taken_up_where_it_broke_off(tmp_path: Path) -> None:
    """However often: no event twice, none missing; the engine was asked once."""
    with (
        fake_engine(tokens_per_s=200, answer_tokens=100) as engine,
        serving(tmp_path, ENGINE.format(url=engine.url, more="")) as gateway,
    ):
        body = CHAT | {"max_tokens": 100}
        seen = events(gateway, {"x-inhouse-resume": "true"}, body, most=5)
        while seen[-1][1] != "[DONE]":
            seen += events(gateway, {"last-event-id": seen[-1][0]}, most=17)
        numbers = [int(id.rpartition(":")[2]) for id, _ in seen]
        assert numbers == list(range(len(numbers)))
        assert text_of(seen) == text_of(events(gateway, {"x-inhouse-resume": "true"}, body))
        assert engine.stats()["requests"] == 2


def test_a_stream_whose_client_does_not_come_back_ends(tmp_path: Path) -> None:
    """After `kept.alone`; until then it goes on."""
    with (
        fake_engine(tokens_per_s=20, answer_tokens=1000) as engine,
        serving(tmp_path, ENGINE.format(url=engine.url, more="kept: {alone: 1 s}\n")) as gateway,
    ):
        events(gateway, {"x-inhouse-resume": "true"}, CHAT | {"max_tokens": 1000}, most=2)
        assert engine.stats()["running"] == 1
        while engine.stats()["running"]:
            pass
        assert engine.stats()["hang_ups"] == 1


def test_what_cannot_be_resumed_is_told(gateway: Gateway) -> None:
    """A whole answer, an id that is none, an answer that is gone; and a refusal is one."""

    def status(headers: dict[str, str], body: Any) -> int:
        url = f"{gateway.url}/v1/chat/completions"
        return httpx2.post(url, headers=HEADERS | headers, json=body).status_code

    assert status({"x-inhouse-resume": "true"}, CHAT | {"stream": False}) == 400
    assert status({"last-event-id": "nonsense"}, CHAT) == 400
    assert status({"last-event-id": "0123:4"}, CHAT) == 404
    assert status({"x-inhouse-resume": "true"}, CHAT | {"model": "nope"}) == 404
    assert httpx2.post(f"{gateway.url}/v1/chat/completions", headers={"x-inhouse-resume": "1"}).status_code == 401


def test_when_there_is_no_room_a_new_one_is_refused(tmp_path: Path) -> None:
    """429 with what to raise; whole ones make room."""
    with (
        fake_engine(tokens_per_s=20, answer_tokens=1000) as engine,
        serving(tmp_path, ENGINE.format(url=engine.url, more="kept: {answers_max: 1}\n")) as gateway,
    ):
        client = client_at(gateway)
        first = client.responses.create(model="demo", input="a", background=True, max_output_tokens=1000)
        with pytest.raises(openai.RateLimitError, match="answers_max"):
            client.responses.create(model="demo", input="a", background=True)
        client.responses.cancel(first.id)
        whole(client, first.id)
        assert client.responses.create(model="demo", input="a", background=True).status == "queued"
