"""`oci://` against a registry on this machine that speaks the distribution protocol."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.weights import gguf_bytes
from tests.weights.oci_registry import INDEX, Registry, serving

from inhouse.config import WeightsSpec
from inhouse.errors import WeightsError, WeightsUnreachable
from inhouse.weights.sources import obtain
from inhouse.weights.wanted import ANY, Got, Wanted, silent

MODEL = gguf_bytes.model() + bytes(range(256)) * 200


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as running:
        running.push("acme/tiny", "q8", {"tiny.gguf": MODEL, "LICENSE": b"MIT"})
        yield running


class Fetch:
    def __init__(self, registry: Registry, folder: Path) -> None:
        self.registry = registry
        self.spec = WeightsSpec(folder=folder / "hub", range_bytes=10_000, retry_pause=0, tries_max=3)

    def __call__(self, rest: str = "acme/tiny:q8", *, offline: bool = False, into: Path | None = None) -> Got:
        wanted = Wanted(Path.cwd(), silent, offline, ANY, papers=True, into=into, spec=self.spec)
        return obtain(f"oci://{self.registry.host}/{rest}", wanted)

    def refused(self, rest: str = "acme/tiny:q8", *, offline: bool = False) -> WeightsError:
        with pytest.raises(WeightsError) as caught:
            self(rest, offline=offline)
        return caught.value


@pytest.fixture
def fetch(registry: Registry, tmp_path: Path) -> Fetch:
    return Fetch(registry, tmp_path)


def test_an_artefact_comes_by_tag_and_by_digest(registry: Registry, fetch: Fetch) -> None:
    """Its files under their titles, each of the digest that the manifest names; once for both, and then offline."""
    got = fetch()
    assert got.path.read_bytes() == MODEL
    assert {file.name: file.digest for file in got.files} == {
        "tiny.gguf": f"sha256:{hashlib.sha256(MODEL).hexdigest()}",
        "LICENSE": f"sha256:{hashlib.sha256(b'MIT').hexdigest()}",
    }
    blobs = len([path for path, _ in registry.requests if path.startswith("/storage")])
    assert fetch().path == got.path
    assert fetch(f"acme/tiny@sha256:{got.version}").path.read_bytes() == MODEL
    asked = len(registry.requests)
    assert fetch(offline=True).path == got.path
    assert len(registry.requests) == asked
    # by the digest alone is another source, with a folder of its own: the tag may go elsewhere tomorrow
    assert len([path for path, _ in registry.requests if path.startswith("/storage")]) == blobs
    assert "not on this machine" in fetch.refused("acme/tiny:other", offline=True).message


def test_a_broken_connection_goes_on_there(registry: Registry, fetch: Fetch) -> None:
    registry.break_after = [3_000, 4_000, 100]
    assert fetch().path.read_bytes() == MODEL


def test_a_token_is_got_where_the_registry_says(registry: Registry, fetch: Fetch, tmp_path: Path) -> None:
    """Without a login as anybody; with one by Docker's file; and anew when the token is taken no more."""
    registry.auth = "bearer"
    registry.expire_after = 2
    assert fetch().path.read_bytes() == MODEL
    assert registry.tokens_given == 2


