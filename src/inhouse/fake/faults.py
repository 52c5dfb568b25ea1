"""Which requests fail, and how: drawn from the settings' rates, in the same order for the same seed."""

from __future__ import annotations

import random
from typing import Literal

from inhouse.fake.settings import Settings

Fault = Literal["", "error", "half_open", "garbage", "truncate", "drip", "stall"]


class Faults:
    """The draws of one process. A new seed in the settings starts them over."""

    def __init__(self, settings: Settings) -> None:
        self._begin(settings.fault_seed)

    def configure(self, settings: Settings) -> None:
        if settings.fault_seed != self._seed:
            self._begin(settings.fault_seed)

    def of_connection(self, settings: Settings) -> bool:
        """Whether this connection is reset at once."""
        return settings.refuse_rate > 0 and self._random.random() < settings.refuse_rate

    def of_request(self, settings: Settings) -> Fault:
        """What is wrong with the answer to this request; at most one thing."""
        rates: tuple[tuple[Fault, float], ...] = (
            ("error", settings.error_rate),
            ("half_open", settings.half_open_rate),
            ("garbage", settings.garbage_rate),
            ("truncate", settings.truncate_rate),
            ("drip", settings.drip_rate),
            ("stall", settings.stall_rate),
        )
        if not any(rate for _, rate in rates):
            return ""
        draw = self._random.random()
        for fault, rate in rates:
            if draw < rate:
                return fault
            draw -= rate
        return ""

    def cut(self, answer_tokens: int) -> int:
        """After how many of its tokens an answer breaks off."""
        return self._random.randrange(max(1, answer_tokens))

    def _begin(self, seed: int) -> None:
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - failures, not secrets
