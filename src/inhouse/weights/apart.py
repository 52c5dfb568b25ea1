"""Fetching in a process of its own, for a gateway that serves meanwhile and runs for months.

The libraries that fetch take tens of MiB for as long as the process lives that has imported them, and hashing gigabytes
in it would take turns with requests. So a child process fetches, tells how far it is by a line of JSON each, and ends;
the gateway is given a path. The child ends when its standard input does, which is when the gateway does.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from inhouse.config.weights import WeightsSpec
from inhouse.errors import WeightsError
from inhouse.weights.catalogue import Machine
from inhouse.weights.wanted import Wanted

LINE_BYTES_MAX = 1 << 20
TELL_S = 0.1


async def obtain_apart(source: str, wanted: Wanted) -> Path:
    """What to give to an engine. Cancelling ends the child; what had come stays. Raises `WeightsError`."""
    async with _child(job(source, wanted)) as lines:
        async for line in lines:
            said = json.loads(line)
            if said["event"] == "progress":
                wanted.progress(said["done"], said["total"])
            elif said["event"] == "failed":
                raise WeightsError(said["message"], hint=said["hint"])
            else:
                return Path(said["path"])
    raise WeightsError("the process that fetches ended without a word", hint="the log may say why; start again")


def job(source: str, wanted: Wanted) -> dict[str, Any]:
    """What the child is told."""
    return {
        "source": source,
        "base": str(wanted.base),
        "offline": wanted.offline,
        "forms": wanted.forms,
        "quant": wanted.quant,
        "sha256": wanted.sha256,
        "spec": wanted.spec.model_dump(mode="json"),
        "machine": dataclasses.asdict(wanted.machine),
    }


@contextlib.asynccontextmanager
async def _child(told: dict[str, Any]) -> AsyncIterator[asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "inhouse.weights.apart",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
        start_new_session=True,  # Ctrl-C is the gateway's to hear
    )
    assert process.stdin is not None  # noqa: S101 - asked for above
    assert process.stdout is not None  # noqa: S101
    try:
        process.stdin.write(json.dumps(told).encode() + b"\n")
        yield process.stdout
    finally:
        process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def main() -> None:
    """The child."""
    from inhouse.weights.sources import obtain

    told = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_gateway, daemon=True).start()
    next_s = 0.0

    def progress(done: int, total: int | None) -> None:
        nonlocal next_s
        now = time.monotonic()
        if now >= next_s or done == total:
            next_s = now + TELL_S
            _say({"event": "progress", "done": done, "total": total})

    wanted = Wanted(
        Path(told["base"]),
        progress,
        told["offline"],
        tuple(told["forms"]),
        told["quant"],
        told["sha256"],
        spec=WeightsSpec.model_validate(told["spec"]),
        machine=Machine(**told["machine"]),
    )
    try:
        _say({"event": "done", "path": str(obtain(told["source"], wanted).path)})
    except WeightsError as error:
        _say({"event": "failed", "message": error.message, "hint": error.hint})


def _say(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def _end_with_the_gateway() -> None:
    while os.read(0, 4096):  # not by the file object, whose lock would be held when the program ends
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
