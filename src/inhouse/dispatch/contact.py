"""Whether Redis is within reach, and loops that go on when it is not. Pure, but for the pause between two tries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

_PAUSE_S_FIRST, _PAUSE_S_MAX = 0.05, 1.0


class Contact:
    """What one process knows of its Redis; times are seconds of the monotonic clock.

    `tell` hears why it is lost, once, and "" when it is there again. `fault` hears of errors that should not be.
    """

    def __init__(self, tell: Callable[[str], None], fault: Callable[[BaseException], None]) -> None:
        self._tell = tell
        self._fault = fault
        self.there_since_s: float | None = None
        self.lost_since_s: float | None = None
        self.reason = ""

    def heard(self) -> None:
        """It has answered."""
        if self.there_since_s is not None:
            return
        self.there_since_s, self.lost_since_s = time.monotonic(), None
        if self.reason:
            self.reason = ""
            self._tell("")

    def lost(self, reason: str) -> None:
        if self.lost_since_s is None:
            self.there_since_s, self.lost_since_s = None, time.monotonic()
        if not self.reason:
            self.reason = reason
            self._tell(reason)

    def there_s(self) -> float:
        """For how long it has been within reach; 0 while it is not."""
        return 0.0 if self.there_since_s is None else time.monotonic() - self.there_since_s

    def away_s(self) -> float:
        return 0.0 if self.lost_since_s is None else time.monotonic() - self.lost_since_s

    async def steadily(self, work: Callable[[], Awaitable[None]]) -> None:
        """`work` over and over, until it is cancelled. Where Redis does not answer, it is tried again after a pause.

        A cancellation that comes just as Redis's client gives up, or answers, can be lost in it: it is asked for here.
        """
        from redis.exceptions import RedisError

        pause_s = _PAUSE_S_FIRST
        task = asyncio.current_task()
        while task is None or not task.cancelling():
            try:
                await work()
            except (RedisError, OSError) as error:
                if task is not None and task.cancelling():
                    break
                self.lost(type(error).__name__)  # its text may hold an address with a password
                await asyncio.sleep(pause_s)
                pause_s = min(_PAUSE_S_MAX, 2 * pause_s)
            except Exception as error:  # noqa: BLE001 - told, and no reason to serve nobody any more
                self._fault(error)
                await asyncio.sleep(_PAUSE_S_MAX)
            else:
                pause_s = _PAUSE_S_FIRST
        raise asyncio.CancelledError
