"""The section of the stack about answers that are kept a while: those made in the background, and streams to resume."""

from __future__ import annotations

from inhouse.config.fields import Count, Duration, Section, Size, setting
from inhouse.config.units import KIB, MIB


class KeptSpec(Section):
    """Answers that outlast their connection: in a gateway's memory, and with `store.redis` there, for all gateways."""

    time: Duration = setting(600.0, "How long an answer is kept once it is whole.", unit="seconds", ge=1, le=86_400)
    alone: Duration = setting(
        60.0, "How long a stream goes on for a client that is gone and may come back.", unit="seconds", ge=0, le=3600
    )
    answers_max: Count = setting(
        1000, "Answers that are kept; the oldest whole one makes room.", unit="answers", ge=1, le=1_000_000
    )
    bytes_max: Size = setting(
        64 * MIB, "Memory of a gateway's own; a new one that finds no room is told 429.", unit="bytes", ge=KIB
    )
