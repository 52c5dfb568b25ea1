"""The section of the stack about WebSockets."""

from __future__ import annotations

from inhouse.config.fields import Count, Duration, Section, Size, setting
from inhouse.config.units import KIB, MIB


class SocketsSpec(Section):
    """WebSockets at `/v1/responses` and `/v1/chat/completions`."""

    requests_max: Count = setting(
        16, "Requests under way at once on one socket; one more is told 429.", unit="requests", ge=1, le=4096
    )
    buffer: Size = setting(
        MIB, "Events kept for a client that reads slowly; beyond it, engines are read no further.", unit="bytes", ge=KIB
    )
    ping: Duration = setting(
        20.0, "How often a socket is pinged; one that does not answer within the same time is closed.",
        unit="seconds", ge=1, le=3600,
    )  # fmt: skip
