"""The sentences of `announce.py`, pure: facts in, text out."""

from __future__ import annotations

import json
import shlex

from inhouse.core import FetchReport, ReplicaReport


def base_url(url: str) -> str:
    """What a client is given: with `/v1` at the end."""
    url = url.rstrip("/")
    return url if url.endswith("/v1") else f"{url}/v1"


def curl(url: str, model: str, key: str | None, *, auth: bool) -> str:
    """A request for a POSIX shell, in one line. Without a key at hand it takes $INHOUSE_API_KEY."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello, who are you?"}]})
    words = ["curl", "-s", shlex.quote(f"{url}/chat/completions"), "-H", shlex.quote("Content-Type: application/json")]
    if auth and key:
        words += ["-H", shlex.quote(f"Authorization: Bearer {key}")]
    elif auth:
        words += ["-H", '"Authorization: Bearer $INHOUSE_API_KEY"']
    return " ".join([*words, "-d", shlex.quote(body)])


def running(report: ReplicaReport) -> str:
    """`demo: llamacpp, 2 threads, 4 slots of 4096 tokens, 38 MiB, loaded in 0.4 s`; `10.0.0.7:8000 of chat: vllm`"""
    parts = [f"{report.engine}, built here" if report.native else report.engine]
    if report.gpu:
        parts.append(f"on {report.gpu}")
    if report.threads is not None:
        parts.append(f"{report.threads} threads" if report.threads != 1 else "1 thread")
    if report.slots is not None:
        slots = f"{report.slots} slots" if report.slots != 1 else "1 slot"
        parts.append(f"{slots} of {report.context_tokens} tokens" if report.context_tokens else slots)
    if report.memory_bytes is not None:
        parts.append(roughly(report.memory_bytes))
    if report.load_s is not None:
        parts.append(f"loaded in {report.load_s:.1f} s")
    alone = report.endpoint in ("", f"{report.model}-0")
    return f"{report.model if alone else f'{report.endpoint} of {report.model}'}: {', '.join(parts)}"


def fetching(report: FetchReport) -> str:
    """`chat: 120 MiB of 1.2 GiB (10 %)`"""
    text = f"{report.model}: {roughly(report.done_bytes)}"
    if report.total_bytes:
        text += f" of {roughly(report.total_bytes)} ({100 * report.done_bytes // report.total_bytes} %)"
    return text


def stopping(open_requests: int) -> str:
    """What still runs, and how not to wait for it."""
    if open_requests == 0:
        return ""
    if open_requests == 1:
        return "1 answer still runs; Ctrl-C again ends it"
    return f"{open_requests} answers still run; Ctrl-C again ends them"


def roughly(size: int) -> str:
    """Bytes to a precision that a person cares for."""
    mebibytes = size / 1024**2
    return f"{mebibytes:.0f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.1f} GiB"
