"""What clients send stays between them and the engine: in no log, no metric, no file, no other client's answer."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rawhttp import Client, Start, ask, chat, descendants, head, in_service, post, still_works, until

import engines
from inhouse.store.sqlite import SqliteStore
from inhouse.tenancy import keys
from serving import KEY

MARK = "xq7canary"


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def requests(text: str) -> Iterator[bytes]:
    """`text` in every place that a client can put it, in requests that are answered and in those that are refused."""
    tool = {"type": "function", "function": {"name": text, "description": text, "parameters": {text: text}}}
    call = {"id": text, "type": "function", "function": {"name": text, "arguments": json.dumps({text: text})}}
    said = [
        {"role": "system", "content": text},
        {"role": "user", "content": text, "name": text},
        {"role": "assistant", "tool_calls": [call], "content": text},
        {"role": "tool", "tool_call_id": text, "content": text},
    ]
    headers = (f"X-Custom: {text}", f"Cookie: {text}", f"User-Agent: {text}", f"Origin: http://{text}")
    for stream in (True, False):
        yield post(chat(stream=stream, messages=said, tools=[tool], user=text, stop=[text]), *headers)
        yield post({"model": "demo", "prompt": text, "max_tokens": 2, "stream": stream}, path="/v1/completions")
        yield post({"model": "demo", "input": text, "max_output_tokens": 2, "stream": stream}, path="/v1/responses")
        yield post(
            {"model": "demo", "messages": said[1:2], "system": text, "max_tokens": 2, "stream": stream},
            path="/v1/messages",
        )
    yield post(chat(response_format={"type": "json_schema", "json_schema": {"schema": {"const": text}}}))
    yield post(chat(response_format={"type": "json_schema", "json_schema": {"schema": {"type": text}}}))
    yield post({"text": text, "max_tokens": 2}, path="/generate")
    yield post({"model": "demo", "input": [text, text]}, path="/v1/embeddings")
    yield post({"content": text}, path="/tokenize")
    yield post({"tokens": text}, path="/detokenize")
    yield post({"model": "demo", "messages": said[1:2]}, path="/v1/messages/count_tokens")
    yield post(chat(model=text))
    yield post(chat(**{text: text}))
    yield post(chat(temperature=text))
    yield post(chat(messages=[{"role": text, "content": text}]))
    yield post(chat(messages=[{"role": "user", "content": text * 2000}]))
    yield post(f'{{"{text}": {text}'.encode())
    yield post(text.encode() + b"\xff", f"Content-Type: {text}")
    yield post(chat(), path=f"/v1/{text}?{text}={text}")
    yield head("GET", f"/v1/models/{text}?{text}")
    yield head("DELETE", f"/v1/models/{text}")
    yield head("GET", "/v1/models", f"Authorization: Bearer {text}-0123456789abcdef", key=None)
    yield head("GET", "/v1/models", f"x-api-key: ih-{text}-0123456789abcdef", key=None)
    yield head("POST", "/v1/chat/completions", f"Authorization: Basic {text}", key=None)
    yield post(chat(), f"Prefer: wait={text}", f"X-Request-Id: what I asked was {text}")
    yield f"{text} / HTTP/1.1\r\n\r\n".encode()
    yield f"GET / HTTP/1.1\r\n{text}\r\n\r\n".encode()


def test_canaries(start: Start, tmp_path: Path, temporary: Path) -> None:
    """Searched for at the log level debug, after an engine crash in the middle of an answer, in all that is written
    and in all that a client without part in it can ask for."""
    binary = engines.endless(tmp_path)
    gateway = start(
        f"models: {{demo: {{source: demo, slots: 2, threads: 1, engine_binary: {binary}}}}}\nlog: {{level: debug}}"
    )
    for request in requests(MARK):
        ask(gateway, request)
    for cut in (60, 200):
        with Client(gateway) as client:
            client.send(next(requests(MARK))[:cut])
    tokenize = post({"content": MARK}, path="/tokenize")
    with Client(gateway) as client:
        client.send(tokenize[:-3])
    with Client(gateway) as client:
        client.send(post(chat(stream=True, messages=[{"role": "user", "content": MARK}], max_tokens=1900)))
        client.read_until(b"data: ")
        os.kill(descendants(gateway.process.pid)[-1], signal.SIGKILL)
        crash = client.answer_body()
    gateway.wait_for(event="replica", state="restarting")
    gateway.wait_for(event="replica", state="ready")
    still_works(gateway)
    until(lambda: in_service(gateway) == 0, "all is over")

    with SqliteStore(gateway.state_dir) as store:
        admin = keys.mint(store, note="", rights=keys.Rights(roles=frozenset({"admin"})), now=time.time()).key
    until(
        lambda: len(ask(gateway, head("GET", "/admin/audit?limit=1000", key=admin)).json["data"]) > 30, "it is audited"
    )
    audit = ask(gateway, head("GET", "/admin/audit?limit=1000", key=admin))
    ids = [record["id"] for record in audit.json["data"] if record["kind"] == "request"]
    stories = [ask(gateway, head("GET", f"/admin/requests/{one}", key=admin)) for one in ids]
    assert {story.status for story in stories} == {200}
    statuses = {record.get("status") for record in audit.json["data"]}
    assert {200, 400, 401, 404} <= statuses, "what is audited and explained are all kinds of endings"

    seen = {
        "the event of the crash": crash,
        "the audit": audit.body,
        "stories": b"".join(story.body for story in stories),
        "keys": ask(gateway, head("GET", "/admin/keys?all=true", key=admin)).body,
        "tenants": ask(gateway, head("GET", "/admin/tenants", key=admin)).body,
        "usage": ask(gateway, head("GET", "/admin/usage", key=admin)).body,
        "metrics": ask(gateway, head("GET", "/metrics", key=None)).body,
        "slots": ask(gateway, head("GET", "/slots")).body,
        "models": ask(gateway, head("GET", "/v1/models")).body,
        "an answer": ask(gateway, post(chat())).body,
        "a refusal": ask(gateway, post(chat(model="no-such"))).body,
        "a health report": ask(gateway, head("GET", "/health", key=None)).body,
    }
    for folder in (temporary, gateway.state_dir):
        for path in folder.rglob("*"):
            seen[f"{path.name} in {folder.name}"] = str(path).encode() + (path.read_bytes() if path.is_file() else b"")
    assert any("inhouse" in name for name in seen)
    gateway.stop()
    seen["standard error"] = "".join(gateway.log).encode()
    seen["standard output"] = json.dumps(gateway.events).encode()
    assert len(gateway.log) > 20
    for where, data in seen.items():
        assert MARK.encode() not in data.lower(), where
        assert KEY.encode() not in data, where
        assert admin.encode() not in data, where
        assert admin.split("-", 3)[3].encode() not in data, where
    assert b"Traceback" not in seen["standard error"]


def test_what_the_engine_is_given_of_our_environment(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no key of ours, and no token for the hub."""
    monkeypatch.setenv("HF_TOKEN", MARK)
    gateway = start()
    (engine,) = descendants(gateway.process.pid)
    assert KEY.encode() in Path(f"/proc/{gateway.process.pid}/environ").read_bytes()
    given = Path(f"/proc/{engine}/environ").read_bytes()
    assert MARK.encode() not in given
    assert KEY.encode() not in given
