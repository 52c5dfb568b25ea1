"""Lua scripts that run in Redis or Valkey, for threads: blocking, with short limits of time, never for an event loop.

After a failure the next calls fail at once for `_PAUSE_S`, so that a server that is away costs one limit of time, not
one for each call.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from inhouse.errors import StateError
from inhouse.store.redis_link import Link

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAUSE_S = 0.2


class Script:
    """A Lua script and its name on the server."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324 - Redis names scripts so


class RedisScripts:
    """Connections, made when they are needed. Safe between threads. Methods raise `StateError`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._client: Any = None
        self._again_s = 0.0
        self._reason = ""
        self.is_cluster = link.kind == "cluster"

    def run(self, script: Script, calls: Sequence[tuple[Sequence[str], bytes]]) -> list[Any]:
        """The answers of the script to each call (keys, argument), in one round trip, or several on a cluster."""
        with self.telling() as client:
            if self.is_cluster:
                return [self._one(client, script, keys, argument) for keys, argument in calls]
            answers = self._pipelined(client, script, calls)
            absent = [index for index, answer in enumerate(answers) if _is_absent(answer)]
            if absent:
                client.script_load(script.text)
                again = self._pipelined(client, script, [calls[index] for index in absent])
                for index, answer in zip(absent, again, strict=True):
                    answers[index] = answer
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return answers

    @contextmanager
    def telling(self) -> Iterator[Any]:
        """The client, with its errors told as `StateError`. For a while after a failure it fails at once."""
        import redis

        if time.monotonic() < self._again_s:
            raise StateError(self._reason)
        try:
            yield self.client()
        except (redis.RedisError, OSError) as error:
            self._reason = f"Redis at {self._link.shown} cannot be used: {_why(error)}"
            if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
                self._again_s = time.monotonic() + _PAUSE_S
            raise StateError(self._reason) from error

    def client(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._link.connect_blocking()
            return self._client

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    @staticmethod
    def _pipelined(client: Any, script: Script, calls: Sequence[tuple[Sequence[str], bytes]]) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        for keys, argument in calls:
            pipeline.evalsha(script.sha, len(keys), *keys, argument)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        return answers

    @staticmethod
    def _one(client: Any, script: Script, keys: Sequence[str], argument: bytes) -> Any:
        import redis

        try:
            return client.evalsha(script.sha, len(keys), *keys, argument)
        except redis.exceptions.NoScriptError:
            return client.eval(script.text, len(keys), *keys, argument)


def _is_absent(answer: object) -> bool:
    from redis.exceptions import NoScriptError

    return isinstance(answer, NoScriptError)


def _why(error: BaseException) -> str:
    """What the server or the network says; a message of theirs never holds our password."""
    text = str(error).strip() or type(error).__name__
    return text[:200]
