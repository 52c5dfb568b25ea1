"""Liveness on its own port: it answers while the event loop cannot, and says so when the loop is stuck."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

import pytest

from inhouse.errors import StackError
from inhouse.gateway.liveness import STUCK_S, liveness


class Heart:
    """Stands in for the parts of a process: only the heartbeat is looked at."""

    heartbeat_s = 0.0


def ask(port: int) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=5) as response:
            return response.status, json.load(response)["status"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["status"]


def test_a_fresh_heartbeat_is_alive_and_an_old_one_is_not() -> None:
    """200 while the loop ticks; 503 once its last tick is older than the limit."""
    heart = Heart()
    with liveness(heart, "127.0.0.1", 0) as port:  # type: ignore[arg-type]
        heart.heartbeat_s = time.monotonic()
        assert ask(port) == (200, "ok")
        heart.heartbeat_s = time.monotonic() - STUCK_S - 1
        assert ask(port) == (503, "stuck")


def test_a_port_that_is_taken_is_a_mistake_in_the_stack() -> None:
    """The error names the setting."""
    with liveness(Heart(), "127.0.0.1", 0) as port:  # type: ignore[arg-type]
        with pytest.raises(StackError) as error, liveness(Heart(), "127.0.0.1", port):  # type: ignore[arg-type]
            pass
        assert error.value.where == "gateway.health_port"
