"""`inhouse audit` and `inhouse explain`, as people and scripts use them."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from inhouse.store.audit_files import AuditFiles
from serving import KEY, Gateway, serving

RECORDS: list[dict[str, object]] = [
    {"time": 1_000_000.0, "kind": "act", "act": "gateway.started", "by": "inhouse", "facts": {"version": "1"}},
    {"time": 1_000_010.0, "kind": "request", "id": "r1", "api": "chat", "tenant": "acme", "key": "k1", "model": "demo",
     "status": 200, "prompt_tokens": 1234, "completion_tokens": 7, "total_s": 1.5},
    {"time": 1_000_020.0, "kind": "request", "id": "=cmd()", "api": "chat", "tenant": "-", "key": "-", "model": "-",
     "status": 401, "code": "invalid_api_key", "facts": {"credential": "unknown"}},
    {"time": 1_000_030.0, "kind": "request", "id": "r3", "api": "chat", "tenant": "rival", "key": "k2", "model": "demo",
     "status": 502, "code": "engine_failed"},
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = AuditFiles(tmp_path, segment_bytes_max=1 << 20, keep_s=1e9)
    files.append([json.dumps(record).encode() for record in RECORDS])
    files.close()
    return tmp_path


def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("INHOUSE_")}
    return subprocess.run(
        [sys.executable, "-m", "inhouse", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=own | (env or {}),
    )


def audit(folder: Path, verb: str, *words: str) -> str:
    done = run("audit", verb, *words, "--state-dir", str(folder))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_list_for_people(folder: Path) -> None:
    """One line a record, the newest last, with what it was, who, and how it ended."""
    lines = audit(folder, "list").splitlines()
    assert [line.split()[0] for line in lines] == ["SEQ", "1", "2", "3", "4"]
    assert "gateway.started" in lines[1]
    for word in ("1970-01-12 13:46:50", "acme", "k1", "demo", "200", "1234", "r1"):
        assert word in lines[2]
    assert "401 invalid_api_key" in lines[3]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ((), [1, 2, 3, 4]),
        (("--limit", "2"), [3, 4]),
        (("--tenant", "acme"), [2]),
        (("--key", "k2"), [4]),
        (("--model", "demo"), [2, 4]),
        (("--status", "4xx"), [3]),
        (("--kind", "act"), [1]),
        (("--request", "r3"), [4]),
        (("--since", "1970-01-12T13:47:00Z"), [3, 4]),
        (("--until", "1970-01-12T13:46:45"), [1]),
        (("--since", "2 h"), []),
    ],
)
def test_filters(folder: Path, words: tuple[str, ...], numbers: list[int]) -> None:
    """Each says what it is named for; times are moments or so long ago."""
    assert [record["seq"] for record in json.loads(audit(folder, "list", "--json", *words))] == numbers


@pytest.mark.parametrize(
    "words", [("--since", "soon"), ("--status", "6xx"), ("--kind", "all"), ("--status", "x"), ("--until", "1e400 h")]
)
def test_a_filter_that_makes_no_sense(folder: Path, words: tuple[str, ...]) -> None:
    """Exit code 2, and the message names the option and the form."""
    done = run("audit", "list", *words, "--state-dir", str(folder))
    assert done.returncode == 2
    assert words[0] in done.stderr
    assert "hint:" in done.stderr


def test_an_export(folder: Path) -> None:
    """JSON lines are the very bytes of the files, so that they can be verified elsewhere; filters hold."""
    (segment,) = (folder / "audit").glob("*.jsonl")
    assert audit(folder, "export").encode() == segment.read_bytes().partition(b"\n")[2]
    (line,) = audit(folder, "export", "--tenant", "rival").splitlines()
    assert json.loads(line)["id"] == "r3"


def test_an_export_for_a_spreadsheet(folder: Path) -> None:
    """One column a field; an id that a spreadsheet would run as a formula is made harmless."""
    rows = list(csv.DictReader(io.StringIO(audit(folder, "export", "--format", "csv"))))
    assert [row["seq"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[1]["prompt_tokens"] == "1234"
    assert rows[2]["id"] == "'=cmd()"
    assert json.loads(rows[2]["facts"]) == {"credential": "unknown"}


def test_a_chain_that_is_whole(folder: Path) -> None:
    """Exit code 0, and the head, which can be noted and asked for later."""
    shown = json.loads(audit(folder, "verify", "--json"))
    assert (shown["records"], shown["first"], shown["problems"]) == (4, 1, [])
    assert "The chain is whole." in audit(folder, "verify", "--head", shown["head"])


def test_a_chain_that_somebody_changed(folder: Path) -> None:
    """Exit code 1, and each record is named; so for a head that is not in it."""
    (segment,) = (folder / "audit").glob("*.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b'"status": 401', b'"status": 200'))
    done = run("audit", "verify", "--state-dir", str(folder))
    assert done.returncode == 1
    assert "problem: record 3 was changed" in done.stdout
    assert "The chain is whole" not in done.stdout
    done = run("audit", "verify", "--head", f"9:{'0' * 64}", "--json", "--state-dir", str(folder))
    assert done.returncode == 1
    assert "reached record 9 once" in json.loads(done.stdout)["problems"][1]
    assert run("audit", "verify", "--head", "9", "--state-dir", str(folder)).returncode == 2


def test_nothing_yet(tmp_path: Path) -> None:
    """Says so, and makes no folder."""
    assert "No such records" in audit(tmp_path / "new", "list")
    assert "The chain is whole." in audit(tmp_path / "new", "verify")
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("explain"), "models: {demo: {source: demo, price: {output: 4.0}}}") as running:
        body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json", "x-request-id": "order/42?"}
        request = urllib.request.Request(running.base_url + "/chat/completions", json.dumps(body).encode(), headers)
        urllib.request.urlopen(request, timeout=30).close()
        yield running


def test_the_story_of_a_request(door: Gateway) -> None:
    """For people, with a key that is made for it and gone afterwards."""
    done = run("explain", "order/42?", "--base-url", door.base_url, "--state-dir", str(door.state_dir))
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert text.startswith("order/42?: answered\n")
    for words in ("chat, model demo, tenant default, key static-1", "status 200", "first token after", "asked demo-0"):
        assert words in text
    assert "cost: 0.0000" in text
    keys = json.loads(run("keys", "list", "--all", "--json", "--state-dir", str(door.state_dir)).stdout)
    assert [key["state"] for key in keys if key["note"] == "inhouse explain"] == ["revoked"]


def test_the_story_for_a_script(door: Gateway) -> None:
    """The API's own document, with a key of one's own from the environment."""
    env = {"INHOUSE_API_KEY": KEY, "INHOUSE_BASE_URL": door.base_url}
    done = run("explain", "order/42?", "--json", env=env)
    (story,) = json.loads(done.stdout)["requests"]
    assert (story["id"], story["status"]) == ("order/42?", 200)


def test_a_request_that_is_not_remembered(door: Gateway) -> None:
    """Exit code 1, and the way out."""
    done = run("explain", "never", "--base-url", door.base_url, "--api-key", KEY)
    assert done.returncode == 1
    assert "no request 'never'" in done.stderr
    assert "inhouse audit list --request" in done.stderr
