"""What arrives at the door, byte by byte: cut anywhere, chunked, pipelined, too large, too slow, or no HTTP at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rawhttp import (
    Answer,
    Client,
    ask,
    chat,
    events,
    free_within_a_second,
    head,
    in_service,
    long_chat,
    post,
    still_works,
    until,
    waiting,
)

from serving import KEY, Gateway

HOT = "/v1/chat/completions"


def cheap(number: int) -> bytes:
    """A hot request that needs no engine: its refusal names `number`."""
    return post(chat(model=f"no-{number}"))


def number_of(answer: Answer) -> int:
    assert (answer.status, answer.code) == (404, "model_not_found")
    return int(answer.json["error"]["message"].split("'")[1].removeprefix("no-"))


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nTrailer: x\r\n\r\n"


def test_a_request_cut_at_any_byte_is_the_same_request(gateway: Gateway) -> None:
    """Wherever a packet ends, in the request line, a header, the empty line or the body, the answer is the same."""
    request = cheap(7)
    with Client(gateway) as client:
        for cut in range(1, len(request)):
            client.send(request[:cut])
            if cut % 40 == 0:  # now and then it is surely two reads: something else was answered in between
                assert ask(gateway, head("GET", "/health/live", key=None)).status == 200
            client.send(request[cut:])
            assert number_of(client.answer()) == 7


def test_the_same_head_again_and_again(gateway: Gateway) -> None:
    """On one connection: other bodies under the same head are other requests, and another key is refused."""
    wrong = post(chat(model="no-5"), key="0" * len(KEY))
    with Client(gateway) as client:
        for number in (1, 2, 33, 444):
            client.send(cheap(number))
            assert number_of(client.answer()) == number
        client.send(wrong)
        assert client.answer().status == 401
        for data in (cheap(7) + cheap(8), cheap(9)[:-1], cheap(9)[-1:] + cheap(10)):
            client.send(data)
        assert [number_of(client.answer()) for _ in range(4)] == [7, 8, 9, 10]


def test_a_request_in_single_bytes(gateway: Gateway) -> None:
    """One byte at a time is a request, too, and its stream comes whole."""
    with Client(gateway) as client:
        for byte in post(chat(stream=True)):
            client.send(bytes([byte]))
        answer = client.answer()
    assert answer.status == 200
    assert events(answer.body)[-1] == "[DONE]"


def test_a_body_in_slow_pieces(strict: Gateway) -> None:
    """A body may come in pieces with pauses, as long as it is there in time."""
    request = post(chat())
    with Client(strict) as client:
        for at in range(0, len(request), 50):
            client.send(request[at : at + 50])
            assert ask(strict, head("GET", "/health/live", key=None)).status == 200
        assert client.answer().status == 200


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_chunked_body(gateway: Gateway, size: int) -> None:
    """A body without a length, with chunk extensions and a trailer."""
    body = json.dumps(chat()).encode()
    with Client(gateway) as client:
        client.send(head("POST", HOT, "Transfer-Encoding: chunked") + chunked(body, size))
        assert client.answer().status == 200
        client.send(cheap(1))
        assert number_of(client.answer()) == 1


def test_a_client_that_asks_before_it_sends_its_body(gateway: Gateway) -> None:
    """`Expect: 100-continue` is answered at once, then the body is read."""
    body = json.dumps(chat()).encode()
    with Client(gateway) as client:
        client.send(head("POST", HOT, f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert client.answer(bodiless=True).status == 100
        client.send(body)
        assert client.answer().status == 200


def test_a_client_that_asks_and_is_refused_sends_no_body(gateway: Gateway) -> None:
    """The refusal comes in place of the 100, and the connection ends: what follows could be either."""
    for refused, status in (
        (head("POST", HOT, f"Content-Length: {1 << 30}", "Expect: 100-continue"), 413),
        (head("POST", HOT, "Content-Length: 10", "Expect: 100-continue", key=None), 401),
    ):
        with Client(gateway) as client:
            client.send(refused)
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (status, "close")
            assert client.is_closed()


def test_an_http_1_0_client_is_not_told_to_continue(gateway: Gateway) -> None:
    """RFC 9110, 10.1.1: no 100 for HTTP/1.0."""
    body = json.dumps(chat()).encode()
    with Client(gateway) as client:
        client.send(head("POST", HOT, f"Content-Length: {len(body)}", "Expect: 100-continue", version="1.0"))
        client.send(body)
        assert client.answer().status == 200


def test_twenty_requests_in_one_packet(gateway: Gateway) -> None:
    """Answers come in the order of the requests."""
    with Client(gateway) as client:
        client.send(b"".join(map(cheap, range(20))))
        assert [number_of(client.answer()) for _ in range(20)] == list(range(20))


def test_pipelined_streams(gateway: Gateway) -> None:
    """Two streams and an answer as a whole, one after the other on one connection, each complete."""
    with Client(gateway) as client:
        client.send(post(chat(stream=True)) + post(chat()) + post(chat(stream=True)))
        first, second, third = client.answer(), client.answer(), client.answer()
    assert events(first.body)[-1] == events(third.body)[-1] == "[DONE]"
    assert second.json["object"] == "chat.completion"


def test_hot_and_other_requests_pipelined(gateway: Gateway) -> None:
    """Paths of both kinds mix: served here, by the app, and liveness, which is usually answered in between."""
    hot, models = post(chat()), head("GET", "/v1/models")
    live, ready = head("GET", "/health/live", key=None), head("GET", "/health", key=None)
    with Client(gateway) as client:
        client.send(hot + live + models + hot + ready + models + models + cheap(3) + live + hot)
        found = [client.answer() for _ in range(10)]
    assert [answer.status for answer in found] == [200] * 7 + [404, 200, 200]
    kinds = [answer.json.get("object", answer.json.get("status")) for answer in found]
    done = "chat.completion"
    assert kinds == [done, "ok", "list", done, "ok", "list", "list", None, "ok", done]


def test_a_pipelining_client_hangs_up(gateway: Gateway) -> None:
    """Requests that wait on the connection do not hide the hang-up: the slot is free within a second."""
    with Client(gateway) as client:
        client.send(post(long_chat()) + post(long_chat()))
        until(lambda: in_service(gateway) == 1, "it runs")
    free_within_a_second(gateway)


def test_what_is_pipelined_after_close_is_not_answered(gateway: Gateway) -> None:
    """`Connection: close` ends the connection after its own answer."""
    with Client(gateway) as client:
        client.send(post(chat(model="no-1"), "Connection: close") + post(chat()) + cheap(2))
        assert number_of(client.answer()) == 1
        assert client.is_closed()
    free_within_a_second(gateway)


@pytest.mark.parametrize("stream", [True, False])
def test_http_1_0(gateway: Gateway, stream: bool) -> None:
    """No chunks, and the connection ends with the answer."""
    with Client(gateway) as client:
        client.send(post(chat(stream=stream), version="1.0"))
        answer = client.answer()
        assert answer.status == 200
        assert "transfer-encoding" not in answer.headers
        assert answer.headers["connection"] == "close"
        assert (b"[DONE]" in answer.body) == stream
        assert client.is_closed()


def test_fifty_requests_on_one_connection(gateway: Gateway) -> None:
    """A connection is good for as many requests as one likes, also after refusals."""
    with Client(gateway) as client:
        for number in range(50):
            client.send(post(chat(max_tokens=1)) if number % 10 == 0 else cheap(number))
            answer = client.answer()
            assert answer.status == 200 if number % 10 == 0 else number_of(answer) == number
            assert "connection" not in answer.headers


@pytest.mark.parametrize("stream", [True, False])
def test_connection_close(gateway: Gateway, stream: bool) -> None:
    """The answer says so and is whole; then the connection ends."""
    with Client(gateway) as client:
        client.send(post(chat(stream=stream), "Connection: close"))
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert client.is_closed()


@pytest.mark.parametrize("size", [9_000, 100_000, 1_000_000])
@pytest.mark.parametrize("whole", [True, False])
def test_headers_over_the_limit(strict: Gateway, size: int, whole: bool) -> None:
    """431 in the API's shape, readable also while the client still sends, whether or not the head ever ends."""
    with Client(strict) as client:
        client.send(head("POST", HOT, "X-Large: " + "x" * size)[: None if whole else -4])
        answer = client.answer()
        assert (answer.status, answer.code) == (431, "headers_too_large")
        assert answer.headers["connection"] == "close"
        assert client.is_closed()