def test_a_login_of_docker_is_used(registry: Registry, fetch: Fetch, tmp_path: Path) -> None:
    """For the token, or as it is where the registry wants Basic. Without one, what to do is told."""
    registry.login = "me:secret"
    for auth in ("bearer", "basic"):
        registry.auth = auth
        (tmp_path / ".docker" / "config.json").unlink(missing_ok=True)
        error = fetch.refused()
        assert isinstance(error, WeightsUnreachable)
        assert f"docker login {registry.host}" in str(error.hint)
        (tmp_path / ".docker").mkdir(exist_ok=True)
        auths = {registry.host: {"auth": base64.b64encode(b"me:secret").decode()}}
        (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": auths}))
        assert fetch().path.read_bytes() == MODEL
        fetch.spec = fetch.spec.model_copy(update={"folder": tmp_path / "second"})


def test_a_credential_helper_is_asked(
    registry: Registry, fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.auth, registry.login = "bearer", "me:secret"
    program = tmp_path / "docker-credential-vault"
    program.write_text('#!/bin/sh\nread name\necho \'{"Username": "me", "Secret": "secret"}\'\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {registry.host: "vault"}}))
    assert fetch().path.read_bytes() == MODEL


def test_an_index_leads_to_the_artefact_for_this_machine(
    registry: Registry, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By architecture; where that does not tell, the digests are asked for."""
    mine = registry.push("acme/tiny", "one", {"tiny.gguf": MODEL})
    other = registry.push("acme/tiny", "two", {"tiny.gguf": MODEL + b"x"})
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    platforms = {mine: {"architecture": "arm64", "os": "linux"}, other: {"architecture": "amd64", "os": "linux"}}
    listed = [{"digest": digest, "mediaType": "x", "platform": where} for digest, where in platforms.items()]
    registry.put("acme/tiny", "all", {"mediaType": INDEX, "manifests": listed})
    assert fetch("acme/tiny:all").path.read_bytes() == MODEL
    for one in listed:
        del one["platform"]
    registry.put("acme/tiny", "unclear", {"mediaType": INDEX, "manifests": listed})
    assert "lists 2 artefacts" in fetch.refused("acme/tiny:unclear").message


def test_what_docker_model_runner_and_ollama_push_is_understood(registry: Registry, fetch: Fetch) -> None:
    for number, kind in enumerate(("application/vnd.docker.ai.gguf.v3", "application/vnd.ollama.image.model")):
        layers = [registry.layer(MODEL, kind), registry.layer(b"{}", "application/vnd.ollama.image.params")]
        registry.put("acme/tiny", f"r{number}", {"layers": layers})
        assert fetch(f"acme/tiny:r{number}").path.read_bytes() == MODEL


def test_a_folder_of_safetensors_comes_as_one(registry: Registry, fetch: Fetch, tmp_path: Path) -> None:
    """Into the cache and, as real files, into a folder."""
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"x" * 20_000, "train.py": b"1"}
    registry.push("acme/tiny", "st", files)
    for into in (None, tmp_path / "volume"):
        got = fetch("acme/tiny:st", into=into)
        assert {file.name for file in got.files} == {"config.json", "tokenizer.json", "model.safetensors"}
        assert (got.path / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert not (tmp_path / "volume" / "model.safetensors").is_symlink()


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ({"mediaType": "application/vnd.kitops.modelkit.model.v1.tar"}, "its 1 layers are archives"),
        ({"mediaType": "x", "annotations": {}}, "none of its layers is a file with a name"),
        ({"annotations": {"org.opencontainers.image.title": "../../x.gguf"}}, "leads elsewhere"),
        ({"annotations": {"org.opencontainers.image.title": "/etc/x.gguf"}}, "leads elsewhere"),
        ({"annotations": {"org.opencontainers.image.title": "x.gguf"}, "digest": "md5:00"}, "no sha256 digest"),
        ({"annotations": {"org.opencontainers.image.title": "x.gguf"}, "size": -1}, "no size"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_told(
    registry: Registry, fetch: Fetch, layer: dict[str, object], reason: str
) -> None:
    layers = [registry.layer(MODEL, "application/octet-stream") | layer]
    registry.put("acme/tiny", "bad", {"layers": layers})
    assert reason in fetch.refused("acme/tiny:bad").message


def test_other_bytes_than_the_digest_says_are_refused(registry: Registry, fetch: Fetch) -> None:
    """Of a blob and of a manifest that was named by its digest."""
    digest = f"sha256:{hashlib.sha256(MODEL).hexdigest()}"
    registry.blobs[digest] = MODEL[:-1] + b"\0"
    assert "hashes to" in fetch.refused().message
    pinned = "sha256:" + "0" * 64
    registry.manifests["acme/tiny", pinned] = registry.manifests["acme/tiny", "q8"]
    assert "another manifest" in fetch.refused(f"acme/tiny@{pinned}").message


def test_a_registry_that_is_down_is_told_and_what_is_here_serves(registry: Registry, fetch: Fetch) -> None:
    assert "has no oci://" in fetch.refused("acme/tiny:nothing").message
    fetch()
    host, registry.host = registry.host, "127.0.0.1:9"
    assert isinstance(fetch.refused(), WeightsUnreachable)
    registry.host = host
    registry.auth, registry.login = "basic", "x:y"
    assert fetch().path.read_bytes() == MODEL
