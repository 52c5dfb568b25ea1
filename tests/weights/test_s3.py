"""`s3://` against moto's server: a real boto3 speaks to it over HTTP."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx2
import pytest
from moto.server import ThreadedMotoServer
from tests.weights import gguf_bytes
from tests.weights.pulling import Puller
from tests.weights.s3_proxy import Proxy, Short, standing_before

from inhouse.config import WeightsSpec
from inhouse.errors import WeightsError, WeightsUnreachable
from inhouse.weights.sources import obtain
from inhouse.weights.wanted import ANY, Got, Wanted, silent

MODEL = gguf_bytes.model() + bytes(range(256)) * 400
WHO = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def who(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in WHO.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(endpoint: str, who: None) -> Iterator[Any]:
    httpx2.post(f"{endpoint}/moto-api/reset")
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="models")
    client.put_object(Bucket="models", Key="llm/tiny.gguf", Body=MODEL)
    yield client
    client.close()


class Fetch:
    def __init__(self, endpoint: str, folder: Path) -> None:
        self.spec = WeightsSpec(
            folder=folder / "hub", range_bytes=20_000, retry_pause=0, tries_max=2, s3_endpoint=endpoint
        )

    def __call__(self, source: str = "s3://models/llm/tiny.gguf", *, offline: bool = False, **more: Any) -> Got:
        wanted = Wanted(Path.cwd(), silent, offline, more.pop("forms", ANY), papers=True, spec=self.spec, **more)
        return obtain(source, wanted)

    def refused(self, source: str = "s3://models/llm/tiny.gguf", **more: Any) -> WeightsError:
        with pytest.raises(WeightsError) as caught:
            self(source, **more)
        return caught.value


@pytest.fixture
def fetch(endpoint: str, bucket: Any, tmp_path: Path) -> Fetch:
    return Fetch(endpoint, tmp_path)


def test_an_object_comes_whole_and_serves_offline(fetch: Fetch) -> None:
    got = fetch()
    assert got.path.read_bytes() == MODEL
    assert got.files[0].digest == f"sha256:{hashlib.sha256(MODEL).hexdigest()}"
    assert fetch().path == got.path
    assert fetch(offline=True).path == got.path
    assert "not on this machine" in fetch.refused("s3://models/llm/other.gguf", offline=True).message


def test_a_new_object_under_the_same_key_is_fetched(fetch: Fetch, bucket: Any) -> None:
    old = fetch()
    bucket.put_object(Bucket="models", Key="llm/tiny.gguf", Body=MODEL + b"more")
    new = fetch()
    assert new.path.read_bytes() == MODEL + b"more"
    assert new.version != old.version


def test_a_folder_is_chosen_from(fetch: Fetch, bucket: Any) -> None:
    """By quantisation, or config, tokenizer and shards by the index; the licence comes along."""
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = b'{"weight_map": {"a": "%s", "b": "%s"}}' % (shards[0].encode(), shards[1].encode())
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors.index.json": index, "LICENSE": b"MIT"}
    files |= {shard: shard.encode() * 3_000 for shard in shards} | {"tiny-Q4_0.gguf": MODEL, "tiny-Q8_0.gguf": MODEL}
    for name, raw in files.items():
        bucket.put_object(Bucket="models", Key=f"st/{name}", Body=raw)
    got = fetch("s3://models/st", forms=("safetensors", "gguf"))
    assert {file.name for file in got.files} == set(files) - {"tiny-Q4_0.gguf", "tiny-Q8_0.gguf"}
    assert (got.path / shards[1]).read_bytes() == files[shards[1]]
    assert fetch("s3://models/st/", quant="Q8_0").path.name == "tiny-Q8_0.gguf"
    assert fetch("s3://models/st", forms=("safetensors",), offline=True).path == got.path


def test_a_checksum_that_was_stored_must_be_met(fetch: Fetch, bucket: Any) -> None:
    """SHA-256 of the whole object is what S3 checked when it came; a pinned one is whoever's who pins."""
    bucket.put_object(Bucket="models", Key="llm/tiny.gguf", Body=MODEL, ChecksumAlgorithm="SHA256")
    assert fetch().path.read_bytes() == MODEL
    assert "pinned is" in fetch.refused(sha256="0" * 64).message


def test_what_is_not_there_or_not_allowed_is_told(fetch: Fetch, endpoint: str) -> None:
    assert "has no such object" in fetch.refused("s3://models/llm/none.gguf").message
    assert "has no such" in fetch.refused("s3://nothing/llm/none.gguf").message
    assert "nothing below" in fetch.refused("s3://models/empty").message
    fetch.spec = fetch.spec.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    error = fetch.refused()
    assert isinstance(error, WeightsUnreachable)
    assert "http://127.0.0.1:9 cannot be reached" in error.message


