"""What the robustness tests share: the raw client, and gateways with short limits."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving import Gateway, serving, started

sys.path.insert(0, str(Path(__file__).parent))

STRICT = """
models:
  demo: {source: demo, slots: 1, threads: 1, queue_requests_max: 2}
gateway: {body_timeout: 1s, request_bytes_max: 64 KiB, headers_bytes_max: 8 KiB, connections_max: 8}
"""


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One slot, two places in the queue, 8 connections, small bodies and heads, and one second for a body."""
    with serving(tmp_path_factory.mktemp("strict"), STRICT) as running:
        yield running


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Gateway]]:
    """Starts gateways that the test is free to break; they are gone after it, with all they started and left behind."""
    running: list[Gateway] = []
    temporary = tempfile.TemporaryDirectory(prefix="t-", dir="/tmp", ignore_cleanup_errors=True)
    monkeypatch.setenv("TMPDIR", temporary.name)

    def one(stack: str = "", *, ready: bool = True, args: tuple[str, ...] = ()) -> Gateway:
        folder = tmp_path / str(len(running))
        folder.mkdir()
        gateway = started(folder, stack, args=args)
        running.append(gateway)
        if ready:
            gateway.wait_for(event="replica", state="ready")
        return gateway

    yield one
    for gateway in running:
        gateway.stop(9)
    temporary.cleanup()
