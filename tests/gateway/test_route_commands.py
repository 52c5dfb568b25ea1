"""Routes changed by hand at a real gateway: nothing is lost, a restart keeps it, other processes follow."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from clients import client_at
from fake_engine import FakeEngine, fake_engine
from inhouse.store.sqlite import SqliteStore
from inhouse.tenancy.keys import Rights, mint
from serving import KEY, Gateway, started

ASK = [{"role": "user", "content": "hello"}]
STACK = """
models:
  blue: {{endpoints: [{blue}], engine: vllm, slots: 8}}
  green: {{endpoints: [{green}], engine: vllm, slots: 8, routing: {{breaker: {{failures: 1000}}}}}}
routes:
  app: {{aliases: [gpt-4o], models: [blue=1]}}
  split: {{models: [blue={share}, green=1], tenants: [acme=blue]}}
  trial:
    models: [blue=1]
    canary: {{model: green, weight: 50%, step: 50%, every: 100 ms, guard: {{min_requests: 5, ttft_p95: 9999%,
              tpot_p95: 9999%}}}}
"""
AGREE_S = 2.0


@pytest.fixture
def engines() -> Iterator[tuple[FakeEngine, FakeEngine]]:
    with fake_engine(tokens_per_s=200) as blue, fake_engine(tokens_per_s=200) as green:
        yield blue, green


class Doors:
    """Gateways that share a state folder."""

    def __init__(self, folder: Path, engines: tuple[FakeEngine, FakeEngine]) -> None:
        self._folder = folder
        self._engines = engines
        self._running: list[Gateway] = []
        self.key = ""

    def open(self, share: int = 1) -> Gateway:
        blue, green = self._engines
        stack = STACK.format(blue=blue.url, green=green.url, share=share)
        gateway = started(self._folder, stack)
        self._running.append(gateway)
        for _ in range(2):
            gateway.wait_for(event="replica", state="ready")
        if not self.key:
            with SqliteStore(gateway.state_dir) as store:
                rights = Rights(roles=frozenset({"operator"}))
                self.key = mint(store, note="", rights=rights, now=time.time()).key
        return gateway

    def close(self) -> None:
        for gateway in self._running:
            gateway.stop()

    def ask(self, gateway: Gateway, path: str = "", body: Any = None, *, key: str = "") -> tuple[int, Any]:
        """Status and document; a POST where there is a body, {} for an empty one."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {key or self.key}", "content-type": "application/json"}
        request = urllib.request.Request(f"{gateway.url}/admin/routes{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def done(self, gateway: Gateway, path: str = "", body: Any = None) -> Any:
        status, document = self.ask(gateway, path, body)
        assert status == 200, document
        return document


@pytest.fixture
def doors(tmp_path: Path, engines: tuple[FakeEngine, FakeEngine]) -> Iterator[Doors]:
    found = Doors(tmp_path, engines)
    yield found
    found.close()


def who(caller: openai.OpenAI, name: str) -> str:
    answer = caller.chat.completions.create(model=name, messages=ASK, max_tokens=1)
    return answer.model


def within(condition: Any, what: str, limit_s: float = AGREE_S) -> None:
    """Asks again and again, at most for so long."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, what


def test_a_switch_under_load(doors: Doors) -> None:
    """All that comes after it goes to the other model, no request is lost, and `back` leads back."""
    gateway = doors.open()
    over = threading.Event()
    answers: Counter[str] = Counter()

    def work() -> None:
        with client_at(gateway) as caller:
            while not over.is_set():
                try:
                    answers[who(caller, "app")] += 1
                except openai.APIError as error:
                    answers[f"lost: {error}"] += 1

    with ThreadPoolExecutor(8) as pool, client_at(gateway) as caller:
        for _ in range(8):
            pool.submit(work)
        try:
            within(lambda: answers["blue"] > 50, "it runs", 20)
            card = doors.done(gateway, "/app/switch", {"model": "green"})
            assert (card["switched"], card["models"]) == ("green", [{"model": "green", "weight": 100.0}])
            assert {who(caller, "app") for _ in range(5)} == {"green"}
            within(lambda: answers["green"] > 50, "it goes on", 20)
            doors.done(gateway, "/app/back", {})
            assert {who(caller, "gpt-4o") for _ in range(5)} == {"blue"}
        finally:
            over.set()
    assert answers.keys() == {"blue", "green"}, answers


def test_back_of_back_and_refusals(doors: Doors) -> None:
    """Back undoes itself. What cannot be done is refused with the way out."""
    gateway = doors.open()
    status, refusal = doors.ask(gateway, "/app/back", {})
    assert (status, "route switch app" in refusal["error"]["message"]) == (409, True)
    doors.done(gateway, "/app/switch", {"model": "green"})
    assert doors.done(gateway, "/gpt-4o/back", {})["switched"] is None
    assert doors.done(gateway, "/app/back", {})["switched"] == "green"
    for path, body, code, words in (
        ("/app/switch", {"model": "green"}, 409, "route back app"),
        ("/app/switch", {"model": "red"}, 400, "there are: blue, green"),
        ("/nothing/back", {}, 404, "there are: app, split, trial"),
        ("/app/weight", {"model": "blue", "weight": "10%"}, 409, "route back app"),
        ("/split/weight", {"model": "blue", "weight": "10"}, 400, "such as 25%"),
        ("/split/weight", {"model": "blue", "weight": "101%"}, 400, "0% to 100%"),
        ("/trial/weight", {"model": "blue", "weight": "10%"}, 409, "the only model"),
        ("/app/canary/start", {}, 409, "routes.app.canary.model"),
        ("/trial/canary/resume", {}, 409, "is not paused"),
        ("/trial/canary/kill", {}, 400, "promote"),
    ):
        status, refusal = doors.ask(gateway, path, body)
        assert (status, words in refusal["error"]["message"]) == (code, True), refusal


def test_who_may(doors: Doors) -> None:
    """A developer neither looks nor changes; what an operator does stands in the audit, with who it was."""
    gateway = doors.open()
    for path, body in (("", None), ("/app", None), ("/app/switch", {"model": "green"}), ("/app/back", {})):
        assert doors.ask(gateway, path, body, key=KEY)[0] == 403
    doors.done(gateway, "/app/switch", {"model": "green"})
    lines: list[dict[str, Any]] = []

    def recorded() -> bool:
        command = [sys.executable, "-m", "inhouse", "audit", "list", "--kind", "act", "--json"]
        command += ["--state-dir", str(gateway.state_dir)]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        lines[:] = [line for line in json.loads(shown) if line.get("act") == "route.changed"]
        return bool(lines)

    within(recorded, "it is recorded", 20)
    assert (lines[0]["target"], lines[0]["facts"]) == ("app", {"change": "switch", "model": "green", "weight": 100.0})
    assert lines[0]["by"] == doors.key.split("-")[2]


def test_weights_after_a_restart_and_in_another_process(doors: Doors) -> None:
    """What was set holds in every process of the state folder within 2 s, and after a restart."""
    first, second = doors.open(), doors.open()
    card = doors.done(first, "/split/weight", {"model": "green", "weight": "100%"})
    assert card["models"] == [{"model": "blue", "weight": 0.0}, {"model": "green", "weight": 100.0}]
    within(lambda: doors.done(second, "/split")["models"] == card["models"], "the other one follows")
    for gateway in (first, second):
        gateway.stop()
    third = doors.open()
    assert doors.done(third, "/split")["why"] == "weights set by hand"
    with client_at(third) as caller:
        assert {who(caller, "split") for _ in range(10)} == {"green"}


def test_a_route_that_is_changed_in_the_file(doors: Doors) -> None:
    """It begins as the file says, and the log tells so; the other routes stay as they were set."""
    first = doors.open()
    for name in ("app", "split"):
        doors.done(first, f"/{name}/switch", {"model": "green"})
    first.stop()
    second = doors.open(share=3)
    assert doors.done(second, "/split")["switched"] is None
    assert [share["weight"] for share in doors.done(second, "/split")["models"]] == [75.0, 25.0]
    assert doors.done(second, "/app")["switched"] == "green"
    assert any("route reset" in line and "split" in line for line in second.log)
    second.stop()
    assert doors.done(doors.open(), "/split")["switched"] is None


def test_a_canary_that_rolled_back(doors: Doors, engines: tuple[FakeEngine, FakeEngine]) -> None:
    """It stays back after a restart, says why, and starts over when somebody says so."""
    gateway = doors.open()
    engines[1].set(error_rate=1, error_status=500)
    with client_at(gateway) as caller:
        for _ in range(400):
            with contextlib.suppress(openai.InternalServerError):
                who(caller, "trial")
            if doors.done(gateway, "/trial")["canary"]["state"] == "rolled back":
                break
    within(lambda: doors.done(gateway, "/trial")["events"], "it is told", 5)
    gateway.stop()
    card = doors.done(doors.open(), "/trial")
    assert (card["canary"]["state"], card["canary"]["weight"]) == ("rolled back", 0.0)
    assert "requests failed" in card["canary"]["reason"]
    assert (card["events"][0]["change"], card["events"][0]["by"]) == ("rolled back", "inhouse")
    again = doors.open()
    card = doors.done(again, "/trial/canary/start", {})
    assert (card["canary"]["state"], card["canary"]["weight"]) == ("trying", 50.0)


@pytest.mark.parametrize("status", [503, 429])
def test_a_canary_whose_engine_refuses(doors: Doors, engines: tuple[FakeEngine, FakeEngine], status: int) -> None:
    """The stable version answers in its place, so that no client notices; it is taken back all the same."""
    gateway = doors.open()
    engines[1].set(error_rate=1, error_status=status)
    with client_at(gateway) as caller:

        def taken_back() -> bool:
            assert who(caller, "trial") == "blue"
            return bool(doors.done(gateway, "/trial")["canary"]["state"] == "rolled back")

        within(taken_back, "it is taken back", 30)
    card = doors.done(gateway, "/trial")["canary"]
    assert "requests failed" in card["reason"]


def test_a_canary_by_hand(doors: Doors) -> None:
    """A paused one keeps its weight whatever comes; promoted it has all, rolled back nothing; figures are shown."""
    gateway = doors.open()
    assert doors.done(gateway, "/trial/canary/pause", {})["canary"]["state"] == "paused"
    with client_at(gateway) as caller:
        for _ in range(40):
            who(caller, "trial")
        trial = doors.done(gateway, "/trial")["canary"]
        assert (trial["state"], trial["weight"]) == ("paused", 50.0)
        doors.done(gateway, "/trial/canary/promote", {})
        assert {who(caller, "trial") for _ in range(10)} == {"green"}
        doors.done(gateway, "/trial/canary/rollback", {})
        assert {who(caller, "trial") for _ in range(10)} == {"blue"}
        doors.done(gateway, "/trial/weight", {"model": "green", "weight": "30%"})
        trial = doors.done(gateway, "/trial")
    assert (trial["canary"]["state"], trial["canary"]["weight"]) == ("by hand", 30.0)
    assert [event["change"] for event in trial["events"]] == ["weight", "rollback", "promote", "pause"]
    with urllib.request.urlopen(gateway.url + "/metrics", timeout=10) as response:
        page = response.read().decode()
    assert 'inhouse_route_changes_total{change="promote",route="trial"} 1.0' in page
    within(lambda: any('"route changed"' in line and '"promote"' in line for line in gateway.log), "it is logged")


def test_the_commands(doors: Doors) -> None:
    """`inhouse route`, beside a running gateway, for people and for scripts."""
    gateway = doors.open()

    def run(*words: str, status: int = 0) -> str:
        command = [sys.executable, "-m", "inhouse", "route", *words]
        command += ["--base-url", gateway.base_url, "--state-dir", str(gateway.state_dir)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    assert "trial  blue 50%, green 50%; canary trying" in run("list")
    assert json.loads(run("weight", "split", "green", "25%", "--json"))["why"] == "weights set by hand"
    assert "app: green 100%" in run("switch", "app", "green")
    assert "switch green 100%, by " in run("show", "app")
    assert "app: blue 100%" in run("back", "app")
    assert "canary      green: paused at 50%" in run("canary", "trial", "pause")
    assert "there are: blue, green" in run("switch", "app", "red", status=1)
    assert "is not one of" in run("canary", "trial", "stop", status=2)
