"""Reads ranges of a remote file over HTTP. One client for all connections; proxies and authorities by the environment
(HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE), names and passwords by ~/.netrc.

Where the place leads on to a storage, the way there is kept, so that a file of many ranges does not ask the place for
each; it is asked again when the storage takes the signature no more.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from inhouse import __version__
from inhouse.errors import WeightsError
from inhouse.weights.remote import Address, Remote

if TYPE_CHECKING:
    import httpx2

    from inhouse.config.weights import WeightsSpec

CONNECT_S = 10.0
_STALE = (400, 401, 403, 404, 410)
"""400 is S3's for a signed address whose session token has ended."""
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Again(Exception):
    """A failure that may pass. `after_s`: what the place asked to wait, if it did."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_s = after_s


class NoRanges(Exception):
    """The place gives the whole file only."""


class Changed(Exception):
    """The place has another file there now."""


def client(spec: WeightsSpec) -> httpx2.Client:
    import httpx2

    return httpx2.Client(
        timeout=httpx2.Timeout(spec.silence_max, connect=CONNECT_S, pool=None),
        limits=httpx2.Limits(max_connections=spec.connections, max_keepalive_connections=spec.connections),
        headers={"User-Agent": f"inhouse/{__version__}", "Accept-Encoding": "identity"},
        follow_redirects=True,
    )


class Ranges:
    """The ranges of one file."""

    def __init__(self, http: httpx2.Client, remote: Remote) -> None:
        self._http = http
        self._remote = remote
        self._settled: Address | None = None
        self._given: Address | None = None
        self._lock = threading.Lock()
        self.url = ""
        """Where it was read from last, or was tried to."""

    @contextmanager
    def read(self, start: int, end: int) -> Iterator[Iterator[bytes]]:
        """The bytes from `start` to before `end`, at most; fewer, and an error, when the connection breaks.

        Raises Again, NoRanges, Changed, `WeightsError`.
        """
        with self._opened({"Range": f"bytes={start}-{end - 1}"}) as response:
            if response.status_code == 200:
                if self._remote.validator is not None:
                    raise Changed
                raise NoRanges
            self._check(response, start, end)
            yield _at_most(response, end - start)

    @contextmanager
    def whole(self) -> Iterator[Iterator[bytes]]:
        """All bytes, in one piece. Raises as `read` does."""
        with self._opened({}) as response:
            size = self._remote.size
            length = response.headers.get("Content-Length")
            if response.status_code != 200 or (size is not None and length is not None and int(length) != size):
                raise _other_size(self._remote, length or "another number of")
            yield _at_most(response, size)

    @contextmanager
    def _opened(self, wanted: dict[str, str]) -> Iterator[httpx2.Response]:
        """A response that is 200 or 206."""
        import httpx2

        if self._remote.validator is not None and wanted:
            wanted = {**wanted, "If-Range": self._remote.validator}
        try:
            for address, last in self._addresses():
                with self._http.stream("GET", address.url, headers={**address.headers, **wanted}) as response:
                    if response.status_code in _STALE and not last:
                        self._settled = None
                        continue
                    self._judge(response)
                    self._settled = _settled(address, response)
                    yield response
                    return
        except httpx2.TransportError as error:
            raise Again(str(error) or type(error).__name__) from error
        except (httpx2.InvalidURL, httpx2.TooManyRedirects) as error:
            raise WeightsError(f"{self._remote.name} cannot be fetched: {error}") from error

    def _addresses(self) -> Iterator[tuple[Address, bool]]:
        """Where to ask, one after the other as long as answers are stale, and which is the last."""
        if self._settled is not None:
            self.url = self._settled.url
            yield self._settled, False
        given = self._anew(None)
        self.url = given.url
        yield given, False
        yield self._anew(given), True

    def _anew(self, stale: Address | None) -> Address:
        """The address of the place, another one than the stale one; asked for once, whoever needs it."""
        with self._lock:
            if self._given is stale or self._given is None:
                self._given = self._remote.address()
            return self._given

    def _judge(self, response: httpx2.Response) -> None:
        status = response.status_code
        if status in (200, 206):
            return
        if status in _AGAIN:
            raise Again(f"status {status}", _retry_after(response))
        if status == 416:
            raise _other_size(self._remote, "fewer")
        raise self._remote.refused(status)

    def _check(self, response: httpx2.Response, start: int, end: int) -> None:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != start or int(match[2]) >= end:
            raise NoRanges
        if match[3] != "*" and self._remote.size is not None and int(match[3]) != self._remote.size:
            raise _other_size(self._remote, match[3])


def _settled(address: Address, response: httpx2.Response) -> Address:
    """Where the answer came from; what proves who asks is for the first host only."""
    if not response.history:
        return address
    first, last = response.history[0].url, response.url
    same = (first.scheme, first.host, first.port) == (last.scheme, last.host, last.port)
    return Address(str(last), address.headers if same else {})


def _at_most(response: httpx2.Response, length: int | None) -> Iterator[bytes]:
    left = length
    for data in response.iter_raw():
        if left is None:
            yield data
            continue
        if len(data) > left:
            data = data[:left]
        left -= len(data)
        if data:
            yield data


def _other_size(remote: Remote, found: str) -> WeightsError:
    return WeightsError(
        f"{remote.name} did not come whole: {remote.size} bytes were promised, the place has {found} bytes",
        hint="try again; if it stays so, the place or a proxy on the way to it is wrong",
    )


def _retry_after(response: httpx2.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if re.fullmatch(r"\d{1,12}", text) else None
