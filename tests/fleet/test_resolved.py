"""A name in DNS: its addresses of one family, and what an answer that is none changes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from inhouse.engines.addresses import Name
from inhouse.engines.discovery import Resolved
from inhouse.engines.http import Address

Answers = dict[socket.AddressFamily, list[str] | int]
"""By family: addresses, or the number of an error."""
FOUR, SIX = socket.AF_INET, socket.AF_INET6


async def looked_up(monkeypatch: pytest.MonkeyPatch, answers: Answers) -> tuple[list[str] | None, str]:
    """The ids that one look-up finds, None where it tells nothing; and its trouble."""

    def getaddrinfo(host: str, port: int, family: int = 0, *_: Any) -> list[Any]:
        assert host == "engines.internal"
        answer = answers[socket.AddressFamily(family)]
        if isinstance(answer, int):
            raise socket.gaierror(answer, "an error")
        return [(family, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in answer]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    source = Resolved(Name("dns", "engines.internal", "80"), None, interval_s=0.0)
    told: asyncio.Queue[list[str] | None] = asyncio.Queue()

    def found(addresses: Mapping[str, Address]) -> None:
        told.put_nowait(list(addresses))

    task = asyncio.create_task(source.run(found))
    try:
        for _ in range(5000):
            await asyncio.sleep(0.001)
            if source.trouble or not told.empty():
                break
        return None if told.empty() else told.get_nowait(), source.trouble
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("answers", "ids"),
    [
        ({FOUR: ["10.0.0.1", "10.0.0.2"], SIX: ["fd00::1", "fd00::2"]}, ["10.0.0.1:80", "10.0.0.2:80"]),
        ({FOUR: socket.EAI_NONAME, SIX: ["fd00::1"]}, ["[fd00::1]:80"]),
        ({FOUR: socket.EAI_NONAME, SIX: socket.EAI_NONAME}, []),
        ({FOUR: socket.EAI_AGAIN, SIX: ["fd00::1"]}, None),
        ({FOUR: socket.EAI_NONAME, SIX: socket.EAI_AGAIN}, None),
    ],
    ids=["both", "IPv6 only", "no such name", "IPv4 is not known", "IPv6 is not known"],
)
async def test_one_family_counts(monkeypatch: pytest.MonkeyPatch, answers: Answers, ids: list[str] | None) -> None:
    """IPv4, and IPv6 where the name has no IPv4. Where that is not known, what was known stays."""
    found, trouble = await looked_up(monkeypatch, answers)
    assert found == ids
    assert bool(trouble) == (not ids)
