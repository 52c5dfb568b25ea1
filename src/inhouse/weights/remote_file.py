"""A file behind an address, read forward in ranges: of gigabytes of weights only the beginning travels.

A server that knows no ranges answers with the whole file; then its answer is read as far as needed and hung up on.
Seeking back is possible as far as the last few reads go, which is all that headers need.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import httpx2

from inhouse import __version__
from inhouse.errors import WeightsError

TAKEN_BYTES_MAX = 96 * 2**20
"""Of one file. A vocabulary of a million words takes about 30 MiB."""
RANGE_BYTES_MIN, RANGE_BYTES_MAX = 2**18, 2**22
TIMEOUT_S = 10.0
READING_S_MAX = 120.0
TRIES_MAX = 3
REDIRECTS_MAX = 5

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


def client(headers: Mapping[str, str] | None = None) -> httpx2.Client:
    """Takes proxies from the environment. A token in `headers` is not sent on to other hosts."""
    return httpx2.Client(
        headers={"User-Agent": f"inhouse/{__version__}", **(headers or {}), "Accept-Encoding": "identity"},
        follow_redirects=True,
        max_redirects=REDIRECTS_MAX,
        timeout=TIMEOUT_S,
    )


class RemoteFile:
    """Opens the address at once. Raises `WeightsError`, here and while reading."""

    def __init__(self, http: httpx2.Client, url: str, *, taken_max: int = TAKEN_BYTES_MAX) -> None:
        self._http = http
        self._url = url
        self._shown = url.partition("?")[0]
        self._taken_max = taken_max
        self._until_s = time.monotonic() + READING_S_MAX
        self._exit = ExitStack()
        self._whole: Iterator[bytes] | None = None
        self._taken = 0
        self._at = 0
        self._buffer = b""
        self._buffer_at = 0
        self._range_bytes = RANGE_BYTES_MIN
        self.size = -1
        try:
            self._more()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._exit.close()

    def seek(self, at: int, /) -> int:
        if at < self._buffer_at:
            raise ValueError("what was read before is gone")
        self._at = at
        return at

    def read(self, length: int, /) -> bytes:
        """Shorter at the end of the file only."""
        length = min(length, self.size - self._at)
        while self._buffer_at + len(self._buffer) < self._at + length:
            self._drop()
            self._more()
        start = self._at - self._buffer_at
        self._at += max(length, 0)
        return self._buffer[start : start + max(length, 0)]

    def _drop(self) -> None:
        """Forgets what lies before the place that is read next, and skips ahead where ranges allow it."""
        ahead = self._at - self._buffer_at
        if ahead >= len(self._buffer) and self._whole is None:
            self._buffer, self._buffer_at = b"", self._at
        elif ahead > 0:
            taken = min(ahead, len(self._buffer))
            self._buffer, self._buffer_at = self._buffer[taken:], self._buffer_at + taken

    def _more(self) -> None:
        """Appends what comes next to the buffer: at least a byte."""
        for tries_left in reversed(range(TRIES_MAX)):
            if self._taken > self._taken_max:
                raise WeightsError(f"the header of {self._shown} is longer than {self._taken_max} bytes")
            if time.monotonic() > self._until_s:
                raise WeightsError(
                    f"the header of {self._shown} did not come within {READING_S_MAX:.0f} s", hint="try again"
                )
            try:
                chunk = next(self._whole, b"") if self._whole is not None else self._range()
            except httpx2.HTTPError as error:
                if self._whole is None and tries_left and isinstance(error, httpx2.TransportError):
                    continue
                raise self._unreachable(" ".join(str(error).split())[:200] or type(error).__name__) from error
            except (httpx2.InvalidURL, UnicodeError) as error:
                raise WeightsError(f"{self._shown[:200]} is no address: {error}") from error
            if chunk or self.size == self._buffer_at:
                self._taken += len(chunk)
                self._buffer += chunk
                return
            if self._whole is not None:
                break
        raise WeightsError(f"{self._shown} ends before it should: it claims {self.size} bytes", hint="try again")

    def _range(self) -> bytes:
        """One request. Its answer may turn out to be the whole file."""
        first = self._buffer_at + len(self._buffer)
        last = first + self._range_bytes - 1
        if self.size >= 0:
            last = min(last, self.size - 1)
        stream = ExitStack()
        with stream:
            response = stream.enter_context(
                self._http.stream("GET", self._url, headers={"Range": f"bytes={first}-{last}"})
            )
            if response.status_code == 416 and first == 0:
                self.size = 0
                return b""
            if response.status_code == 200 and self.size <= 0:
                return self._begin_whole(response, stream)
            if response.status_code != 206:
                raise self._refused(response)
            body = self._partial(response, first, last)
        self._range_bytes = min(self._range_bytes * 2, RANGE_BYTES_MAX)
        return body

    def _partial(self, response: httpx2.Response, first: int, last: int) -> bytes:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or response.headers.get("Content-Encoding", "identity") != "identity":
            raise self._odd("its ranges do not say where they belong")
        start, end, size = int(match[1]), int(match[2]), int(match[3])
        if start != first or not start <= end <= last:
            raise self._odd(f"asked for bytes {first} to {last}, it sends {start} to {end}")
        if self.size not in (-1, size):
            raise self._odd(f"its file had {self.size} bytes before and has {size} now")
        self.size = size
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > end - start + 1 or time.monotonic() > self._until_s:
                raise self._odd("it sends more than was asked for, or too slowly")
        return bytes(body)

    def _begin_whole(self, response: httpx2.Response, stream: ExitStack) -> bytes:
        length = response.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,19}", length) or response.headers.get("Content-Encoding", "identity") != "identity":
            raise self._odd("it knows no ranges and does not say how long the file is")
        self.size = int(length)
        self._whole = response.iter_raw(RANGE_BYTES_MIN)
        self._exit.push(stream.pop_all())
        return next(self._whole, b"")

    def _refused(self, response: httpx2.Response) -> WeightsError:
        status = response.status_code
        if status in (401, 403):
            return WeightsError(
                f"{self._shown} may not be read (status {status})",
                hint="for the hub, set HF_TOKEN to a token that may read it; for others ~/.netrc can hold a login",
            )
        if status == 404:
            return WeightsError(f"there is no file at {self._shown}", hint="check its spelling")
        return self._unreachable(f"status {status}")

    def _unreachable(self, reason: str) -> WeightsError:
        return WeightsError(
            f"{self._shown} cannot be read: {reason}",
            hint="check the network and the proxy (HTTPS_PROXY), or try again",
        )

    def _odd(self, reason: str) -> WeightsError:
        return WeightsError(f"{self._shown} is not served as files are: {reason}", hint="try again, or another mirror")
