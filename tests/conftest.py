"""Fixtures that several suites share."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from serving import Gateway, serving

signal.signal(signal.SIGINT, signal.default_int_handler)
"""A shell's job in the background ignores SIGINT, and so would all that the tests start and mean to stop."""


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with the demo model on 4 slots, shared by all tests that leave it as they found it."""
    with serving(tmp_path_factory.mktemp("gateway")) as running:
        yield running
