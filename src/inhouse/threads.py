"""Work that waits for disks and networks, beside the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar, cast

_T = TypeVar("_T")


async def in_thread(work: Callable[[], _T]) -> _T:
    """Runs `work` in a daemon thread: a download that hangs never keeps the process from ending."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[_T] = loop.create_future()

    def settle(value: _T | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(cast(_T, value))

    def run() -> None:
        try:
            value, error = work(), None
        except Exception as failure:  # noqa: BLE001 - handed to the waiter
            value, error = None, failure
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, daemon=True, name="weights").start()
    return await result
