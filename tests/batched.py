"""Batches as a client sees them: input files, waiting for the end, results."""

from __future__ import annotations

import json
import time
from typing import Any

import openai
from openai.types import Batch

OVER = ("completed", "failed", "expired", "cancelled")


def line(custom_id: str, **body: Any) -> bytes:
    asked = {"model": "demo", "messages": [{"role": "user", "content": "What is a slot?"}], "max_tokens": 4} | body
    one = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": asked}
    return json.dumps(one).encode()


def send(client: openai.OpenAI, lines: list[bytes], **more: Any) -> Batch:
    file = client.files.create(file=("in.jsonl", b"\n".join(lines)), purpose="batch")
    asked: dict[str, Any] = {"endpoint": "/v1/chat/completions", "completion_window": "24h"} | more
    return client.batches.create(input_file_id=file.id, **asked)


def ended(client: openai.OpenAI, batch: Batch, *, within_s: float = 60.0) -> Batch:
    """The batch once it is over."""
    end = time.monotonic() + within_s
    while batch.status not in OVER:
        assert time.monotonic() < end, batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def results(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    """By custom_id; each is there once."""
    if file_id is None:
        return {}
    rows = [json.loads(row) for row in client.files.content(file_id).text.splitlines()]
    found = {row["custom_id"]: row for row in rows}
    assert len(found) == len(rows)
    return found
