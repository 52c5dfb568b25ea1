"""Two Redis servers, one a replica of the other, and a Sentinel that watches them."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from services import Service, free_port, redis_server

WAIT_S = 30.0


@dataclass(frozen=True)
class Watched:
    """`url` is how the stack names them."""

    url: str
    first: Service
    second: Service
    _watch: Any

    def fail_over(self) -> None:
        """The first is killed, once the second has all that it had; returns when the second is the master."""
        with redis.Redis.from_url(self.first.url) as client:
            client.set("inhouse:marker", "1")
            assert client.execute_command("WAIT", 1, 5000) == 1
        self.first.kill()
        end_s = time.monotonic() + WAIT_S
        while int(self._watch.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")[1]) != self.second.port:
            assert time.monotonic() < end_s, "Sentinel does not name the other one"
            time.sleep(0.05)


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    port = free_port()
    for name in ("one", "two", "watch"):
        (folder / name).mkdir()
    with redis_server(folder / "one") as first:
        options = ("--replicaof", "127.0.0.1", str(first.port), "--repl-diskless-sync-delay", "0")
        with redis_server(folder / "two", *options) as second:
            config = folder / "watch" / "sentinel.conf"
            config.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder / 'watch'}\n"
                f"sentinel monitor main 127.0.0.1 {first.port} 1\nsentinel down-after-milliseconds main 500\n"
                "sentinel failover-timeout main 2000\n"
            )
            line = ["redis-server", str(config), "--sentinel"]
            sentinel = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                with redis.Redis(port=port) as watch:
                    end_s = time.monotonic() + WAIT_S
                    while not _replicas(watch):
                        assert time.monotonic() < end_s, "Sentinel does not see the replica"
                        time.sleep(0.05)
                    yield Watched(f"redis+sentinel://127.0.0.1:{port}/main", first, second, watch)
            finally:
                sentinel.kill()
                sentinel.wait()


def _replicas(watch: Any) -> bool:
    with contextlib.suppress(redis.RedisError):
        return len(watch.execute_command("SENTINEL", "REPLICAS", "main")) == 1
    return False
