"""The same promises wherever files and batches lie, and for several gateways at once."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from batched import ended, line, results, send
from clients import client_at
from fake_engine import fake_engine
from inhouse.config.batches import BatchesSpec
from inhouse.core_batch import BatchObject
from inhouse.errors import NotFound
from inhouse.store.batches import Batches, BatchRecord, Caller, FileRecord
from inhouse.store.batches_postgres import PostgresConnection
from inhouse.store.batches_sqlite import SqliteConnection
from inhouse.store.blobs import Blobs, DiskBlobs
from inhouse.store.blobs_s3 import S3Blobs
from inhouse.store.postgres_link import PostgresAddress, PostgresLink
from services import postgres_server
from serving import started

Opener = Callable[[], Batches]


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server.url


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server with the bucket `files`."""
    before = dict(os.environ)
    os.environ.update(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", AWS_REGION="us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=address, region_name="us-east-1").create_bucket(Bucket="files")
    try:
        yield address
    finally:
        server.stop()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store as often as wanted."""
    with contextlib.ExitStack() as exits:
        url = request.getfixturevalue("postgres") if request.param == "postgres" else ""

        def open_() -> Batches:
            found = PostgresConnection(PostgresLink(PostgresAddress(url))) if url else SqliteConnection(tmp_path)
            return exits.enter_context(contextlib.closing(Batches(found)))

        yield open_


@pytest.fixture(params=["disk", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "disk":
        return DiskBlobs(tmp_path / "files")
    return S3Blobs(BatchesSpec(s3_bucket="files", s3_endpoint=request.getfixturevalue("s3"), s3_prefix="t/"))


def record(name: str, *, tenant: str = "acme") -> BatchRecord:
    state = BatchObject(id=f"batch_{name}", endpoint="/v1/embeddings", input_file_id="file-1", status="in_progress")
    return BatchRecord(tenant, Caller("key", tenant, ("developer",), ("chat",), (("tokens_per_day", 5),)), state)


def unique(name: str) -> str:
    return f"{name}{time.time_ns()}"


def test_a_batch_is_one_gateways_until_its_lease_is_over(opened: Opener) -> None:
    """Nobody else gets it before; whoever had it can keep nothing of it after."""
    one, other = opened(), opened()
    while one.claim("earlier", time.time(), 3600.0):
        pass
    name = unique("a")
    one.add(record(name))
    claimed = one.claim("one", 100.0, 10.0)
    assert claimed is not None
    assert claimed.caller == record(name).caller
    assert other.claim("other", 105.0, 10.0) is None
    assert one.renew(f"batch_{name}", "one", 109.0, 10.0) is not None
    assert other.claim("other", 115.0, 10.0) is None
    assert other.claim("other", 120.0, 10.0) is not None
    assert one.renew(f"batch_{name}", "one", 121.0, 10.0) is None
    assert not one.keep(f"batch_{name}", "one", [(0, True, b"late")])
    assert other.keep(f"batch_{name}", "other", [(0, True, b"good")])
    assert list(other.results(f"batch_{name}", good=True)) == [b"good"]


def test_a_line_keeps_its_first_result(opened: Opener) -> None:
    """However often it is told."""
    store, name = opened(), unique("b")
    store.add(record(name))
    while (claimed := store.claim("me", time.time(), 3600.0)) and claimed.state.id != f"batch_{name}":
        pass
    id = f"batch_{name}"
    assert store.keep(id, "me", [(1, True, b"1"), (0, False, b"0"), (1, False, b"again")])
    assert (list(store.results(id, good=True)), list(store.results(id, good=False))) == ([b"1"], [b"0"])
    assert store.done(id) == {0, 1}
    state = store.get("acme", id)
    assert state is not None
    assert (state.request_counts.completed, state.request_counts.failed) == (1, 1)
    store.forget_results(id)
    assert store.done(id) == set()


def test_tenants_are_apart(opened: Opener) -> None:
    """A record of one is none for the other; sums are per tenant."""
    store, name = opened(), unique("c")
    store.add_file(FileRecord(f"file-{name}", f"t-{name}", "key", "a", "batch", 70, 1, None))
    store.add(record(name, tenant=f"t-{name}"))
    assert store.file("acme", f"file-{name}") is None
    assert store.get("acme", f"batch_{name}") is None
    assert store.change("acme", f"batch_{name}", lambda state: state) is None
    assert store.files_bytes(f"t-{name}") == 70
    assert [file.id for file in store.files(f"t-{name}")] == [f"file-{name}"]
    assert [state.id for state in store.list(f"t-{name}", after=None, limit=10)] == [f"batch_{name}"]


def test_contents_come_back_as_they_were(blobs: Blobs) -> None:
    """Whole, by lines, or not at all."""
    assert blobs.put("file-1", [b"a\r\nb", b"\n\nc"]) == 7
    assert b"".join(blobs.chunks("file-1")) == b"a\r\nb\n\nc"
    assert list(blobs.lines("file-1")) == [b"a", b"b", b"", b"c"]
    blobs.put("file-1", [b"other"])
    assert b"".join(blobs.chunks("file-1")) == b"other"
    blobs.remove("file-1")
    blobs.remove("file-1")
    with pytest.raises(NotFound):
        list(blobs.chunks("file-1"))


@pytest.mark.parametrize("id", ["../secret", "a/b", "", "x" * 200])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, id: str) -> None:
    """Names are those that were made here."""
    with pytest.raises(NotFound):
        list(DiskBlobs(tmp_path / "files").chunks(id))


def test_a_gateway_that_dies_is_followed_by_another(tmp_path: Path, postgres: str, s3: str) -> None:
    """On PostgreSQL and S3: one is killed in the middle, the other ends the batch; nothing doubled or lost."""
    with fake_engine(tokens_per_s=200, answer_tokens=10) as engine:
        text = (
            f'models: {{demo: {{endpoints: ["{engine.url}"], engine: llama-server}}}}\n'
            f"store: {{postgres: {{url: {postgres}}}}}\n"
            f"batches: {{s3_bucket: files, s3_endpoint: {s3}, lease: 2 s}}\n"
        )
        gateways: list[Any] = []
        try:
            for number in range(2):
                (tmp_path / str(number)).mkdir()
                gateways.append(started(tmp_path / str(number), text))
                gateways[-1].wait_for(event="replica", state="ready")
            client = client_at(gateways[0])
            batch = send(client, [line(f"r{number}", max_tokens=10) for number in range(120)])
            while (count := client.batches.retrieve(batch.id).request_counts) is None or count.completed < 20:
                pass
            gateways[0].process.kill()
            batch = ended(client_at(gateways[1]), batch)
            assert batch.status == "completed"
            assert set(results(client_at(gateways[1]), batch.output_file_id)) == {f"r{number}" for number in range(120)}
        finally:
            for gateway in gateways:
                gateway.stop()
