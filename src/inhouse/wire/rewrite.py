"""Jobs written anew with another prompt or another length of their answer."""

from __future__ import annotations

from typing import Any

import msgspec

from inhouse.wire.call import Job

_encode = msgspec.json.Encoder().encode


def rewritten(jobs: tuple[Job, ...], **changes: Any) -> tuple[Job, ...]:
    """The jobs with `changes` to their structs (`messages`, `prompt`, `max_tokens`). A shared body stays shared."""
    found: list[Job] = []
    for at, job in enumerate(jobs):
        if at and job is jobs[at - 1]:
            found.append(found[-1])
            continue
        source = msgspec.structs.replace(job.source, **changes)
        found.append(
            Job(job.path, _encode(source), job.streams, job.prompt_param, source.max_tokens, source, job.deterministic)
        )
    return tuple(found)