def test_without_the_extra_it_is_named(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert fetch.refused().hint == "pip install 'inhouse[s3]'"


def test_anybody_may_read_what_is_public(fetch: Fetch, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials nothing is signed."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert isinstance(fetch.refused(), WeightsUnreachable)
    bucket.put_object_acl(Bucket="models", Key="llm/tiny.gguf", ACL="public-read")
    assert fetch().path.read_bytes() == MODEL


def test_the_command_takes_the_endpoint_from_the_stack(bucket: Any, endpoint: str, tmp_path: Path) -> None:
    """Or from AWS_ENDPOINT_URL_S3, as other programs do."""
    puller = Puller("http://127.0.0.1:9", tmp_path, WHO)
    stack = tmp_path / "inhouse.yaml"
    stack.write_text(
        f"weights: {{s3_endpoint: '{endpoint}'}}\nmodels: {{chat: {{source: 's3://models/llm/tiny.gguf'}}}}\n"
    )
    assert Path(puller.run("pull", "chat", "--json").pulled["path"]).read_bytes() == MODEL
    stack.unlink()
    done = puller.run("pull", "s3://models/llm/tiny.gguf", "--offline", "--json", AWS_ENDPOINT_URL_S3=endpoint)
    assert done.pulled["sha256"] == hashlib.sha256(MODEL).hexdigest()


@pytest.fixture
def proxy(endpoint: str, bucket: Any) -> Iterator[Proxy]:
    with standing_before(endpoint) as running:
        yield running


@pytest.fixture
def faulty(proxy: Proxy, tmp_path: Path) -> Fetch:
    """By the proxy, range after range."""
    fetch = Fetch(proxy.url, tmp_path)
    fetch.spec = fetch.spec.model_copy(update={"connections": 1})
    return fetch


def none_is_here(fetch: Fetch, folder: Path) -> bool:
    """No file has the name, or can be served."""
    return not list(folder.rglob("*.gguf")) and "not on this machine" in fetch.refused(offline=True).message


def test_cut_in_the_middle_of_a_body_it_goes_on_there(faulty: Fetch, proxy: Proxy, bucket: Any, tmp_path: Path) -> None:
    """In the same run, and in the next after one that gave up; no byte that came is asked for again."""
    bucket.put_object(Bucket="models", Key="llm/tiny.gguf", Body=MODEL, ChecksumAlgorithm="SHA256")
    proxy.cut_after = [7_000, 5_000, 0, 0]
    error = faulty.refused()
    assert isinstance(error, WeightsUnreachable)
    assert "what has come stays" in str(error.hint)
    assert proxy.ranges == [f"bytes={start}-19999" for start in (0, 7_000, 12_000, 12_000)]
    assert none_is_here(faulty, tmp_path)
    assert faulty().path.read_bytes() == MODEL
    assert proxy.ranges[4:6] == ["bytes=12000-19999", "bytes=20000-39999"]


@pytest.mark.parametrize(
    ("short", "told"), [("cut off", f"{len(MODEL)} bytes were promised"), ("nothing", "the connection ended early")]
)
def test_an_object_that_comes_short_is_told(
    faulty: Fetch, proxy: Proxy, tmp_path: Path, short: Short, told: str
) -> None:
    """Again and again, and nothing passes for whole; when it comes as it should, it is fetched."""
    proxy.short = short
    for _ in range(2):
        assert told in faulty.refused().message
        assert none_is_here(faulty, tmp_path)
    proxy.short = None
    assert faulty().files[0].digest == f"sha256:{hashlib.sha256(MODEL).hexdigest()}"


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials as a role's are: with a session token, and another one whenever something is signed."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    minutes = "(datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5)).isoformat()"
    (tmp_path / "role.py").write_text(
        "import datetime, json, uuid\n"
        f"said = {{'Version': 1, 'AccessKeyId': 'me', 'SecretAccessKey': 'secret', 'Expiration': {minutes}}}\n"
        "print(json.dumps(said | {'SessionToken': uuid.uuid4().hex}))\n"
    )
    config = tmp_path / "aws"
    config.write_text(f"[default]\ncredential_process = {json.dumps(sys.executable)} {tmp_path / 'role.py'}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))


@pytest.mark.parametrize(("expire_at", "connections"), [(1, 1), (3, 1), (3, 4)])
def test_a_session_token_that_ends_is_renewed(
    faulty: Fetch, proxy: Proxy, role: None, expire_at: int, connections: int
) -> None:
    """S3 answers 400 then, at the first range or in the middle; it goes on with a new address, asked for once."""
    faulty.spec = faulty.spec.model_copy(update={"connections": connections})
    proxy.expire_at = expire_at
    got = faulty()
    assert got.path.read_bytes() == MODEL
    assert got.files[0].digest == f"sha256:{hashlib.sha256(MODEL).hexdigest()}"
    assert proxy.refused
    assert len(set(proxy.tokens)) == 2
    assert "" not in proxy.tokens


def test_a_token_that_stays_refused_is_final(faulty: Fetch, proxy: Proxy, tmp_path: Path) -> None:
    """The address is asked for anew once."""
    proxy.expired = {""}
    error = faulty.refused()
    assert isinstance(error, WeightsUnreachable)
    assert error.message == f"{proxy.url} answered 400 for s3://models/llm/tiny.gguf"
    assert proxy.refused == 2
    assert none_is_here(faulty, tmp_path)


def test_an_object_that_is_replaced_midway_is_never_pieced_together(
    faulty: Fetch, proxy: Proxy, bucket: Any, tmp_path: Path
) -> None:
    new = MODEL[:-60_000] + bytes(60_000)
    proxy.before[3] = lambda: bucket.put_object(Bucket="models", Key="llm/tiny.gguf", Body=new)
    error = faulty.refused()
    assert error.message == "s3://models/llm/tiny.gguf was replaced while it was fetched"
    assert len(proxy.ranges) == 3, "it is final"
    assert none_is_here(faulty, tmp_path)
    assert faulty().path.read_bytes() == new


def test_a_place_that_asks_to_wait_for_long_ends_the_pull(faulty: Fetch, proxy: Proxy, tmp_path: Path) -> None:
    """At once, whatever tries are left; later it goes on with what is here."""
    proxy.busy = {3: "1000000"}
    error = faulty.refused()
    assert isinstance(error, WeightsUnreachable)
    assert "asks to wait 1000000 s (status 503)" in error.message
    assert len(proxy.ranges) == 3
    assert none_is_here(faulty, tmp_path)
    assert faulty().path.read_bytes() == MODEL
    assert proxy.ranges[3] == "bytes=40000-59999"
