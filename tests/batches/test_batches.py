"""Files and batches through a real gateway, by the official client."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from batched import ended, line, results, send
from clients import client_at
from fake_engine import fake_engine
from serving import KEY, Gateway, serving, started

SLOW = """\
models:
  demo: {{endpoints: ["{url}"], engine: llama-server}}
batches: {{lease: 2 s, {more}}}
"""


def stack(url: str, **more: object) -> str:
    return SLOW.format(url=url, more=", ".join(f"{name}: {value}" for name, value in more.items()))


def test_every_line_has_one_result(client: openai.OpenAI) -> None:
    """Answers in one file, refusals in another, in the API's own shape; the counts say how many."""
    lines = [line(f"r{number}") for number in range(12)] + [line("bad", messages=[])]
    batch = ended(client, send(client, lines, metadata={"team": "support"}))
    assert (batch.status, batch.metadata) == ("completed", {"team": "support"})
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (13, 12, 1)
    good, bad = results(client, batch.output_file_id), results(client, batch.error_file_id)
    assert set(good) == {f"r{number}" for number in range(12)}
    assert all(row["response"]["status_code"] == 200 for row in good.values())
    assert good["r0"]["response"]["body"]["choices"][0]["message"]["content"]
    assert set(bad) == {"bad"}
    assert bad["bad"]["response"]["status_code"] == 400
    assert bad["bad"]["response"]["body"]["error"]["param"] == "messages"


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/completions", {"model": "demo", "prompt": "A slot is", "max_tokens": 4}),
        ("/v1/embeddings", {"model": "demo", "input": "a slot"}),
        ("/v1/responses", {"model": "demo", "input": "What is a slot?", "max_output_tokens": 16}),
    ],
)
def test_batches_of_every_endpoint(client: openai.OpenAI, endpoint: str, body: dict[str, object]) -> None:
    """Each is answered as it is at the door."""
    one = json.dumps({"custom_id": "a", "method": "POST", "url": endpoint, "body": body}).encode()
    batch = ended(client, send(client, [one], endpoint=endpoint))
    assert results(client, batch.output_file_id)["a"]["response"]["status_code"] == 200


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([b"{"], "invalid_request"),
        ([line("a"), line("a")], "duplicate_custom_id"),
        ([line("a").replace(b"/v1/chat/completions", b"/v1/embeddings")], "invalid_request"),
        ([line("a", stream=True)], "invalid_request"),
        ([line("a"), b"", line("b")], "empty_line"),
        ([], "empty_file"),
    ],
)
def test_a_file_that_is_no_batch_fails_before_anything_is_asked(
    client: openai.OpenAI, lines: list[bytes], code: str
) -> None:
    """With the line, and what is wrong with it."""
    batch = ended(client, send(client, lines))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert batch.errors.data[0].code == code


def test_files_come_back_as_they_were_and_can_be_deleted(client: openai.OpenAI) -> None:
    """Byte for byte; a deleted one is gone."""
    content = bytes(range(256)) * 5000
    file = client.files.create(file=("any.bin", content), purpose="user_data")
    assert (file.bytes, file.filename, file.purpose) == (len(content), "any.bin", "user_data")
    assert client.files.content(file.id).content == content
    assert file.id in [one.id for one in client.files.list()]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)


def test_batches_are_listed_page_by_page(client: openai.OpenAI) -> None:
    """The newest first; the client turns the pages by itself."""
    made = [send(client, [line("a")]).id for _ in range(3)]
    seen = [batch.id for batch in client.batches.list(limit=1)]
    assert [id for id in seen if id in made] == made[::-1]