def test_headers_under_the_limit_after_a_large_body(strict: Gateway) -> None:
    """What a read holds of a body does not count as a head."""
    large = post(chat(model="no-1", user="x" * 60_000))
    with Client(strict) as client:
        client.send(large + large + cheap(2))
        assert [number_of(client.answer()) for _ in range(3)] == [1, 1, 2]


@pytest.mark.parametrize("path", [HOT, "/tokenize"])
@pytest.mark.parametrize("framing", ["Content-Length: 3000000", "Transfer-Encoding: chunked"])
def test_a_body_over_the_limit(strict: Gateway, path: str, framing: str) -> None:
    """413 in the API's shape; the client, which sends on, can read it: no reset takes it away."""
    body = b"x" * 3_000_000
    with Client(strict) as client:
        client.send(head("POST", path, framing))
        client.send(body if "Length" in framing else b"%x\r\n%b\r\n" % (len(body), body))
        answer = client.answer()
    assert (answer.status, answer.code) == (413, "request_too_large")
    assert path != HOT or answer.headers["connection"] == "close"
    still_works(strict)


@pytest.mark.parametrize("path", [HOT, "/tokenize"])
def test_a_body_that_does_not_come(strict: Gateway, path: str) -> None:
    """408 after `gateway.body_timeout`, once, and the connection ends."""
    with Client(strict) as client:
        client.send(head("POST", path, "Content-Length: 100") + b'{"model"')
        answer = client.answer()
        assert (answer.status, answer.code) == (408, "request_timeout")
        assert client.is_closed()
    still_works(strict)


