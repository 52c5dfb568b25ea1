"""Files behind addresses: headers come by ranges, and servers that go wrong end in a WeightsError."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.weights import gguf_bytes, range_server
from tests.weights.range_server import Way, Web

from inhouse.errors import WeightsError
from inhouse.weights import gguf
from inhouse.weights.remote_file import RemoteFile, client

LARGE = gguf_bytes.model(
    {**gguf_bytes.LLAMA, "tokenizer.ggml.tokens": ["token"] * 100_000, "zz.last": 7}, data_bytes=8 * 2**20
)


@pytest.fixture
def web() -> Iterator[Web]:
    with range_server.serving() as running:
        running.files["m.gguf"] = LARGE
        yield running


def header_of(web: Web, path: str = "m.gguf", *, token: str = "") -> gguf.GgufHeader:
    with (
        client({"Authorization": f"Bearer {token}"} if token else {}) as http,
        RemoteFile(http, f"{web.url}/{path}") as file,
    ):
        return gguf.read_header(file, file.size, label=path)


def test_a_header_is_read_without_the_weights(web: Web) -> None:
    """Of nine megabytes two travel, in ranges that grow."""
    header = header_of(web)
    assert (header.vocabulary, header.scalars["zz.last"]) == (100_000, 7)
    assert header.file_bytes <= len(LARGE)
    assert web.sent < 4 * 2**20
    ranges = [wanted for _, wanted, _ in web.requests]
    assert ranges[0] == "bytes=0-262143"
    assert None not in ranges
    assert len(ranges) < 6


def test_a_long_list_is_jumped_over(web: Web) -> None:
    """Nobody sends what would be thrown away."""
    numbers = b"\x09\0\0\0\x04\0\0\0" + (4 * 2**20).to_bytes(8, "little") + bytes(16 * 2**20)
    web.files["m.gguf"] = gguf_bytes.model({"a.numbers": numbers, "general.name": "end"})
    assert header_of(web).name == "end"
    assert web.sent < 4 * 2**20


@pytest.mark.parametrize("way", ["ranges", "whole", "few bytes"])
def test_bytes_come_as_they_are(web: Web, way: Way) -> None:
    """Forward and a little back, whether the server knows ranges, ignores them, or sends less than was asked for."""
    web.way = way
    web.files["f"] = raw = bytes(range(256)) * 8
    with client() as http, RemoteFile(http, f"{web.url}/f") as file:
        assert file.size == len(raw)
        assert file.read(10) == raw[:10]
        assert (file.seek(4), file.read(300)) == (4, raw[4:304])
        assert (file.seek(1000), file.read(8)) == (1000, raw[1000:1008])
        assert (file.seek(2040), file.read(100)) == (2040, raw[2040:])
        assert file.read(1) == b""


def test_a_server_without_ranges_is_hung_up_on(web: Web) -> None:
    """The whole file would be gigabytes."""
    web.way = "whole"
    web.files["m.gguf"] = LARGE + bytes(64 * 2**20)
    assert header_of(web).vocabulary == 100_000
    assert web.sent < 32 * 2**20


def test_an_answer_that_breaks_off_is_asked_for_again(web: Web) -> None:
    web.way, web.breaks = "breaks off", 2
    assert header_of(web).vocabulary == 100_000
    web.breaks = 3
    with pytest.raises(WeightsError, match=r"m\.gguf cannot be read"):
        header_of(web)


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("no length", "does not say how long the file is"),
        ("wrong place", "asked for bytes 0 to 262143, it sends 1 to"),
        ("no place", "do not say where they belong"),
        ("grows", "bytes before and has"),
        ("endless", "more than was asked for"),
    ],
)
def test_a_server_that_goes_wrong_is_not_believed(web: Web, way: Way, told: str) -> None:
    web.way = way
    with pytest.raises(WeightsError) as caught:
        header_of(web)
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "may not be read"),
        (403, "may not be read"),
        (404, "there is no file at"),
        (500, "status 500"),
        (204, "204"),
    ],
)
def test_a_refusal_is_told_with_its_address(web: Web, status: int, told: str) -> None:
    """Without the query, which may be a signature."""
    web.status = status
    with pytest.raises(WeightsError) as caught:
        header_of(web, "m.gguf?secret=1")
    assert told in caught.value.message
    assert f"{web.url}/m.gguf" in caught.value.message
    assert "secret" not in caught.value.message


def test_redirects_are_followed_and_a_token_stays_with_its_host(web: Web) -> None:
    assert header_of(web, "moved/m.gguf", token="t").layers == 4
    assert {token for path, _, token in web.requests if path == "/m.gguf"} == {"Bearer t"}
    web.requests.clear()
    assert header_of(web, "elsewhere/m.gguf", token="t").layers == 4
    assert {token for path, _, token in web.requests if path == "/m.gguf"} == {None}


def test_a_redirect_in_a_circle_ends(web: Web) -> None:
    with pytest.raises(WeightsError, match=r"cannot be read"):
        header_of(web, "round")


def test_an_empty_file_is_no_model(web: Web) -> None:
    web.files["m.gguf"] = b""
    with pytest.raises(WeightsError, match="is not a GGUF file"):
        header_of(web)


def test_nobody_there_is_told() -> None:
    with client() as http, pytest.raises(WeightsError, match=r"127\.0\.0\.1:1/m\.gguf cannot be read"):
        RemoteFile(http, "http://127.0.0.1:1/m.gguf")


def test_a_header_without_end_is_given_up(web: Web) -> None:
    with (
        client() as http,
        RemoteFile(http, f"{web.url}/m.gguf", taken_max=2**19) as file,
        pytest.raises(WeightsError, match=r"longer than 524288 bytes"),
    ):
        gguf.read_header(file, file.size, label="m")
