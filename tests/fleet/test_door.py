"""`inhouse door` between a real gateway and an engine: who is let in, by certificates that come, go and change."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rawhttp import Client, ask, post, until
from test_upstreams import listed

from certificates import Authority
from fake_engine import FakeEngine
from fleet import Fakes, Load, Start, chat, seen, stack

ENGINES, GATEWAY = "engines.internal", "gateway.internal"


@dataclass
class Door:
    """A running door; `told` are the lines that it wrote."""

    process: subprocess.Popen[str]
    port: int = 0
    open_port: int = 0
    told: list[dict[str, Any]] = field(default_factory=list)

    def says(self, words: str) -> Callable[[], bool]:
        return lambda: any(words in str(line.get("reason", "")) for line in self.told)


Doors = Callable[..., Door]


@pytest.fixture
def doors() -> Iterator[Doors]:
    """Opens a door in front of an engine: `doors(engine, folder with its certificate)`."""
    with contextlib.ExitStack() as exits:

        def one(engine: FakeEngine, secret: Path, *more: str) -> Door:
            files = ("--cert", secret / "tls.crt", "--key", secret / "tls.key", "--ca", secret / "ca.crt")
            where = ("--listen", "127.0.0.1:0", "--engine", engine.url.removeprefix("http://"), "--client", GATEWAY)
            command = [sys.executable, "-m", "inhouse", "door", *map(str, files), *where, *more]
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            assert process.stderr is not None
            exits.callback(process.stderr.close)
            exits.callback(process.wait)
            began = json.loads(process.stderr.readline())
            door = Door(process, began["port"], began["open_port"] or 0)
            reader = threading.Thread(
                target=lambda: door.told.extend(json.loads(line) for line in process.stderr or ()), daemon=True
            )
            reader.start()
            exits.callback(reader.join, 5)
            exits.callback(process.kill)
            return door

        yield one


def secured(door: Door, secret: Path | None, authority: Path) -> str:
    """The stack of a gateway that shows the certificate in `secret`."""
    own = "" if secret is None else f", cert_file: {secret / 'tls.crt'}, key_file: {secret / 'tls.key'}"
    url = f"https://127.0.0.1:{door.port}"
    return stack([url], f"server_name: {ENGINES}, ca_file: {authority / 'ca.crt'}{own}", slots=8)


def test_the_right_certificate_has_an_answer(doors: Doors, fakes: Fakes, start: Start, tmp_path: Path) -> None:
    """Whole and as a stream, by an engine that speaks no TLS."""
    authority = Authority()
    (engine,) = fakes(1)
    door = doors(engine, authority.secret(tmp_path / "engine", ENGINES))
    mine = authority.secret(tmp_path / "gateway", GATEWAY, client=True)
    gateway = start(secured(door, mine, mine), ready=1)
    assert ask(gateway, post(chat())).status == 200
    assert ask(gateway, post(chat(stream=True))).body.endswith(b"data: [DONE]\n\n")
    assert seen(engine) == 2


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("none", "certificate required"),
        ("foreign", "unknown ca"),
        ("expired", "certificate expired"),
        ("not for clients", "unsupported certificate"),
        ("another's", "status 403"),
    ],
)
def test_no_other_certificate_has_one(
    doors: Doors, fakes: Fakes, start: Start, tmp_path: Path, case: str, why: str
) -> None:
    """Nothing reaches the engine; the list of endpoints says why, and so does the door."""
    authority, (engine,) = Authority(), fakes(1)
    trust = authority.secret(tmp_path / "engine", ENGINES)
    door = doors(engine, trust)
    shown = {
        "none": lambda at: None,
        "foreign": lambda at: Authority("a stranger").secret(at, GATEWAY, client=True),
        "expired": lambda at: authority.secret(at, GATEWAY, client=True, until_days=-1),
        "not for clients": lambda at: authority.secret(at, GATEWAY),
        "another's": lambda at: authority.secret(at, "shop.internal", client=True),
    }[case](tmp_path / "shown")
    gateway = start(secured(door, shown, trust), ready=0)
    gateway.wait_for(event="replica", state="unreachable")
    (row,) = listed(gateway).values()
    assert row["state"] == "unreachable"
    assert why in row["reason"]
    assert ask(gateway, post(chat())).status == 503
    assert seen(engine) == 0
    until(door.says("not let in"), "the door tells it")


@pytest.mark.parametrize(
    ("case", "why"), [("foreign", "issuer"), ("expired", "expired"), ("another's", "Hostname mismatch")]
)
def test_an_engine_with_a_wrong_certificate_gets_nothing(
    doors: Doors, fakes: Fakes, start: Start, tmp_path: Path, case: str, why: str
) -> None:
    """The gateway asks for the engine's certificate as the engine does for its."""
    authority, (engine,) = Authority(), fakes(1)
    mine = authority.secret(tmp_path / "gateway", GATEWAY, client=True)
    folder = tmp_path / "engine"
    if case == "foreign":
        Authority("a stranger").secret(folder, ENGINES, trusted=(authority,))
    elif case == "expired":
        authority.secret(folder, ENGINES, until_days=-1)
    else:
        authority.secret(folder, "elsewhere.internal")
    gateway = start(secured(doors(engine, folder), mine, mine), ready=0)
    gateway.wait_for(event="replica", state="unreachable")
    (row,) = listed(gateway).values()
    assert why in row["reason"]
    assert seen(engine) == 0


