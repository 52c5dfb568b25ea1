"""The sections of the stack about what is remembered of requests: the audit, and explanations. Never content."""

from __future__ import annotations

from typing import Literal

from inhouse.config.fields import Count, Duration, Section, Size, setting
from inhouse.config.units import KIB, MIB


class AuditSpec(Section):
    """The record of who did what: one line for each request and each administrative act."""

    enabled: bool = setting(True, "Whether it is written, into the folder `audit` of the state folder.")
    on_failure: Literal["continue", "refuse"] = setting(
        "continue", "What happens to requests while it cannot be written: answered all the same, or told 503."
    )
    keep: Duration = setting(90 * 86400.0, "How long a record is kept, in whole days (UTC).", unit="seconds", ge=86400)
    segment_bytes_max: Size = setting(
        64 * MIB, "Size at which a new file is begun; each day (UTC) begins one too.", unit="bytes", ge=4 * KIB
    )
    pending_max: Count = setting(
        20_000, "Records that may wait to be written; beyond it they are lost and counted.", unit="records", ge=1
    )
    client_address: bool = setting(False, "Whether a record has the address that the connection came from.")


class ExplainSpec(Section):
    """What `inhouse explain` can tell of: the last requests, in memory."""

    requests_max: Count = setting(
        2_000, "Requests that are remembered; 0 remembers none.", unit="requests", ge=0, le=1_000_000
    )
    bytes_max: Size = setting(4 * MIB, "Memory for them, about; the oldest ones make room.", unit="bytes", ge=0)
