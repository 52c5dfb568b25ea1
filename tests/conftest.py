"""Fixtures that several suites share."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from clients import close_all
from serving import Gateway, serving

signal.signal(signal.SIGINT, signal.default_int_handler)
"""A shell's job in the background ignores SIGINT, and so would all that the tests start and mean to stop."""

os.environ.setdefault("OMP_THREAD_LIMIT", "1")
"""Threads of an engine that wait for one another, on cores with other work to do, take twenty times as long as one."""

LONGEST = (
    "compiled/test_compiled",
    "fleet/test_fault_storm",
    "benchmarks/test_memory",
    "demo_model/test_demo_model",
    "stores/test_outages",
    "weights/test_pull",
    "fleet/test_static",
    "queue/test_faults",
    "stores/test_shared",
    "conformance/test_schemathesis",
    "weights/test_models_cache",
    "gateway/test_route_commands",
    "cli/test_audit",
    "deploy/test_trees",
    "queue/test_operating",
    "engines/test_native_build",
    "hf_engine/test_started_here",
    "hf_engine/test_engine",
    "fleet/test_failover",
    "queue/test_end_to_end",
    "cli/test_serve",
    "store/test_ledger_random",
    "simulation/test_autoscale",
    "robustness/test_ten_thousand",
    "stores/test_storm",
    "stores/test_exact",
    "queue/test_storm",
    "benchmarks/test_gateway",
    "docs/test_examples",
)
"""Files that take long begin first, so that no process has one of them left when the others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {f"tests/{name}.py": rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(ranks)))


def pytest_xdist_auto_num_workers() -> int:
    """Half of what tests do is to wait: two processes for each core."""
    return min(8, 2 * len(os.sched_getaffinity(0)))


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with the demo model on 4 slots, shared by all tests that leave it as they found it."""
    with serving(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(autouse=True)
def _clients_closed() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_open() -> Iterator[None]:
    """What a file leaves open fails that file, and not whatever test runs when the collector comes by."""
    yield
    gc.collect()
