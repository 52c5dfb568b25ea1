"""The section of a model about answers whose replica dies in the middle."""

from __future__ import annotations

from inhouse.config.fields import Count, Duration, Section, Size, setting
from inhouse.config.units import KIB, MIB


class FailoverSpec(Section):
    """What becomes of an answer that has begun when its replica dies, where there is another one."""

    enabled: bool = setting(True, "Whether it goes on at another replica, from where it stopped.")
    per_answer_max: Count = setting(
        3, "How often one answer may go on elsewhere before it ends with an error.", unit="times", ge=1, le=100
    )
    wait: Duration = setting(
        60.0, "How long it may wait for a place at another replica; it stands before all that queue.", unit="seconds",
        gt=0,
    )  # fmt: skip
    bytes_max: Size = setting(
        MIB, "Longest text, as JSON writes it, that an answer may have for it to go on.", unit="bytes", ge=KIB
    )  # fmt: skip
