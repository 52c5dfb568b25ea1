"""The files that a batch ends with: what was answered, and what was not. Blocks; to be called in a thread."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from inhouse.config.batches import BatchesSpec
from inhouse.store.batches import Batches, BatchRecord, FileRecord
from inhouse.store.blobs import Blobs


@dataclass(slots=True)
class Made:
    good: int = 0
    bad: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None


def write_results(batches: Batches, blobs: Blobs, record: BatchRecord, batch: str, spec: BatchesSpec) -> Made:
    """Twice has the same result as once: the files' names are the batch's. Raises StateError."""
    made = Made()
    now = int(time.time())
    for good, word in ((True, "output"), (False, "error")):
        count = 0

        def counted(rows: Iterator[bytes]) -> Iterator[bytes]:
            nonlocal count
            for row in rows:
                count += 1
                yield row + b"\n"

        id = f"file-{batch.removeprefix('batch_')}{word}"
        size = blobs.put(id, counted(batches.results(batch, good=good)))
        if not count:
            blobs.remove(id)
            continue
        name = f"{batch}_{word}.jsonl"
        kept_until = now + int(spec.files_kept)
        caller = record.caller
        batches.add_file(
            FileRecord(id, record.tenant, caller.key_id, name, "batch_output", size, now * 1_000_000, kept_until)
        )
        if good:
            made.good, made.output_file_id = count, id
        else:
            made.bad, made.error_file_id = count, id
    return made
