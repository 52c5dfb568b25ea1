"""Which endpoints other gateways have just given up, told through Redis: a hint, never a verdict.

Key: `<prefix>:hints`, a sorted set: gateway, model and endpoint, separated by `|` → the millisecond, of that gateway's
clock, at which it left the endpoint out. What is older than `AGE_S` goes; the key lives for a minute from its last
change. While Redis is away nobody hears of anything, and nothing else happens.
"""

from __future__ import annotations

import secrets
import threading
import time

from inhouse.store.redis_scripts import RedisScripts

AGE_S = 10.0
_KEY_KEPT_MS = 60_000
_WAITING_MAX = 100


class Hints:
    """`tell` never waits; `exchange` does, and is for a thread. It closes `scripts`."""

    def __init__(self, scripts: RedisScripts, *, prefix: str) -> None:
        self._scripts = scripts
        self._key = f"{prefix}:hints"
        self._own = secrets.token_hex(6)
        self._lock = threading.Lock()
        self._waiting: dict[str, int] = {}
        self._heard: dict[bytes, float] = {}

    def tell(self, model: str, endpoint: str) -> None:
        """This gateway has left it out."""
        with self._lock:
            if len(self._waiting) < _WAITING_MAX:
                self._waiting[f"{self._own}|{model}|{endpoint}"] = _now_ms()

    def exchange(self) -> list[tuple[str, str]]:
        """Model and endpoint of what others have told since the last time. Raises `StateError`."""
        with self._lock:
            told, self._waiting = self._waiting, {}
        since = _now_ms() - round(AGE_S * 1000)
        with self._scripts.telling() as client:
            if told:
                client.zadd(self._key, told)
                client.zremrangebyscore(self._key, "-inf", since)
                client.pexpire(self._key, _KEY_KEPT_MS)
            found = dict(client.zrangebyscore(self._key, since, "+inf", withscores=True))
        own = f"{self._own}|".encode()
        news = [name for name, at in found.items() if self._heard.get(name) != at and not name.startswith(own)]
        self._heard = found
        return [(model, endpoint) for _, model, endpoint in (name.decode().split("|", 2) for name in news)]

    def close(self) -> None:
        self._scripts.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
