"""WebSockets, kept answers and the answer cache before models whose answers come through Redis: as over HTTP."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pool import LEASE_S, Pool, Worker, until
from rawhttp import ask, post
from streams import body_of, words_of
from websockets.sync.client import ClientConnection, connect

from serving import KEY, Gateway


@contextlib.contextmanager
def socket_to(gateway: Gateway, path: str = "/v1/chat/completions") -> Iterator[ClientConnection]:
    headers = {"authorization": f"Bearer {KEY}"}
    with connect(gateway.url.replace("http", "ws", 1) + path, additional_headers=headers) as found:
        yield found


def tell(socket: ClientConnection, kind: str, name: str, body: dict[str, Any]) -> None:
    socket.send(json.dumps({"type": kind, "stream_id": name, **body}))


def heard(socket: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(socket.recv(timeout=30))
    return found


class Said:
    """What came of each request on a socket."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.texts: dict[str, str] = {}
        self.ends: dict[str, str] = {}

    def hear(self) -> str:
        """One event; whose it was."""
        event = heard(self._socket)
        name: str = event["stream_id"]
        for choice in event.get("choices", []):
            self.texts[name] = self.texts.get(name, "") + (choice["delta"].get("content") or "")
        if event.get("type") in ("done", "error"):
            self.ends[name] = event["type"]
        return name

    def until_ended(self, *names: str) -> None:
        while not set(names) <= set(self.ends):
            self.hear()


def running(*workers: Worker) -> int:
    return sum(int(worker.engine.stats()["running"]) for worker in workers if worker.engine is not None)


def test_several_requests_on_one_socket(pool: Pool) -> None:
    """Each whole, word for word; one more than there are slots waits and is told so; Redis is empty at the end."""
    worker = pool.worker(slots=2, tokens_per_s=50)
    gateway = pool.gateway()
    bodies = {name: body_of(f"of {name}", 20) for name in ("the sea", "the land", "the sky")}
    with socket_to(gateway) as socket:
        said = Said(socket)
        for name, body in bodies.items():
            tell(socket, "chat.create", name, body)
        until(lambda: running(worker) == 2, "as many run as there are slots")
        said.until_ended(*bodies)
    assert said.ends == dict.fromkeys(bodies, "done")
    assert said.texts == {name: words_of(body) for name, body in bodies.items()}
    until(lambda: not pool.leftovers(), "nothing is left in Redis")


def test_a_cancel_on_a_socket_reaches_the_worker(pool: Pool) -> None:
    """Its engine hears of it, the other request goes on; and a socket that closes ends what is left."""
    worker = pool.worker(tokens_per_s=30)
    gateway = pool.gateway()
    stays, goes = body_of("stays", 60), body_of("goes", 1000)
    with socket_to(gateway) as socket:
        said = Said(socket)
        tell(socket, "chat.create", "stays", stays)
        tell(socket, "chat.create", "goes", goes)
        while said.hear() != "goes":
            pass
        tell(socket, "chat.cancel", "goes", {})
        said.until_ended("goes")
        until(lambda: running(worker) == 1, "its engine was told", LEASE_S)
        said.until_ended("stays")
        assert said.ends == {"goes": "error", "stays": "done"}
        assert said.texts["stays"] == words_of(stays)
        tell(socket, "chat.create", "left", goes)
        while said.hear() != "left":
            pass
    until(lambda: running(worker) == 0, "its client has left", LEASE_S)
    until(lambda: not pool.leftovers(), "nothing is left in Redis")


def test_a_worker_killed_while_its_answers_go_to_a_socket(pool: Pool) -> None:
    """All of them go on at another one, each as one stream."""
    pair = pool.workers(2, tokens_per_s=30)
    gateway = pool.gateway()
    bodies = {name: body_of(f"of {name}", 60) for name in ("a", "b", "c", "d")}
    with socket_to(gateway) as socket:
        said = Said(socket)
        for name, body in bodies.items():
            tell(socket, "chat.create", name, body)
        while len(said.texts) < len(bodies) or not all(said.texts.values()):
            said.hear()
        next(worker for worker in pair if running(worker)).kill()
        said.until_ended(*bodies)
    assert said.ends == dict.fromkeys(bodies, "done")
    assert said.texts == {name: words_of(body) for name, body in bodies.items()}
    until(lambda: not pool.leftovers(), "nothing is left in Redis")


@pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning")  # the client's own use of its library
def test_the_official_client_speaks_responses_through_a_worker(pool: Pool) -> None:
    """Over its socket, and in the background; both say the same."""
    pool.worker()
    gateway = pool.gateway()
    asked: dict[str, Any] = {"model": "demo", "input": "of the sea", "max_output_tokens": 12}
    with openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client:
        with client.responses.connect() as connection:
            connection.response.create(**asked)
            events = []
            for event in connection:
                events.append(event)
                if event.type == "response.incomplete":  # it ends with its last token
                    break
        begun = client.responses.create(**asked, background=True)
        until(lambda: client.responses.retrieve(begun.id).status == "incomplete", "it is made")
        kept = client.responses.retrieve(begun.id)
    assert events[-1].response.output_text == kept.output_text  # type: ignore[union-attr]


def test_the_answer_cache_before_a_queue(pool: Pool) -> None:
    """Identical requests at once share one job, also across the death of the worker that has it; such an answer is not
    kept, as without a queue; the next one is, and given again without a job."""
    pair = pool.workers(2, tokens_per_s=100)
    gateway = pool.gateway(model="cache: {enabled: true}")
    body = {**body_of("of the sea", 100), "temperature": 0}
    answers: list[bytes] = []
    clients = [threading.Thread(target=lambda: answers.append(ask(gateway, post(body)).body)) for _ in range(4)]
    for client in clients:
        client.start()
    until(lambda: running(*pair) == 1, "one generation for all")
    next(worker for worker in pair if running(worker)).kill()
    for client in clients:
        client.join()
    alive = next(worker for worker in pair if worker.process.process.poll() is None)
    assert alive.engine is not None
    first = ask(gateway, post(body))
    assert first.headers["x-inhouse-cache"] == "miss"
    before = alive.engine.stats()["requests"]
    again = ask(gateway, post({**body, "stream": False}))
    assert again.headers["x-inhouse-cache"] == "hit"
    assert again.json["choices"][0]["message"]["content"] == words_of(body)
    assert {_text(answer) for answer in answers} == {words_of(body)}
    assert alive.engine.stats()["requests"] == before


def _text(stream: bytes) -> str:
    return b"".join(part.partition(b'"')[0] for part in stream.split(b'"content":"')[1:]).decode()
