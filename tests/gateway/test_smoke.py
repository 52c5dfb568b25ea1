"""The first minute: a gateway starts, answers, and ends without leaving anything behind."""

from __future__ import annotations

from clients import client_at
from serving import Gateway


def test_a_streamed_answer_arrives_token_by_token(gateway: Gateway) -> None:
    """The official client gets several chunks, a finish reason and nothing after it."""
    client = client_at(gateway)
    stream = client.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "hello"}], stream=True, max_tokens=20
    )
    chunks = list(stream)
    assert len(chunks) > 2
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
