"""What the fake engine costs with thousands of paced streams: `python -m benchmarks.fake_engine [STREAMS]`.

Linux only: processor time and memory are read from /proc.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import uvloop

TOKENS, TOKENS_PER_S = 200, 20
BODY = json.dumps({"messages": [{"role": "user", "content": "hello"}], "stream": True, "max_tokens": TOKENS}).encode()
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


class _Stream(asyncio.Protocol):
    """One client; its stream is over with [DONE]."""

    def __init__(self, over: asyncio.Queue[None]) -> None:
        self._over = over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(REQUEST)

    def data_received(self, data: bytes) -> None:
        if b"[DONE]" in data:
            self._over.put_nowait(None)


async def _run(port: int, streams: int) -> float:
    loop, over = asyncio.get_running_loop(), asyncio.Queue[None]()
    began_s = time.monotonic()
    for _ in range(streams):
        await loop.create_connection(lambda: _Stream(over), "127.0.0.1", port)
    for _ in range(streams):
        await over.get()
    return time.monotonic() - began_s


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def main(streams: int) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * streams + 100), most))
    flags = ["--parallel", str(streams), "--answer-tokens", str(TOKENS), "--tokens-per-s", str(TOKENS_PER_S)]
    command = [sys.executable, "-m", "inhouse", "fake-engine", *flags, "--cache", "none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as engine:
        try:
            assert engine.stdout is not None
            port = int(engine.stdout.readline().rpartition(":")[2])
            before_s = _cpu_s(engine.pid)
            wall_s = uvloop.run(_run(port, streams))
            used_s = _cpu_s(engine.pid) - before_s
            print(
                f"{streams} streams of {TOKENS_PER_S} tokens/s: {wall_s:.2f} s "
                f"(at best {(TOKENS - 1) / TOKENS_PER_S:.2f}), {100 * used_s / wall_s:.0f} % of a core, "
                f"{1e6 * used_s / streams / TOKENS:.1f} µs per token, {_resident_mib(engine.pid):.0f} MiB"
            )
        finally:
            engine.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
