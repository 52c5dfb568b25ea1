"""Brings one file here: ranges in parallel into its part, hashed as they come, tried again when a connection breaks.

Threads read and write; the caller's thread hashes what is here from the beginning on, and tells how far it is. When the
caller is interrupted (Ctrl-C), the threads are told to end and the part stays.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from inhouse.config.weights import WeightsSpec
from inhouse.errors import WeightsUnreachable
from inhouse.weights.digest import READ_BYTES, hasher_of
from inhouse.weights.part import Part
from inhouse.weights.ranges import Again, Ranges
from inhouse.weights.remote import Remote

PAUSE_MAX_S = 30.0
RETRY_AFTER_MAX_S = 300.0
"""A place that asks to wait longer is not waited for: the file's lock is held meanwhile."""
HASHED_AT_ONCE_BYTES = 64 * 2**20
_TELL_S = 0.1
_END_S = 1.0

Told = Callable[[int], None]
"""Called with the bytes of the file that are here."""


def transfer(remote: Remote, part: Part, ranges: Ranges, spec: WeightsSpec, told: Told) -> dict[str, str]:
    """Fetches what the part lacks. Returns the file's digests, hexadecimal, by kind.

    Raises `WeightsError`, OSError of the disk, NoRanges when the place gives whole files only, Changed.
    """
    work = _Work(part, ranges, spec)
    count = min(spec.connections, len(part.missing()))
    kinds = {"sha256", remote.digest.kind if remote.digest else "sha256"}
    hashers = {kind: hasher_of(kind, part.size) for kind in kinds}
    threads = [threading.Thread(target=work.run, name="weights-range", daemon=True) for _ in range(count)]
    hashed = 0
    try:
        for thread in threads:
            thread.start()
        while True:
            over = work.wait(_TELL_S) if hashed == part.front else False
            told(part.done_bytes)
            front = min(part.front, hashed + HASHED_AT_ONCE_BYTES)
            while hashed < front and work.error is None:
                data = part.read(hashed, min(READ_BYTES, front - hashed))
                for hasher in hashers.values():
                    hasher.update(data)
                hashed += len(data)
            if work.error is not None:
                raise work.error
            if hashed == part.size and (over or not part.missing()):
                return {kind: hasher.hexdigest() for kind, hasher in hashers.items()}
    finally:
        work.stop.set()
        end_s = time.monotonic() + _END_S  # of all together: one that waits for a silent server writes nothing any more
        for thread in threads:
            with suppress(RuntimeError):
                thread.join(max(0.0, end_s - time.monotonic()))


class _Work:
    """What the threads of one transfer share."""

    def __init__(self, part: Part, ranges: Ranges, spec: WeightsSpec) -> None:
        self.stop = threading.Event()
        self.error: Exception | None = None
        self._changed = threading.Event()
        self._part = part
        self._ranges = ranges
        self._spec = spec
        self._todo = deque(part.missing())

    def wait(self, seconds: float) -> bool:
        """Until bytes came, or that long. Whether all work is over."""
        self._changed.wait(seconds)
        self._changed.clear()
        return self.error is not None or not self._part.missing()

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                index = self._todo.popleft()
            except IndexError:
                return
            try:
                self._fetch(index)
            except Exception as error:  # noqa: BLE001 - handed to the caller's thread
                if self.error is None:
                    self.error = error
                self.stop.set()
                self._changed.set()
                return

    def _fetch(self, index: int) -> None:
        tries = 0
        while not self.stop.is_set():
            start, end = self._part.rest(index)
            if start >= end:
                return
            try:
                with self._ranges.read(start, end) as chunks:
                    for data in chunks:
                        if self.stop.is_set():
                            return
                        self._part.write(index, data)
                        self._changed.set()
                        tries = 0
                if self._part.rest(index)[0] < end:
                    raise Again("the connection ended early")
            except Again as failure:
                tries += 1
                self.stop.wait(pause_s(failure, tries, self._ranges.url, self._spec))


def transfer_whole(remote: Remote, part: Part, ranges: Ranges, spec: WeightsSpec, told: Told) -> dict[str, str]:
    """The same from a place that gives whole files only: one connection, and from the beginning whenever it breaks."""
    kinds = {"sha256", remote.digest.kind if remote.digest else "sha256"}
    tries = 0
    while True:
        hashers = {kind: hasher_of(kind, part.size) for kind in kinds}
        part.restart()
        index = 0
        try:
            with ranges.whole() as chunks:
                for data in chunks:
                    for hasher in hashers.values():
                        hasher.update(data)
                    while data:
                        start, end = part.rest(index)
                        part.write(index, data[: end - start])
                        data = data[end - start :]
                        index += part.rest(index)[0] == end
                    told(part.done_bytes)
            if part.missing():
                raise Again("the connection ended early")
            return {kind: hasher.hexdigest() for kind, hasher in hashers.items()}
        except Again as failure:
            tries += 1
            threading.Event().wait(pause_s(failure, tries, ranges.url, spec))


def pause_s(failure: Again, tries: int, url: str, spec: WeightsSpec) -> float:
    """How long to wait after so many tries in a row. Raises `WeightsUnreachable` where no other try is worth it."""
    after_s = failure.after_s or 0.0
    if after_s > RETRY_AFTER_MAX_S:
        raise WeightsUnreachable(
            f"{_host(url)} asks to wait {after_s:.0f} s ({failure.reason}), more than {RETRY_AFTER_MAX_S:.0f} s",
            hint="what has come stays: the same command, later, goes on there",
        ) from failure
    if tries > spec.tries_max:
        raise unreachable(url, failure.reason) from failure
    return after_s or min(PAUSE_MAX_S, spec.retry_pause * 2 ** (tries - 1))


def unreachable(url: str, reason: str) -> WeightsUnreachable:
    return WeightsUnreachable(
        f"{_host(url)} cannot be reached: {' '.join(reason.split())[:300]}",
        hint="what has come stays: the same command goes on there; check the network and the proxy (HTTPS_PROXY)",
    )


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]
