"""The section of the stack about the shape of a request: how deep, how many, and what becomes of what nobody knows."""

from __future__ import annotations

from typing import Literal

from inhouse.config.fields import Count, Section, setting

CHOICES_CEILING = 128
"""Each choice is a request of its own to the engine, so their number has an end that no stack can move."""


class RequestsSpec(Section):
    """The shape of a request; beyond it, 400. Its size and its time have limits in `gateway`."""

    depth_max: Count = setting(
        128, "Levels of lists and objects inside each other in a body.", unit="levels", ge=8, le=500
    )
    messages_max: Count = setting(4096, "Messages of one conversation.", unit="messages", ge=1, le=1_000_000)
    choices_max: Count = setting(16, "Answers to one prompt (`n`).", unit="answers", ge=1, le=CHOICES_CEILING)
    stop_sequences_max: Count = setting(16, "Stop sequences of one request.", unit="sequences", ge=1, le=1000)
    stop_characters_max: Count = setting(256, "Characters of one stop sequence.", unit="characters", ge=1, le=1_000_000)
    tools_max: Count = setting(256, "Tools that one request may offer.", unit="tools", ge=1, le=100_000)
    unknown_fields: Literal["ignore", "refuse"] = setting(
        "ignore", "What becomes of a field that the API does not have: passed over and named in a header, or 400."
    )


REQUESTS = RequestsSpec()
"""As they are where a stack says nothing."""
