"""WebSockets: the official client, several requests at once, cancel, keys of browsers, slow readers, the end."""

from __future__ import annotations

import contextlib
import json
import signal
import socket as tcp
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from clients import client_at
from fake_engine import fake_engine
from serving import KEY, Gateway, serving

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "What is a slot?"}]}
KEY_OFFERED = f"openai-insecure-api-key.{KEY}"


@contextlib.contextmanager
def socket_to(gateway: Gateway, path: str = "/v1/chat/completions", **more: Any) -> Iterator[ClientConnection]:
    with connect(gateway.url.replace("http", "ws", 1) + path, subprotocols=["realtime", KEY_OFFERED], **more) as found:
        yield found


def narrow(gateway: Gateway) -> tcp.socket:
    """A connection of whose bytes the system keeps few: by itself it would keep more and more of them, up to all."""
    small = tcp.socket()
    small.setsockopt(tcp.SOL_SOCKET, tcp.SO_RCVBUF, 4096)
    small.connect(gateway.address)
    return small


def ask(socket: ClientConnection, kind: str = "chat.create", **fields: Any) -> None:
    socket.send(json.dumps({"type": kind, **fields}))


def heard(socket: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(socket.recv(timeout=30))
    return found


def until_done(socket: ClientConnection, streams: int) -> dict[str, list[dict[str, Any]]]:
    """Events by stream, until so many have ended."""
    found: dict[str, list[dict[str, Any]]] = {}
    ended = 0
    while ended < streams:
        event = heard(socket)
        found.setdefault(event.get("stream_id", ""), []).append(event)
        ended += event.get("type") in ("done", "error")
    return found


@pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning")  # the client's own use of its library
def test_the_official_client_speaks_responses(gateway: Gateway) -> None:
    """The events are those of the stream over HTTP."""
    client = client_at(gateway)
    asked: dict[str, Any] = {"model": "demo", "input": "What is a slot?", "temperature": 0}
    with client.responses.connect() as connection:
        connection.response.create(**asked)
        seen = []
        for event in connection:
            seen.append(event)
            if event.type == "response.completed":
                break
    over_http = list(client.responses.create(**asked, stream=True))
    assert [event.type for event in seen] == [event.type for event in over_http]
    assert seen[-1].response.output_text == over_http[-1].response.output_text  # type: ignore[union-attr]


def test_several_requests_share_a_socket(gateway: Gateway) -> None:
    """Each event says whose it is; every answer is whole."""
    with socket_to(gateway) as socket:
        assert socket.subprotocol == "realtime"
        for name in ("a", "b", "c"):
            ask(socket, stream_id=name, max_tokens=8, temperature=0, **CHAT)
        streams = until_done(socket, 3)
    texts = {
        name: "".join(choice["delta"].get("content") or "" for event in events for choice in event.get("choices", []))
        for name, events in streams.items()
    }
    assert set(texts) == {"a", "b", "c"}
    assert len(set(texts.values())) == 1
    assert all(events[-1]["type"] == "done" for events in streams.values())


def test_one_is_cancelled_and_the_others_go_on(tmp_path: Path) -> None:
    """The engine hears of it; the cancelled one ends with an error."""
    with (
        fake_engine(tokens_per_s=50, answer_tokens=40) as engine,
        serving(tmp_path, f'models: {{demo: {{endpoints: ["{engine.url}"], engine: llama-server}}}}\n') as gateway,
        socket_to(gateway) as socket,
    ):
        for name in ("stays", "goes"):
            ask(socket, stream_id=name, max_tokens=40, **CHAT)
        while heard(socket)["stream_id"] != "goes":
            pass
        ask(socket, "chat.cancel", stream_id="goes")
        streams = until_done(socket, 2)
        assert streams["goes"][-1]["type"] == "error"
        assert streams["stays"][-1]["type"] == "done"
        assert engine.stats()["hang_ups"] == 1
        ask(socket, "chat.cancel", stream_id="goes")
        assert heard(socket)["status"] == 400


def test_a_socket_that_closes_cancels_what_it_asked_for(tmp_path: Path) -> None:
    """As any client that hangs up."""
    with (
        fake_engine(tokens_per_s=20, answer_tokens=1000) as engine,
        serving(tmp_path, f'models: {{demo: {{endpoints: ["{engine.url}"], engine: llama-server}}}}\n') as gateway,
    ):
        with socket_to(gateway) as socket:
            ask(socket, max_tokens=1000, **CHAT)
            heard(socket)
        while not engine.stats()["hang_ups"]:
            pass
        assert engine.stats()["running"] == 0


def test_a_slow_reader_holds_up_its_own_requests_only(tmp_path: Path) -> None:
    """The gateway keeps `sockets.buffer` for it and reads its engines no further; another socket has its answer."""
    text = 'sockets: {buffer: 4 KiB}\nmodels: {demo: {endpoints: ["URL"], engine: llama-server}}\n'
    with (
        fake_engine(tokens_per_s=100_000, answer_tokens=60_000, context_tokens=262_144) as engine,
        serving(tmp_path, text.replace("URL", engine.url)) as gateway,
        narrow(gateway) as small,
        socket_to(gateway, max_queue=1, sock=small) as slow,
    ):
        ask(slow, max_tokens=60_000, **CHAT)
        heard(slow)
        with socket_to(gateway) as other:
            ask(other, max_tokens=3, **CHAT)
            assert until_done(other, 1)[""][-1]["type"] == "done"
        assert engine.stats()["running"] == 1
        assert until_done(slow, 1)[""][-1]["type"] == "done"


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        ("nothing", 400),
        ('{"type": "chat.destroy"}', 400),
        ('{"type": "response.create", "model": "demo", "input": "a"}', 400),
        ('{"type": "chat.create", "model": "nope", "messages": [{"role": "user", "content": "a"}]}', 404),
        ('{"type": "chat.create", "model": "demo", "messages": []}', 400),
        ('{"type": "chat.create", "stream_id": 7}', 400),
    ],
)
def test_a_wrong_frame_is_an_error_and_the_socket_goes_on(gateway: Gateway, frame: str, status: int) -> None:
    """It names what is wrong; the next one is answered."""
    with socket_to(gateway) as socket:
        socket.send(frame)
        event = heard(socket)
        assert (event["type"], event["status"]) == ("error", status)
        assert event["error"]["message"]
        ask(socket, max_tokens=1, **CHAT)
        assert until_done(socket, 1)[""][-1]["type"] == "done"


