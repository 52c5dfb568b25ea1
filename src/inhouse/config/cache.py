"""The section of a model about answers that are given again."""

from __future__ import annotations

from inhouse.config.fields import Count, Duration, Section, Size, setting
from inhouse.config.units import KIB, MIB


class CacheSpec(Section):
    """Answers to deterministic requests (temperature 0, or a seed), given again to the same tenant."""

    enabled: bool = setting(False, "Whether answers are kept and shared at all.")
    bytes_max: Size = setting(
        64 * MIB, "Memory for answers; those asked for the longest ago go first; with 0 none is kept.", unit="bytes"
    )
    entry_bytes_max: Size = setting(
        MIB, "Largest answer that is kept, and how far a slow reader may fall behind others.", unit="bytes", ge=KIB
    )
    shared: bool = setting(False, "Whether `store.redis` keeps them too, so that one gateway's are all gateways'.")
    shared_bytes_max: Size = setting(256 * MIB, "Memory for them in Redis; the oldest make room.", unit="bytes", ge=MIB)
    age_max: Duration = setting(3600.0, "How long an answer is given again.", unit="seconds", gt=0)
    coalesce: bool = setting(True, "Whether identical requests that run at once share one generation.")
    sharers_max: Count = setting(
        256, "Requests that share one generation; one more starts another.", unit="requests", ge=1, le=1_000_000
    )