def serial(door: Door, secret: Path) -> str:
    """Of the certificate that the door shows now."""
    context = ssl.create_default_context(cafile=str(secret / "ca.crt"))
    context.load_cert_chain(secret / "tls.crt", secret / "tls.key")
    with (
        socket.create_connection(("127.0.0.1", door.port), 10) as plain,
        context.wrap_socket(plain, server_hostname=ENGINES) as tls,
    ):
        tls.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert tls.recv(12) == b"HTTP/1.1 200"  # in TLS 1.3 only this tells that we were let in
        return str((tls.getpeercert() or {})["serialNumber"])


def test_certificates_that_change_under_load(doors: Doors, fakes: Fakes, start: Start, tmp_path: Path) -> None:
    """New keys, then a new authority: nothing is restarted, no request is lost, and the old authority is out."""
    old, new = Authority("old"), Authority("new")
    (engine,) = fakes(1, slots=16)
    theirs = old.secret(tmp_path / "engine", ENGINES)
    mine = old.secret(tmp_path / "gateway", GATEWAY, client=True)
    kept = old.secret(tmp_path / "kept", GATEWAY, client=True, trusted=(old, new))
    door = doors(engine, theirs)
    gateway = start(secured(door, mine, mine), ready=1)

    def changed(authority: Authority, trusted: tuple[Authority, ...], seen_by: Path) -> None:
        before, count = serial(door, seen_by), load.total
        authority.secret(theirs, ENGINES, trusted=trusted)
        authority.secret(mine, GATEWAY, client=True, trusted=trusted)
        until(lambda: serial(door, seen_by) != before, "the door shows the new certificate")
        until(lambda: load.total > count + 20, "requests go on")

    with Load(gateway, 6, chat(max_tokens=4, stream=True)) as load:
        until(lambda: load.total > 20, "it runs")
        changed(old, (old,), kept)
        changed(old, (old, new), kept)  # both are trusted for a while
        changed(new, (old, new), kept)
        new.secret(theirs, ENGINES)
        new.secret(mine, GATEWAY, client=True)

        def out() -> bool:
            try:
                serial(door, kept)
            except (ssl.SSLError, ConnectionError):
                return True
            return False

        until(out, "the old authority is out")
        count = load.total
        until(lambda: load.total > count + 20, "requests go on")
    assert load.answers.keys() == {200}, (load.answers, load.odd[:3])


def test_files_that_are_being_written(doors: Doors, fakes: Fakes, tmp_path: Path) -> None:
    """What does not fit together is left alone, and told, until it fits."""
    authority, (engine,) = Authority(), fakes(1)
    theirs = authority.secret(tmp_path / "engine", ENGINES)
    mine = authority.secret(tmp_path / "gateway", GATEWAY, client=True)
    door = doors(engine, theirs)
    before = serial(door, mine)
    (theirs / "tls.crt").write_text("half a certi")

    def troubled() -> bool:
        assert serial(door, mine) == before
        return door.says("cannot be used")()

    until(troubled, "the door tells that it goes on with what it had")
    authority.secret(theirs, ENGINES)
    until(lambda: serial(door, mine) != before, "the door shows the new certificate")


def test_a_hang_up_goes_through_the_door(doors: Doors, fakes: Fakes, start: Start, tmp_path: Path) -> None:
    """The engine stops working for a client that has left."""
    authority, (engine,) = Authority(), fakes(1, tokens_per_s=20)
    mine = authority.secret(tmp_path / "gateway", GATEWAY, client=True)
    door = doors(engine, authority.secret(tmp_path / "engine", ENGINES))
    gateway = start(secured(door, mine, mine), ready=1)
    with Client(gateway) as client:
        client.send(post(chat(max_tokens=4000, stream=True)))
        until(lambda: engine.stats()["running"] == 1, "it runs")
    until(lambda: engine.stats()["running"] == 0, "it has stopped")


def test_a_door_that_is_told_to_stop(doors: Doors, fakes: Fakes, start: Start, tmp_path: Path) -> None:
    """What runs is finished, whole; nobody comes in any more."""
    authority, (engine,) = Authority(), fakes(1, tokens_per_s=20)
    mine = authority.secret(tmp_path / "gateway", GATEWAY, client=True)
    door = doors(engine, authority.secret(tmp_path / "engine", ENGINES), "--drain", "4")
    gateway = start(secured(door, mine, mine), ready=1)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, gateway, post(chat(max_tokens=20, stream=True)))
        until(lambda: engine.stats()["running"] == 1, "it runs")
        door.process.send_signal(signal.SIGTERM)
        assert answer.result(20).body.endswith(b"data: [DONE]\n\n")
    assert door.process.wait(20) == 0
    assert ask(gateway, post(chat())).status == 503


def test_pages_without_a_certificate(doors: Doors, fakes: Fakes, tmp_path: Path) -> None:
    """For probes and scrapers: those that are named, by GET, as the engine gives them; 503 while it is away."""
    authority, (engine,) = Authority(), fakes(1)
    pages = ("--open-port", "0", "--open", "/health", "--open", "/metrics")
    door = doors(engine, authority.secret(tmp_path / "engine", ENGINES), *pages)
    base = f"http://127.0.0.1:{door.open_port}"
    with urllib.request.urlopen(f"{base}/metrics", timeout=10) as page:
        assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert page.read()

    def status(path: str, body: bytes | None = None) -> int:
        try:
            with urllib.request.urlopen(base + path, body, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert [status("/health"), status("/health?x=1"), status("/v1/models"), status("/health", b"{}")] == [
        200, 200, 404, 404,
    ]  # fmt: skip
    engine.process.kill()
    engine.process.wait()
    assert status("/health") == 503
