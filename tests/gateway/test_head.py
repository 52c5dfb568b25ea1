"""A head that comes again is known by its bytes: the same request as the parser would find, or left to the parser."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inhouse.gateway.apis import APIS
from inhouse.gateway.head import Again, again, head_of

PATH = b"/v1/chat/completions"
LINES = (b"host: x", b"Authorization: Bearer sk-1", b"content-type: application/json")


def request(*lines: bytes, length: bytes = b"2", body: bytes = b"{}", name: bytes = b"Content-Length") -> bytes:
    head = [b"POST " + PATH + b" HTTP/1.1", *lines, name + b": " + length, b"Accept: */*", b"", b""]
    return b"\r\n".join(head) + body


def known(data: bytes, *, keep_alive: bool = True, expects_continue: bool = False) -> Again | None:
    lines = [line.partition(b": ") for line in data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]]
    headers = {name.lower(): value for name, _, value in lines}
    head = head_of(
        APIS[PATH], headers, origins=(), keep_alive=keep_alive, chunked=True, expects_continue=expects_continue
    )
    return again(head, data)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_the_same_head_with_another_body(body: bytes, cut: int) -> None:
    """Whole, it is the body; with a byte too few or too many, or one that differs, it is the parser's."""
    found = known(request(*LINES))
    assert found is not None
    data = request(*LINES, length=b"%d" % len(body), body=body)
    assert found.bytes.body_in(data) == body
    assert found.bytes.body_in(data + b"P") is None
    assert found.bytes.body_in(data[:cut]) == (body if cut >= len(data) else None)
    head_bytes = len(data) - len(body)
    at = min(cut, head_bytes - 1)
    other = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    assert found.bytes.body_in(other) is None or other[at : at + 1].isdigit()


def test_another_key_or_another_line() -> None:
    """Every byte of the head but the digits of its length counts."""
    found = known(request(*LINES))
    assert found is not None
    assert found.bytes.body_in(request(LINES[0], b"Authorization: Bearer sk-2", LINES[2])) is None
    assert found.bytes.body_in(request(*LINES, b"x-inhouse-timeout: 1")) is None


def test_lengths_that_are_no_plain_numbers() -> None:
    """Signs, spaces, digits of other scripts, nothing at all, and far too many digits are the parser's to refuse."""
    found = known(request(*LINES))
    assert found is not None
    for length in (b"+2", b" 2", b"2 ", b"0x2", b"", b"2,2", "٢".encode(), b"0000000000000002"):
        assert found.bytes.body_in(request(*LINES, length=length)) is None


def test_heads_that_are_never_known_by_their_bytes() -> None:
    """What says its length twice or in chunks, closes, expects an answer first, or did not come in one piece."""
    assert known(request(*LINES, b"Content-Length: 2")) is None
    assert known(request(*LINES, b"Transfer-Encoding: chunked")) is None
    assert known(request(*LINES), keep_alive=False) is None
    assert known(request(*LINES), expects_continue=True) is None
    assert known(b"\r\n" + request(*LINES)) is None
    assert known(request(*LINES, name=b"X-Length")) is None
