"""`inhouse models list --cache | rm | verify | bundle | unbundle`, on what `inhouse pull` fetched."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from tests.weights import gguf_bytes
from tests.weights.hub_server import COMMIT, Hub, Repo, serving
from tests.weights.pulling import Puller

from inhouse.errors import WeightsError
from inhouse.weights import bundle

MODEL = gguf_bytes.model() + os.urandom(200_000)
SHA256 = hashlib.sha256(MODEL).hexdigest()
REPO = "hf://acme/tiny-GGUF"
SOURCE = f"{REPO}/tiny-Q8_0.gguf"
SMALL = {"README.md": b"---\nlicense: apache-2.0\n---\n# Tiny", "LICENSE": b"Apache"}


@pytest.fixture
def server() -> Iterator[Hub]:
    with serving() as running:
        running.repos["acme/tiny-GGUF"] = Repo(
            {"tiny-Q8_0.gguf": MODEL, "tiny-Q4_0.gguf": MODEL[:-5], **SMALL}, small=set(SMALL)
        )
        yield running


@pytest.fixture
def puller(server: Hub, tmp_path: Path) -> Puller:
    puller = Puller(server.url, tmp_path)
    assert puller.run("pull", SOURCE).code == 0
    return puller


def listed(puller: Puller) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(puller.run("models", "list", "--cache", "--json").out)["cache"]
    return rows


def elsewhere(tmp_path: Path) -> Puller:
    """A machine without network."""
    folder = tmp_path / "site"
    folder.mkdir(exist_ok=True)
    return Puller("http://127.0.0.1:9", folder)


def test_the_cache_is_listed_with_what_uses_it(puller: Puller) -> None:
    """Source, revision, files and sizes; models of the stack by name."""
    (puller.folder / "inhouse.yaml").write_text(f"models: {{chat: {{source: '{SOURCE}'}}}}")
    (row,) = listed(puller)
    assert (row["source"], row["version"], row["revisions"], row["models"]) == (REPO, COMMIT, ["main"], ["chat"])
    assert row["bytes"] == len(MODEL) + sum(map(len, SMALL.values()))
    table = puller.run("models", "list", "--cache")
    assert table.out.splitlines()[1].split() == [REPO, "main", "3", "196.6", "KiB", "-", "chat"]
    assert "in all" in table.err


def test_what_an_interrupted_fetch_left_is_listed_and_taken_away(server: Hub, puller: Puller) -> None:
    server.break_after = [50_000] + [0] * 100
    puller.run("pull", f"{REPO}/tiny-Q4_0.gguf", INHOUSE_WEIGHTS__CONNECTIONS="1", INHOUSE_WEIGHTS__TRIES_MAX="1")
    (row,) = listed(puller)
    assert row["partial_bytes"] == 50_000
    assert json.loads(puller.run("models", "rm", "--partial", "--json").out) == {"bytes": 50_000, "removed": True}
    assert listed(puller)[0]["partial_bytes"] == 0


def test_a_file_is_taken_away_and_what_others_have_stays(server: Hub, puller: Puller) -> None:
    """By file, by revision, or all of a source; `--dry-run` only tells."""
    server.repos["acme/tiny-GGUF"].revisions["v1"] = "f" * 40
    puller.run("pull", f"{SOURCE}@v1")
    puller.run("pull", f"{REPO}/tiny-Q4_0.gguf")
    assert "would be free" in puller.run("models", "rm", SOURCE, "--dry-run").out
    assert len(listed(puller)) == 2
    assert json.loads(puller.run("models", "rm", f"{SOURCE}@v1", "--json").out)["bytes"] == 0
    assert puller.run("pull", SOURCE, "--offline").code == 0
    assert puller.run("pull", f"{SOURCE}@v1", "--offline").code == 1
    assert json.loads(puller.run("models", "rm", SOURCE, "--json").out)["bytes"] == len(MODEL)
    assert puller.run("pull", f"{REPO}/tiny-Q4_0.gguf", "--offline").code == 0
    assert puller.run("models", "rm", REPO).code == 0
    assert listed(puller) == []
    assert not list(puller.cache.glob("models--*"))
    assert "nothing of" in puller.run("models", "rm", REPO).err
    assert puller.run("models", "rm").code == 2
    assert "lies where it was put" in puller.run("models", "rm", "demo").err


def test_damage_is_found_and_mended(puller: Puller) -> None:
    """A flipped bit of a large and of a small file; `--fix` and a pull bring both back."""
    done = puller.run("models", "verify", "--json")
    assert (done.code, done.events[-1]["good"]) == (0, 3)
    for name in ("tiny-Q8_0.gguf", "LICENSE"):
        path = next(puller.cache.rglob(name))
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.resolve().write_bytes(bytes(raw))
    done = puller.run("models", "verify", SOURCE)
    assert done.code == 1
    assert f"not to sha256:{SHA256}" in done.out
    assert puller.run("models", "verify", "--fix").code == 1
    assert puller.run("pull", SOURCE).code == 0
    assert puller.run("models", "verify").code == 0
    assert next(puller.cache.rglob("tiny-Q8_0.gguf")).read_bytes() == MODEL


def test_a_bundle_serves_a_site_without_network(puller: Puller, tmp_path: Path) -> None:
    """Weights, digests and licence in one file, the same bytes each time; there the same source resolves offline."""
    for name in ("one.tar", "two.tar"):
        done = puller.run("models", "bundle", SOURCE, "--out", name, "--json")
        assert done.code == 0
    one = puller.folder / "one.tar"
    assert one.read_bytes() == (puller.folder / "two.tar").read_bytes()
    (model,) = json.loads(done.out)["models"]
    assert model["licence"] == "apache-2.0"
    assert {file["name"]: file["sha256"] for file in model["files"]}["tiny-Q8_0.gguf"] == SHA256
    site = elsewhere(tmp_path)
    assert "licence apache-2.0" in site.run("models", "unbundle", str(one)).out
    done = site.run("pull", SOURCE, "--json", INHOUSE_WEIGHTS__OFFLINE="true")
    assert Path(done.pulled["path"]).read_bytes() == MODEL
    assert {file["name"] for file in done.pulled["files"]} == {"tiny-Q8_0.gguf", *SMALL}
    assert site.run("models", "verify").code == 0
    assert site.run("models", "unbundle", str(one)).code == 0  # again: nothing changes
    assert len(listed(site)) == 1


def test_a_bundle_goes_through_a_pipe_into_a_folder(puller: Puller, tmp_path: Path) -> None:
    """Also of a model that is no fetched one; a folder per model, real files."""
    (puller.folder / "own.gguf").write_bytes(gguf_bytes.model())
    stack = f"models: {{chat: {{source: '{SOURCE}'}}, own: {{source: ./own.gguf}}}}"
    (puller.folder / "inhouse.yaml").write_text(stack)
    site = elsewhere(tmp_path)
    words = [sys.executable, "-m", "inhouse", "models", "bundle", "--out", "-"]
    with subprocess.Popen(words, env=puller.environment(), cwd=puller.folder, stdout=subprocess.PIPE) as sender:
        receiver = subprocess.run(
            [sys.executable, "-m", "inhouse", "models", "unbundle", "-", "--to", "models"],
            env=site.environment(),
            cwd=site.folder,
            stdin=sender.stdout,
            capture_output=True,
            timeout=60,
        )
    assert (sender.returncode, receiver.returncode) == (0, 0)
    assert (site.folder / "models" / "chat" / "tiny-Q8_0.gguf").read_bytes() == MODEL
    assert (site.folder / "models" / "own" / "own.gguf").read_bytes() == gguf_bytes.model()
    puller.run("models", "bundle", "--out", "all.tar")
    assert "--to FOLDER" in site.run("models", "unbundle", str(puller.folder / "all.tar")).err


def test_a_short_name_travels_as_what_it_stood_for(puller: Puller, tmp_path: Path) -> None:
    """The site may have another machine, for which the name would stand for another file."""
    entry = "house: {repository: acme/tiny-GGUF, files: {Q8_0: {file: tiny-Q8_0.gguf, bytes: 1 MB}}, licence: mit}\n"
    (puller.folder / "names.yaml").write_text(entry)
    stack = "weights: {catalogue: ./names.yaml}\nmodels: {chat: {source: house}}\n"
    (puller.folder / "inhouse.yaml").write_text(stack)
    assert listed(puller)[0]["models"] == ["chat"]
    (model,) = json.loads(puller.run("models", "bundle", "chat", "--out", "b.tar", "--json").out)["models"]
    assert (model["name"], model["source"]) == ("chat", SOURCE)
    site = elsewhere(tmp_path)
    assert site.run("models", "unbundle", str(puller.folder / "b.tar")).code == 0
    assert site.run("pull", SOURCE, "--offline").code == 0
    assert json.loads(puller.run("models", "rm", "chat", "--json").out)["bytes"] == len(MODEL)


def test_damage_never_travels(puller: Puller) -> None:
    """Neither out of the cache into a bundle, nor out of a bundle into a cache."""
    puller.run("models", "bundle", SOURCE, "--out", "good.tar")
    raw = bytearray((puller.folder / "good.tar").read_bytes())
    raw[raw.index(MODEL) + 1000] ^= 1
    (puller.folder / "bad.tar").write_bytes(bytes(raw))
    (puller.folder / "cut.tar").write_bytes(bytes(raw[: len(raw) // 2]))
    site = elsewhere(puller.folder)
    assert "its list says" in site.run("models", "unbundle", str(puller.folder / "bad.tar")).err
    assert site.run("models", "unbundle", str(puller.folder / "cut.tar")).code == 1
    assert listed(site) == []
    assert not list((site.folder / "hf").rglob("*.unbundled"))
    blob = next(puller.cache.rglob("tiny-Q8_0.gguf")).resolve()
    blob.write_bytes(MODEL[:-1] + b"\0")
    done = puller.run("models", "bundle", SOURCE, "--out", "worse.tar", "--offline")
    assert (done.code, (puller.folder / "worse.tar").exists()) == (1, False)
    assert "is damaged" in done.err


def packed(listing: object, *members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> io.BytesIO:
    out = io.BytesIO()
    raw = json.dumps(listing).encode()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in (("inhouse-bundle.json", raw), *members):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.type = kind if name != "inhouse-bundle.json" else tarfile.REGTYPE
            tar.addfile(member, io.BytesIO(content))
    return io.BytesIO(out.getvalue())


X = hashlib.sha256(b"x").hexdigest()
FILE = {"name": "x.gguf", "bytes": 1, "sha256": X, "digest": f"sha256:{X}"}
ONE = {"name": "x", "source": "hf://a/b", "version": "0" * 40, "licence": None, "files": [FILE]}
HOSTILE = {
    "a name that leads elsewhere": [ONE | {"files": [FILE | {"name": "../../x"}]}],
    "an absolute name": [ONE | {"files": [FILE | {"name": "/etc/x"}]}],
    "a version that leads elsewhere": [ONE | {"version": "../../x"}],
    "a digest that leads elsewhere": [ONE | {"files": [FILE | {"digest": "sha256:../../../x"}]}],
    "a hash that leads elsewhere": [ONE | {"files": [FILE | {"sha256": "../x"}]}],
    "a digest of other bytes": [ONE | {"files": [FILE | {"digest": "sha256:" + "0" * 64}]}],
    "a revision that leads elsewhere": [ONE | {"source": "hf://a/b@../../../x"}],
    "a revision that is a path": [ONE | {"source": "hf://a/b@/home/u/.ssh/authorized_keys"}],
    "a negative size": [ONE | {"files": [FILE | {"bytes": -1}]}],
    "no source": [ONE | {"source": "gopher://x"}],
    "strange fields": [ONE | {"files": [FILE | {"mode": 0o777}]}],
    "no list": "models",
}


@pytest.mark.parametrize("models", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_list_is_refused_before_anything_is_written(models: object, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="list of the bundle cannot be read"):
        unpacked(packed({"format": 1, "models": models}, (f"blobs/{FILE['sha256']}", b"x")), tmp_path)
    assert list(tmp_path.iterdir()) == []


def unpacked(stream: io.BytesIO, folder: Path) -> list[bundle.Bundled]:
    return bundle.read(stream, lambda models: None, lambda sha256: folder / sha256, lambda count: None)


def test_members_that_are_not_listed_are_refused(tmp_path: Path) -> None:
    """Others, twice the same, of another size, links and devices."""
    listing, good = {"format": 1, "models": [ONE]}, (f"blobs/{FILE['sha256']}", b"x")
    assert unpacked(packed(listing, good), tmp_path)[0].name == "x"
    for stream in (
        packed(listing, good, ("../x", b"x")),
        packed(listing, good, good),
        packed(listing, (good[0], b"xx")),
        packed(listing, good, kind=tarfile.SYMTYPE),
        packed(listing, good, kind=tarfile.CHRTYPE),
    ):
        with pytest.raises(WeightsError, match="a member that its list does not"):
            unpacked(stream, tmp_path / "other")
    with pytest.raises(WeightsError, match="1 of its files are missing"):
        unpacked(packed(listing), tmp_path / "other")


@pytest.mark.parametrize("here", [False, True], ids=["new", "of bytes that are here"])
def test_a_file_that_git_knows_by_another_name(tmp_path: Path, here: bool) -> None:
    """The list may not say that bytes are others' either, be they here already or not."""
    own = hashlib.sha1(b"blob 1\0x", usedforsecurity=False).hexdigest()
    for digest in (own, "0" * 40):
        listing = {"format": 1, "models": [ONE | {"files": [FILE | {"digest": f"git:{digest}"}]}]}
        stream = packed(listing, (f"blobs/{X}", b"x"))
        read = partial(bundle.read, stream, lambda models: None, lambda sha256: None if here else tmp_path / sha256)
        if digest == own:
            assert read(lambda count: None)
        else:
            with pytest.raises(WeightsError, match="its list says git:000"):
                read(lambda count: None)
    assert [file.name for file in tmp_path.iterdir()] == ([] if here else [X])


@given(some.binary(max_size=3000), some.integers(0, 2999))
def test_any_bytes_are_a_bundle_or_an_error(noise: bytes, at: int) -> None:
    """Also a sound bundle with noise written into it; nothing is ever kept that does not hash to its name."""
    good = packed({"format": 1, "models": [ONE]}, (f"blobs/{FILE['sha256']}", b"x")).getvalue()
    kept: list[str] = []
    for raw in (noise, good[:at] + noise + good[at + len(noise) :]):
        try:
            bundle.read(io.BytesIO(raw), lambda models: None, lambda sha256: kept.append(sha256), lambda count: None)
        except WeightsError:
            continue