@pytest.mark.parametrize("path", ["/health/live", "/health", "/v1/models"])
def test_a_body_that_nobody_wants_and_that_does_not_come(strict: Gateway, path: str) -> None:
    """The answer is there at once; the connection ends when the time for the body is over."""
    with Client(strict) as client:
        client.send(head("GET", path, "Content-Length: 100") + b'{"model"')
        assert client.answer().status == 200
        assert client.is_closed()


def test_a_head_that_does_not_come(strict: Gateway) -> None:
    """Half a head is given the same time; then the connection ends."""
    with Client(strict) as client:
        client.send(head("POST", HOT)[:-2])
        assert client.is_closed()


def test_a_stray_line_end_does_not_end_the_stream(strict: Gateway) -> None:
    """Old clients send CRLF after a body (RFC 9112, 2.2): it is no head that takes too long, and the answer goes on."""
    with Client(strict) as client:
        client.send(post(long_chat(stream=True)) + b"\r\n")
        assert events(client.answer().body)[-1] == "[DONE]"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS to a port without it
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"hello\r\n\r\n",
        b"POST /v1/chat/completions HTTP/9.9\r\n\r\n",
        b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_not_http(gateway: Gateway, garbage: bytes) -> None:
    """400 in the API's shape, then the end of the connection."""
    with Client(gateway) as client:
        client.send(garbage)
        answer = client.answer()
        assert answer.status == 400
        assert answer.code == "invalid_value"
        assert client.is_closed()


def test_a_chunk_that_is_none(gateway: Gateway) -> None:
    """A body that breaks the framing is a 400 of its request."""
    broken = head("POST", HOT, "Transfer-Encoding: chunked") + b"5\r\nhelloNO\r\n"
    with Client(gateway) as client:
        client.send(broken)
        assert client.answer().status == 400
        assert client.is_closed()
    with Client(gateway) as client:
        client.send(cheap(1) + broken)
        assert number_of(client.answer()) == 1
        assert client.answer().status == 400
        assert client.is_closed()


@pytest.mark.parametrize("before", [post(chat(stream=True)), head("GET", "/v1/models")])
def test_garbage_after_a_request(gateway: Gateway, before: bytes) -> None:
    """What came before is answered whole, without a second answer in the middle; then the connection ends."""
    with Client(gateway) as client:
        client.send(before + b"\x00\x01garbage\r\n\r\n")
        answer = client.answer()
        assert answer.status == 200
        assert b"HTTP/1.1" not in answer.body
        assert client.is_closed()