def test_two_requests_need_names_to_share_a_socket(gateway: Gateway) -> None:
    """The second of the same name is refused; the first goes on."""
    with socket_to(gateway) as socket:
        ask(socket, max_tokens=1500, ignore_eos=True, **CHAT)
        ask(socket, max_tokens=30, **CHAT)
        kinds = [event.get("status") or event.get("type") for event in until_done(socket, 2)[""]]
        assert 409 in kinds
        assert kinds[-1] == "done"


@pytest.mark.parametrize("key", [None, "wrong"])
def test_no_socket_without_a_key(gateway: Gateway, key: str | None) -> None:
    """The handshake is refused."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with pytest.raises(InvalidStatus) as caught:
        connect(gateway.url.replace("http", "ws", 1) + "/v1/responses", additional_headers=headers)
    assert caught.value.response.status_code == 403


def test_other_paths_are_no_sockets(gateway: Gateway) -> None:
    """An offer to upgrade is passed over there, as RFC 9110 has it."""
    with pytest.raises(InvalidStatus) as caught:
        connect(
            gateway.url.replace("http", "ws", 1) + "/v1/models", additional_headers={"authorization": f"Bearer {KEY}"}
        )
    assert caught.value.response.status_code == 200


def test_a_gateway_that_stops_finishes_the_answers_of_its_sockets(tmp_path: Path) -> None:
    """SIGTERM: what runs is finished, then the socket is closed."""
    with (
        fake_engine(tokens_per_s=20, answer_tokens=20) as engine,
        serving(tmp_path, f'models: {{demo: {{endpoints: ["{engine.url}"], engine: llama-server}}}}\n') as gateway,
        socket_to(gateway) as socket,
    ):
        ask(socket, max_tokens=20, **CHAT)
        heard(socket)
        gateway.process.send_signal(signal.SIGTERM)
        assert until_done(socket, 1)[""][-1]["type"] == "done"
        with pytest.raises(ConnectionClosed):
            heard(socket)
        assert gateway.process.wait(timeout=20) == 0
