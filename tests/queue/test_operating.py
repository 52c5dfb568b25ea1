"""What operators see of a queue and do with it: backlog, dead letters, a worker's own port, content that is sealed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pool import Pool, chat, until
from rawhttp import Client, ask, gauge, post
from streams import body_of, words_of

from serving import Gateway

SECRET = "of-the-suite-0123456789abcdef"


def inhouse(pool: Pool, *args: str, status: int = 0) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INHOUSE_")}
    command = [sys.executable, "-m", "inhouse", *args, "--queue", pool.redis.url, "--model", "demo"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, cwd=pool.folder)
    assert done.returncode == status, done
    return done.stdout


def test_dead_letters_are_listed_replayed_and_dropped(pool: Pool) -> None:
    """No content without being asked for it; a replay that is answered takes the letter away."""
    pool.settings = "attempts_max: 1"
    worker = pool.worker(error_rate=1.0, model="routing: {breaker: {failures: 1000}, outliers: {requests_min: 100000}}")
    gateway = pool.gateway()
    for text in ("a secret prompt", "another one"):
        assert ask(gateway, post(json.loads(chat(text)))).status == 502
    rows = json.loads(inhouse(pool, "queue", "dead", "list", "--json"))["rows"]
    assert [(row["tenant"], row["attempts"], row["why"]) for row in rows] == [("default", 1, "engine_failed")] * 2
    assert "secret" not in inhouse(pool, "queue", "dead", "show", rows[1]["id"])
    assert "a secret prompt" in inhouse(pool, "queue", "dead", "show", rows[1]["id"], "--show-content")
    told = json.loads(inhouse(pool, "queue", "dead", "replay", rows[1]["id"], "--json", status=1))
    assert not told["answered"]
    assert worker.engine is not None
    worker.engine.set(error_rate=0.0)
    told = json.loads(inhouse(pool, "queue", "dead", "replay", rows[1]["id"], "--json"))
    assert told == {"id": rows[1]["id"], "model": "demo", "answered": True}
    inhouse(pool, "queue", "dead", "drop", rows[0]["id"][:12])
    left = json.loads(inhouse(pool, "queue", "dead", "list", "--json"))["rows"]
    assert len(left) == 1  # that of the replay that failed
    inhouse(pool, "queue", "dead", "drop", "--all")
    assert json.loads(inhouse(pool, "queue", "show", "--json"))["rows"][0]["dead"] == 0


def test_the_backlog_is_that_of_all_gateways(pool: Pool) -> None:
    """Each gateway tells its own part and, under `queue`, the whole; before any worker is there as well."""
    gateways = [pool.gateway(ready=False) for _ in range(2)]
    clients = [Client(gateways[number % 2]) for number in range(5)]
    for number, client in enumerate(clients):
        client.send(post(body_of(str(number), 20)))

    def backlog(number: int) -> Any:
        return gateways[number].get("/health/backlog")["models"]["demo"]

    until(lambda: all(backlog(number)["queue"]["requests"] == 5 for number in (0, 1)), "both know of all")
    assert [backlog(number)["requests"] for number in (0, 1)] == [3, 2]
    assert backlog(0)["queue"]["tokens"] > 5 * 20
    assert backlog(0)["queue"].get("workers", 0) == 0
    assert gauge(gateways[1], "inhouse_job_queue_requests") == 5
    assert gauge(gateways[1], "inhouse_job_queue_gateways") == 2
    pool.worker(slots=2)
    for client in clients:
        assert client.answer().status == 200
        client.close()
    until(lambda: backlog(0)["queue"]["requests"] == 0, "all are answered")
    assert backlog(0)["queue"]["slots"] == 2


def test_a_workers_own_port(pool: Pool) -> None:
    """Alive from the start, ready while it takes jobs, not ready while Redis is away."""
    worker = pool.worker("--health-port", "0")
    url = worker.process.events[0]["health_url"]

    def status(path: str) -> int:
        try:
            with urllib.request.urlopen(url + path, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert status("/health/live") == 200
    until(lambda: status("/health/ready") == 200, "it is ready")
    gateway = pool.gateway()
    assert ask(gateway, post(json.loads(chat()))).status == 200

    def metrics() -> str:
        with urllib.request.urlopen(url + "/metrics", timeout=10) as response:
            return str(response.read().decode())

    until(lambda: 'inhouse_worker_jobs_total{how="done",model="demo"} 1.0' in metrics(), "the job is counted")
    pool.redis.kill()
    until(lambda: status("/health/ready") == 503, "it knows that Redis is away")
    assert status("/health/live") == 200
    pool.redis.start()
    until(lambda: status("/health/ready") == 200, "it is back")


def test_with_a_key_nothing_lies_in_redis_in_the_clear(pool: Pool, tmp_path: Path) -> None:
    """Neither prompt nor answer, in no key and in no line of the append-only file; takeovers go on as ever."""
    key = tmp_path / "key"
    key.write_text(SECRET)
    pool.settings = f"encryption_key: 'file:{key}'"
    pair = pool.workers(2, tokens_per_s=40)
    gateway = pool.gateway()
    asked = body_of("thelighthouse of the sea", 40)
    with Client(gateway) as client:
        client.send(post(asked))
        beginning = client.read_until(b'"content":"')
        running = until(
            lambda: [one for one in pair if one.engine is not None and one.engine.stats()["running"]], "one has it"
        )
        running[0].kill()
        answer = beginning + client.read_until(b"\r\n0\r\n\r\n")
    said = b"".join(part.partition(b'"')[0] for part in answer.split(b'"content":"')[1:]).decode()
    assert said == words_of(asked)
    written = b"".join(file.read_bytes() for file in pool.redis.folder.rglob("*") if file.is_file())
    assert b"inhouse:queue:{demo}" in written
    assert b"thelighthouse" not in written
    assert b'"content":' not in written


def test_a_tenant_at_two_gateways_gets_no_more_than_its_share(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tenants of one weight: one asks at both gateways, the other at one. Each gets about half of the workers."""
    keys = {name: f"test-key-of-tenant-{name}-0123456789abcdef" for name in "ab"}
    for name, key in keys.items():
        monkeypatch.setenv(f"KEY_OF_{name.upper()}", key)
    more = "keys: {one: {from_env: KEY_OF_A, tenant: a}, two: {from_env: KEY_OF_B, tenant: b}}\n"
    pool.settings = "ahead: 1"
    pool.worker(slots=2, tokens_per_s=400)
    gateways = [pool.gateway(more) for _ in range(2)]
    counts: Counter[str] = Counter()
    over = threading.Event()

    def client(name: str, gateway: Gateway, number: int) -> None:
        while not over.is_set():
            answer = ask(gateway, post({**body_of(f"{name} {number}", 8), "stream": False}, key=keys[name]))
            assert answer.status == 200, answer
            counts[name] += 1

    places = [("a", gateways[0])] * 6 + [("a", gateways[1])] * 6 + [("b", gateways[1])] * 6
    with ThreadPoolExecutor(len(places)) as threads:
        work = [threads.submit(client, name, gateway, number) for number, (name, gateway) in enumerate(places)]
        until(lambda: counts["a"] + counts["b"] > 40, "they are under way")
        counts.clear()
        until(lambda: counts["a"] + counts["b"] > 200, "enough of them")
        over.set()
        for one in work:
            one.result()
    part = counts["b"] / (counts["a"] + counts["b"])
    assert 0.4 < part < 0.6, counts