@pytest.mark.parametrize(
    "offer",
    [
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
        ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    ],
)
def test_an_offer_to_upgrade_is_passed_over(gateway: Gateway, offer: tuple[str, ...]) -> None:
    """Java's client offers HTTP/2 with its first request: it is answered in HTTP/1.1, body and all (RFC 9110, 7.8)."""
    with Client(gateway) as client:
        client.send(post(chat(), *offer) + head("GET", "/v1/models", *offer) + cheap(5))
        assert client.answer().json["object"] == "chat.completion"
        assert client.answer().json["object"] == "list"
        assert number_of(client.answer()) == 5
        request = post(chat(), *offer)
        client.send(request[:-30])
        client.send(request[-30:])
        assert client.answer().status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "GET", "OPTIONS"])
def test_another_method_on_a_hot_path(gateway: Gateway, method: str) -> None:
    answer = ask(gateway, head(method, HOT))
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]


@pytest.mark.parametrize(
    "path",
    [
        f"{HOT}?",
        f"{HOT}?api-version=2024-01-01&x=%2F",
        f"http://inhouse.example{HOT}",
        f"http://inhouse.example:8080{HOT}?a=b",
        "/v1/chat%2Fcompletions",
        "/%761/chat/completions",
    ],
)
def test_a_hot_path_written_otherwise(gateway: Gateway, path: str) -> None:
    """A query, the absolute form that proxies send, escaped letters: the same endpoint."""
    assert number_of(ask(gateway, post(chat(model="no-1"), path=path))) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("OPTIONS", "*"),
        ("POST", "//v1/chat/completions"),
        ("POST", "/v1/chat/completions/../completions"),
        ("GET", "/slots/0"),
        ("POST", "/completion"),
        ("GET", "/props"),
        ("GET", "/../../etc/passwd"),
        ("POST", "/v1/chat/completions/input_tokens"),
        ("POST", "http://"),
        ("GET", "/%ff%00"),
    ],
)
def test_odd_paths(gateway: Gateway, method: str, path: str) -> None:
    """What is not listed is not there, whatever the engine could do with it."""
    answer = ask(gateway, post(b"{}", path=path) if method == "POST" else head(method, path))
    assert answer.status in (400, 404)
    assert answer.code


def test_more_connections_than_the_limit(strict: Gateway) -> None:
    """One more is told 503 in the API's shape, readable also when it has sent a request at once; then there is room."""
    idle: list[Client] = []
    try:
        until(lambda: _fill(strict, idle), "the limit is reached")
        for request in (b"", post(chat())):
            with Client(strict) as late:
                late.send(request)
                answer = late.answer()
                assert (answer.status, answer.code) == (503, "model_unavailable")
                assert "retry-after" in answer.headers
                assert late.is_closed()
    finally:
        for client in idle:
            client.close()
    until(lambda: ask(strict, post(chat())).status == 200, "there is room again")


def _fill(gateway: Gateway, idle: list[Client]) -> bool:
    """Opens connections until one is refused; each is seen to be in use before the next."""
    client = Client(gateway)
    client.send(cheap(1))
    if client.answer().status == 404:
        idle.append(client)
        return False
    client.close()
    return True


def test_a_full_queue(strict: Gateway) -> None:
    """429 with the time to wait; those who were there before are served."""
    clients = [Client(strict) for _ in range(3)]
    try:
        clients[0].send(post(long_chat(stream=True)))
        clients[0].read_until(b"data: ")
        for number, client in enumerate(clients[1:], start=1):
            client.send(post(chat()))
            until(lambda number=number: waiting(strict) == number, "it waits")
        answer = ask(strict, post(chat()))
        assert (answer.status, answer.code) == (429, "queue_full")
        assert int(answer.headers["retry-after"]) >= 1
        clients[0].close()
        assert [client.answer().status for client in clients[1:]] == [200, 200]
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize("path", ["/v1/messages", HOT])
@pytest.mark.parametrize("key", ["Authorization: Bearer wrong-key-0123456789abcdef", "x-api-key: x", "X-Nothing: y"])
def test_a_wrong_key(gateway: Gateway, path: str, key: str) -> None:
    """401 before the body is looked at, in the shape of the API that was called."""
    with Client(gateway) as client:
        client.send(head("POST", path, key, "Content-Length: 2", key=None) + b"{}")
        answer = client.answer()
    assert answer.status == 401
    shown: dict[str, Any] = answer.json
    assert shown["error"]["type"] == "authentication_error"
    assert KEY not in answer.body.decode()