def test_another_tenant_sees_nothing_of_it(running: Gateway, client: openai.OpenAI) -> None:
    """Neither files nor batches, and it can cancel none."""
    batch = send(client, [line("a")])
    made = subprocess.run(
        [sys.executable, "-m", "inhouse", "keys", "create", "--tenant", "other", "--state-dir", str(running.state_dir)],
        capture_output=True,
        text=True,
        check=True,
    )
    with client_at(running, made.stdout.strip()) as other:
        assert list(other.files.list()) == []
        assert list(other.batches.list()) == []
        for ask in (other.batches.retrieve, other.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                ask(batch.id)
        with pytest.raises(openai.NotFoundError):
            other.files.content(batch.input_file_id)


def test_a_cancelled_batch_gives_back_what_was_done(tmp_path: Path) -> None:
    """What is left is in the error file, by name; nothing more is asked of the engine."""
    with fake_engine(tokens_per_s=50, answer_tokens=20) as engine, serving(tmp_path, stack(engine.url)) as gateway:
        client = client_at(gateway)
        batch = send(client, [line(f"r{number}", max_tokens=20) for number in range(200)])
        while not (batch.request_counts and batch.request_counts.completed):
            batch = client.batches.retrieve(batch.id)
        assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
        batch = ended(client, batch)
        good, bad = results(client, batch.output_file_id), results(client, batch.error_file_id)
        assert batch.status == "cancelled"
        assert 0 < len(good) < 200
        assert set(good) | set(bad) == {f"r{number}" for number in range(200)}
        assert {row["error"]["code"] for row in bad.values()} == {"batch_cancelled"}
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(batch.id)


def test_a_batch_that_is_not_done_in_time_expires(tmp_path: Path) -> None:
    """What was done is there; the rest says so."""
    with (
        fake_engine(tokens_per_s=20, answer_tokens=20) as engine,
        serving(tmp_path, stack(engine.url, window="2 s")) as gateway,
    ):
        client = client_at(gateway)
        batch = ended(client, send(client, [line(f"r{number}", max_tokens=20) for number in range(100)]))
        bad = results(client, batch.error_file_id)
        assert batch.status == "expired"
        assert results(client, batch.output_file_id)
        assert {row["error"]["code"] for row in bad.values()} == {"batch_expired"}


def test_a_gateway_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """kill -9 again and again: every line has one result, and what was kept is not asked again."""
    with fake_engine(tokens_per_s=200, answer_tokens=10) as engine:
        text = stack(engine.url)
        gateway = started(tmp_path, text)
        try:
            gateway.wait_for(event="replica", state="ready")
            client = client_at(gateway)
            batch = send(client, [line(f"r{number}", max_tokens=10) for number in range(150)])
            for done in (10, 60):
                while (count := client.batches.retrieve(batch.id).request_counts) is None or count.completed < done:
                    pass
                gateway.stop(signal.SIGKILL)
                gateway = started(tmp_path, text)
                gateway.wait_for(event="replica", state="ready")
                client = client_at(gateway)
            batch = ended(client, batch)
        finally:
            gateway.stop()
        assert batch.status == "completed"
        assert batch.request_counts is not None
        assert batch.request_counts.completed == 150
        assert engine.stats()["requests"] <= 150 + 2 * 64  # only what was under way was asked twice


def test_interactive_requests_need_not_wait_for_a_batch(tmp_path: Path) -> None:
    """A batch leaves the slot free that the stack says: who asks meanwhile has it at once."""
    with (
        fake_engine(tokens_per_s=50, answer_tokens=50, parallel=2) as engine,
        serving(tmp_path, stack(engine.url, spare_slots=1)) as gateway,
    ):
        client = client_at(gateway)
        batch = send(client, [line(f"r{number}", max_tokens=50) for number in range(30)])
        while client.batches.retrieve(batch.id).status != "in_progress":
            pass
        for _ in range(5):
            asked = client.chat.completions.with_raw_response.create(
                model="demo", messages=[{"role": "user", "content": "hi"}], max_tokens=2
            )
            assert "x-inhouse-queue-wait" not in asked.headers
        client.batches.cancel(batch.id)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """By its own size, and by what the tenant has already; both name the limit."""
    with serving(tmp_path, "batches: {file_bytes_max: 10 KiB, tenant_bytes_max: 15 KiB}\n") as gateway:
        client = client_at(gateway)
        with pytest.raises(openai.APIStatusError, match="file_bytes_max") as caught:
            client.files.create(file=("a", b"x" * 100_000), purpose="batch")
        assert caught.value.status_code == 413
        client.files.create(file=("a", b"x" * 10_000), purpose="batch")
        with pytest.raises(openai.APIStatusError, match="tenant_bytes_max"):
            client.files.create(file=("b", b"x" * 10_000), purpose="batch")


def test_what_a_batch_says_is_in_no_log(tmp_path: Path) -> None:
    """Neither prompts nor answers nor the client's names for its lines."""
    canary = "zebra-canary-71"
    with serving(tmp_path) as gateway:
        client = client_at(gateway)
        lines = [
            line(f"{canary}-id", messages=[{"role": "user", "content": canary}]),
            b'{"custom_id": "' + canary.encode(),
        ]
        ended(client, send(client, lines[:1], metadata={"note": canary}))
        ended(client, send(client, lines))
        told = "".join(gateway.log) + json.dumps(gateway.events)
        audit = b"".join(path.read_bytes() for path in (gateway.state_dir / "audit").rglob("*") if path.is_file())
        assert canary not in told
        assert canary.encode() not in audit
    assert KEY not in told
