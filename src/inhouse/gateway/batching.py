"""The parts of a gateway that files and batches need, alive while it serves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from inhouse.gateway.batch_runner import BatchRunner
from inhouse.gateway.batches import BatchDoor
from inhouse.gateway.files import Files
from inhouse.parts import Parts


@dataclass(frozen=True, slots=True)
class Batching:
    files: Files
    batches: BatchDoor


@contextlib.asynccontextmanager
async def batching(parts: Parts) -> AsyncIterator[Batching]:
    """Raises InhouseError where files or batches cannot be kept."""
    spec = parts.stack.batches
    with contextlib.closing(parts.stores.batches()) as batches:
        blobs = parts.stores.blobs(spec)
        runner = BatchRunner(parts, spec, batches, blobs)
        task = asyncio.create_task(runner.run(), name="batches")
        try:
            yield Batching(Files(spec, batches, blobs), BatchDoor(parts.stack, batches, runner.look))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
