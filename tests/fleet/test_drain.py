"""Draining, what can be seen of endpoints, and the ways to find them: names in DNS, keys, copies started here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rawhttp import Answer, Client, ask, descendants, head, post, until

from fleet import Fakes, Load, Start, chat, seen, stack, together
from inhouse.store.sqlite import SqliteStore
from inhouse.tenancy.keys import Rights, mint
from serving import Gateway


def operator_of(gateway: Gateway) -> str:
    with SqliteStore(gateway.state_dir) as store:
        return mint(store, note="", rights=Rights(roles=frozenset({"operator"})), now=time.time()).key


def admin(gateway: Gateway, key: str, path: str, method: str = "GET") -> Answer:
    return ask(gateway, head(method, path, "Content-Length: 0", key=key))


def listed(gateway: Gateway, key: str) -> dict[str, Any]:
    return {row["id"]: row for row in admin(gateway, key, "/admin/endpoints").json["endpoints"]}


def audit_of(gateway: Gateway) -> list[str]:
    (file,) = (gateway.state_dir / "audit").glob("*.jsonl")
    return file.read_text().splitlines()


def test_drained_and_undrained(fakes: Fakes, start: Start) -> None:
    """A drained endpoint gets nothing new and its stream goes on to its end; undrained it is used again."""
    engines = fakes(2, tokens_per_s=20, metrics_as="vllm")
    gateway = start(stack(engines, "routing: {policy: round-robin}"), ready=2)
    key = operator_of(gateway)
    until(lambda: admin(gateway, key, "/admin/endpoints").status == 200, "the key holds")
    with Client(gateway) as client:
        client.send(post(chat(stream=True, max_tokens=40)))
        client.read_until(b"data: ")
        busy = next(engine for engine in engines if seen(engine))
        name = busy.url.removeprefix("http://")
        drained = admin(gateway, key, f"/admin/endpoints/{name}/drain", "POST").json["endpoints"]
        assert [(row["id"], row["state"], row["drained"], row["in_flight"]) for row in drained] == [
            (name, "draining", True, 1)
        ]
        before = seen(busy)
        assert [answer.status for answer in together(gateway, [chat(f"{n}", max_tokens=1) for n in range(6)])] == [
            200
        ] * 6
        assert seen(busy) == before
        assert client.answer_body().endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    admin(gateway, key, f"/admin/endpoints/{name}/undrain", "POST")
    together(gateway, [chat(f"{n}", max_tokens=1) for n in range(6)])
    assert seen(busy) > before
    assert admin(gateway, key, "/admin/endpoints/nothing:1/drain", "POST").status == 404
    gateway.stop()
    acts = [act for line in audit_of(gateway) if (act := json.loads(line)).get("target") == name]
    assert [(act["act"], act["by"]) for act in acts] == [
        (f"endpoint.{what}", key.split("-")[2]) for what in ("drained", "undrained")
    ]


def test_all_drained(fakes: Fakes, start: Start) -> None:
    """There is nobody to wait for: 503 at once."""
    gateway = start(stack(fakes(1)), ready=1)
    key = operator_of(gateway)
    until(lambda: admin(gateway, key, "/admin/endpoints").status == 200, "the key holds")
    for name in listed(gateway, key):
        admin(gateway, key, f"/admin/endpoints/{name}/drain", "POST")
    assert ask(gateway, post(chat())).status == 503


def test_who_may_look_and_who_may_drain(fakes: Fakes, start: Start) -> None:
    gateway = start(stack(fakes(1)), ready=1)
    assert ask(gateway, head("GET", "/admin/endpoints")).status == 403
    assert ask(gateway, head("GET", "/admin/endpoints", key=None)).status == 401
    assert ask(gateway, head("POST", "/admin/endpoints/x/drain", "Content-Length: 0")).status == 403


def test_what_is_known_and_what_is_not(fakes: Fakes, start: Start) -> None:
    """A figure that the engine does not report is null in the list and has no sample in the metrics."""
    told, silent = fakes(1, metrics_as="vllm") + fakes(1, metrics_as="none")
    gateway = start(stack([told, silent]), ready=2)
    key = operator_of(gateway)
    until(lambda: admin(gateway, key, "/admin/endpoints").status == 200, "the key holds")
    rows = listed(gateway, key)
    first, second = (rows[engine.url.removeprefix("http://")] for engine in (told, silent))
    assert (first["running"], first["waiting"]) == (0, 0)
    assert [second[name] for name in ("running", "waiting", "kv_used", "prefix_hits", "ttft_s")] == [None] * 5
    page = ask(gateway, head("GET", "/metrics", key=None)).body.decode()
    assert f'inhouse_endpoint_running{{endpoint="{first["id"]}",model="demo"}} 0.0' in page
    assert f'inhouse_endpoint_running{{endpoint="{second["id"]}"' not in page
    assert f'inhouse_endpoint_ready{{endpoint="{second["id"]}",model="demo"}} 1.0' in page


def test_metrics_that_fail_while_the_engine_is_well(fakes: Fakes, start: Start) -> None:
    """What it reported becomes unknown with age; it stays ready, and reports again."""
    (engine,) = fakes(1, metrics_as="vllm")
    gateway = start(stack([engine], "routing: {figures_max_age: 0.5 s}"), ready=1)
    key = operator_of(gateway)
    until(lambda: admin(gateway, key, "/admin/endpoints").status == 200, "the key holds")

    def figures() -> list[Any]:
        (row,) = listed(gateway, key).values()
        assert row["state"] == "ready"
        return [row[name] for name in ("running", "waiting", "kv_used", "observed_ago_s")]

    assert figures()[:2] == [0, 0]
    engine.set(metrics_as="none")
    until(lambda: figures() == [None] * 4, "they are unknown")
    assert "inhouse_endpoint_running{" not in ask(gateway, head("GET", "/metrics", key=None)).body.decode()
    engine.set(metrics_as="vllm")
    until(lambda: figures()[:2] == [0, 0], "they are known again")


def test_the_command(fakes: Fakes, start: Start) -> None:
    """`inhouse endpoints list` and `drain`, beside a running gateway, with a key of their own."""
    gateway = start(stack(fakes(1)), ready=1)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INHOUSE_")}
    where = ["--base-url", gateway.base_url, "--state-dir", str(gateway.state_dir), "--json"]

    def run(*words: str) -> Any:
        command = [sys.executable, "-m", "inhouse", "endpoints", *words, *where]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["endpoints"]

    (row,) = run("list")
    assert (row["state"], row["engine"]) == ("ready", "vllm")
    assert run("drain", row["id"])[0]["drained"] is True
    assert run("undrain", row["id"])[0]["state"] == "ready"


def test_a_name_in_dns(fakes: Fakes, start: Start) -> None:
    """Its addresses are endpoints."""
    (engine,) = fakes(1)
    port = engine.url.rsplit(":", 1)[1]
    gateway = start(stack([f"dns://localhost:{port}"]), ready=1)
    assert ask(gateway, post(chat())).status == 200


def test_a_name_that_dns_does_not_have(fakes: Fakes, start: Start) -> None:
    """The log says so, once; the other endpoints serve."""
    gateway = start(stack([*(engine.url for engine in fakes(1)), "dns://nowhere.invalid:80"]), ready=1)
    until(lambda: any("endpoints looked up" in line for line in gateway.log), "it is told")
    (line,) = [line for line in gateway.log if "endpoints looked up" in line]
    told = json.loads(line)
    assert (told["level"], told["model"]) == ("warning", "demo")
    assert "nowhere.invalid" in told["reason"]
    assert ask(gateway, post(chat())).status == 200


def test_a_key_for_the_upstream(fakes: Fakes, start: Start, tmp_path: Path) -> None:
    """It is read from its file; one that is not there stops the start and is named."""
    (engine,) = fakes(1)
    secret = tmp_path / "secret"
    secret.write_text("upstream-secret\n")
    gateway = start(stack([engine], f'api_key: "file:{secret}"'), ready=1)
    assert ask(gateway, post(chat())).status == 200
    assert "upstream-secret" not in "".join(gateway.log)
    secret.unlink()
    config = tmp_path / "inhouse.yaml"
    config.write_text(stack([engine], f'api_key: "file:{secret}"'))
    command = [sys.executable, "-m", "inhouse", "serve", "--config", str(config), "--state-dir", str(tmp_path / "s")]
    done = subprocess.run([*command, "--port", "0"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "models.demo.api_key" in done.stderr


def test_copies_that_are_started_here(start: Start) -> None:
    """Two copies of one engine share the work; one that is killed is felt by nobody and comes back."""
    gateway = start("models: {demo: {source: demo, replicas: 2, slots: 2, threads: 1}}", ready=2)
    body = chat(max_tokens=1)
    with Load(gateway, 4, body) as load:
        until(lambda: load.total > 10, "it runs")
        os.kill(descendants(gateway.process.pid)[0], signal.SIGKILL)
        gateway.wait_for(event="replica", state="restarting")
        gateway.wait_for(event="replica", state="ready")
    assert load.answers.keys() == {200}, (load.answers, load.odd[:3])
