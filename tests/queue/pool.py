"""Gateways and workers on one queue, as child processes, as people start them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis as client_of

from fake_engine import FakeEngine, fake_engine
from services import Service
from serving import KEY, Gateway, started

WAIT_S = 30.0
LEASE_S = 1.0


@dataclass
class Worker:
    """A worker's process and the fake engine beside it."""

    process: Gateway
    engine: FakeEngine | None = None

    @property
    def log(self) -> list[str]:
        return self.process.log

    def tell(self, number: int) -> None:
        self.process.process.send_signal(number)

    def kill(self) -> None:
        """It is gone at once; its engine lives."""
        self.process.stop(signal.SIGKILL)

    def stop(self, number: int = signal.SIGTERM) -> int:
        return self.process.stop(number)


@dataclass
class Pool:
    """See the module. Models are called `demo`."""

    folder: Path
    redis: Service
    exits: contextlib.ExitStack
    settings: str = ""
    """More of the section `queue`, for all."""
    url: str = ""
    """Where gateways and workers find Redis, if not there."""
    _count: int = 0
    gateways: list[Gateway] = field(default_factory=list)

    def queue(self) -> str:
        lease = "" if "lease" in self.settings else f"lease: {LEASE_S} s"
        more = ", ".join(part for part in (lease, self.settings) if part)
        return f"queue: {{url: '{self.url or self.redis.url}', {more}}}\n"

    def gateway(self, more: str = "", model: str = "", *, ready: bool = True) -> Gateway:
        """A gateway; returns when it has seen a worker."""
        spec = f"models: {{demo: {{queued: true{', ' + model if model else ''}}}}}\n"
        gateway = started(self._next(), spec + self.queue() + more)
        self.exits.callback(gateway.stop, signal.SIGKILL)
        if ready:
            gateway.wait_for(event="replica", state="ready")
        self.gateways.append(gateway)
        return gateway

    def worker(self, *args: str, model: str = "", slots: int = 4, ready: bool = True, **engine: Any) -> Worker:
        """A worker beside a fake engine with these settings; returns when it takes jobs."""
        fake = self.exits.enter_context(fake_engine(slots=slots, **engine))
        return self._beside(fake, *args, model=model, slots=slots, ready=ready)

    def workers(self, count: int, **settings: Any) -> list[Worker]:
        """Several that are alike; they start side by side."""
        found = [self.worker(ready=False, **settings) for _ in range(count)]
        for one in found:
            one.process.wait_for(event="replica", state="ready")
        return found

    def worker_beside(self, other: Worker, *, slots: int = 4) -> Worker:
        """A new worker beside the engine of one that has gone; does not wait for it."""
        assert other.engine is not None
        return self._beside(other.engine, slots=slots, ready=False)

    def _beside(self, fake: FakeEngine, *args: str, model: str = "", slots: int, ready: bool) -> Worker:
        probe = "probe: {interval: 0.1 s, timeout: 0.5 s, connect_timeout: 0.5 s}"
        more = f", {model}" if model else ""
        spec = f"{{queued: true, endpoints: ['{fake.url}'], engine: vllm, slots: {slots}, {probe}{more}}}"
        return self.worker_of(f"models: {{demo: {spec}}}\n" + self.queue(), *args, engine=fake, ready=ready)

    def worker_of(self, stack: str, *args: str, engine: FakeEngine | None = None, ready: bool = True) -> Worker:
        folder = self._next()
        config = folder / "inhouse.yaml"
        config.write_text(stack)
        process = subprocess.Popen(
            [sys.executable, "-m", "inhouse", "worker", "--json", "--config", str(config), *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("INHOUSE_")},
            start_new_session=True,
        )
        one = Gateway(process, folder)
        one.listen()
        self.exits.callback(one.stop, signal.SIGKILL)
        if ready:
            one.wait_for(event="replica", state="ready")
        return Worker(one, engine)

    def ask_redis(self, *words: Any) -> Any:
        """One command, past all that is tested. It may block for as long as it says."""
        with client_of.Redis(port=self.redis.port, decode_responses=True, socket_timeout=None) as client:
            return client.execute_command(*words)

    def key(self, name: str) -> str:
        return f"inhouse:queue:{{demo}}:{name}"

    def workers_seen(self) -> int:
        return int(self.ask_redis("ZCARD", self.key("workers")))

    def leftovers(self) -> list[str]:
        """Keys of jobs that are in Redis."""
        return [key for key in self.ask_redis("KEYS", self.key("*")) if ":job:" in key or ":out:" in key]

    def _next(self) -> Path:
        self._count += 1
        folder = self.folder / str(self._count)
        folder.mkdir()
        return folder


def until(true: Callable[[], Any], what: str, wait_s: float = WAIT_S) -> Any:
    """What `true` returns once that is true."""
    end = time.monotonic() + wait_s
    while not (found := true()):
        assert time.monotonic() < end, f"not within {wait_s:g} s: {what}"
        time.sleep(0.01)
    return found


async def soon(true: Callable[[], Any], what: str, wait_s: float = WAIT_S) -> None:
    """As `until`, while others go on."""
    end = time.monotonic() + wait_s
    while not await asyncio.to_thread(true):
        assert time.monotonic() < end, f"not within {wait_s:g} s: {what}"
        await asyncio.sleep(0.02)


def headers() -> dict[str, str]:
    return {"authorization": f"Bearer {KEY}", "content-type": "application/json"}


def chat(text: str = "hello", **fields: Any) -> bytes:
    body = {"model": "demo", "messages": [{"role": "user", "content": text}], "max_tokens": 8, **fields}
    return json.dumps(body).encode()
