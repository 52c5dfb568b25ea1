"""`hf://` against a server on this machine that speaks the hub's protocol; nothing here reaches further."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from tests.weights import gguf_bytes
from tests.weights.hub_server import COMMIT, Hub, Repo, serving

from inhouse.config import WeightsSpec
from inhouse.errors import WeightsError
from inhouse.weights import hub
from inhouse.weights.hub_errors import Place
from inhouse.weights.sources import line_of
from inhouse.weights.wanted import Form, Wanted

MODEL = gguf_bytes.model() + bytes(20_000)
SOURCE = "hf://acme/tiny-GGUF/tiny-Q8_0.gguf"
OTHER_COMMIT = "f" * 40


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of this machine's own settings, and connections that are closed again."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent/token")
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@pytest.fixture
def server() -> Iterator[Hub]:
    with serving() as running:
        running.repos["acme/tiny-GGUF"] = Repo({"tiny-Q8_0.gguf": MODEL, "README.md": b"# Tiny"})
        yield running


class Fetch:
    """Fetches into a cache of its own and keeps what progress was told."""

    def __init__(self, url: str, cache: Path) -> None:
        self.url = url
        self.cache = cache
        self.told: list[tuple[int, int | None]] = []
        self.spec = WeightsSpec(folder=cache, range_bytes=5_000, connections=1, retry_pause=0, tries_max=5)
        self.forms: tuple[Form, ...] = ("gguf",)
        self.quant: str | None = None

    def __call__(self, source: str = SOURCE, *, offline: bool = False, token: str | None = None) -> Path:
        def told(done: int, total: int | None) -> None:
            self.told.append((done, total))

        wanted = Wanted(self.cache, told, offline, self.forms, self.quant, spec=self.spec)
        return hub.fetch(line_of(source), wanted, Place(self.url, token)).path

    def refused(self, source: str = SOURCE, *, offline: bool = False, token: str | None = None) -> WeightsError:
        with pytest.raises(WeightsError) as caught:
            self(source, offline=offline, token=token)
        return caught.value


@pytest.fixture
def fetch(server: Hub, tmp_path: Path) -> Fetch:
    return Fetch(server.url, tmp_path / "hub")


def test_a_file_comes_whole_and_once(server: Hub, fetch: Fetch) -> None:
    """It lies in the layout that other tools share; progress ends at its size; a second start fetches nothing."""
    path = fetch()
    assert path.read_bytes() == MODEL
    assert path == fetch.cache / "models--acme--tiny-GGUF" / "snapshots" / COMMIT / "tiny-Q8_0.gguf"
    assert fetch.told[-1] == (len(MODEL), len(MODEL))
    assert [done for done, _ in fetch.told] == sorted(done for done, _ in fetch.told)
    gets = len(server.asked("GET"))
    assert fetch() == path
    assert len(server.asked("GET")) == gets
    assert fetch.told[-1] == (len(MODEL), len(MODEL))


def test_a_revision_is_followed(server: Hub, fetch: Fetch) -> None:
    """A branch, a tag or a commit after the @."""
    server.repos["acme/tiny-GGUF"].revisions["v1"] = OTHER_COMMIT
    for revision in ("v1", OTHER_COMMIT):
        assert OTHER_COMMIT in str(fetch(f"{SOURCE}@{revision}"))


def test_a_broken_connection_goes_on_where_it_broke(server: Hub, fetch: Fetch) -> None:
    """The rest is asked for by range, the file is right, and progress never counts a byte twice."""
    server.break_after = [1_500, 3_000]
    assert fetch().read_bytes() == MODEL
    ranges = [wanted for verb, path, wanted in server.requests if path.startswith("/blobs")]
    assert ranges[:4] == ["bytes=0-4999", "bytes=1500-4999", "bytes=4500-4999", "bytes=5000-9999"]
    assert max(done for done, _ in fetch.told) == len(MODEL)


def test_a_connection_that_keeps_breaking_is_told(server: Hub, fetch: Fetch) -> None:
    """After a few tries without a byte it is an error that says how to go on, and no file bears the model's name."""
    server.break_after = [0] * 50
    error = fetch.refused()
    assert "cannot be reached" in error.message
    assert "goes on there" in str(error.hint)
    assert not list(fetch.cache.rglob("*.gguf"))


def test_a_split_model_comes_whole(server: Hub, fetch: Fetch) -> None:
    """Naming one part fetches all, into one folder, under one progress; bytes that are here are not fetched again."""
    names = [f"big-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    server.repos["acme/tiny-GGUF"].files |= {name: MODEL + name.encode() for name in names}
    first = fetch(f"hf://acme/tiny-GGUF/{names[1]}")
    assert first.name == names[0]
    assert {path.name for path in first.parent.iterdir()} == set(names)
    total = sum(len(MODEL) + len(name) for name in names)
    assert fetch.told[-1] == (total, total)
    assert {given for _, given in fetch.told} == {total}
    first.unlink()
    gets = len(server.asked("GET"))
    fetch(f"hf://acme/tiny-GGUF/{names[0]}")
    assert len(server.asked("GET")) == gets


def test_a_missing_part_is_an_error_before_anything_is_fetched(server: Hub, fetch: Fetch) -> None:
    server.repos["acme/tiny-GGUF"].files["big-00001-of-00002.gguf"] = MODEL
    assert "no file 'big-00002-of-00002.gguf'" in fetch.refused("hf://acme/tiny-GGUF/big-00001-of-00002.gguf").message
    assert not [path for path in server.asked("GET") if path.startswith("/blobs")]


def test_an_unknown_file_names_the_nearest(server: Hub, fetch: Fetch) -> None:
    error = fetch.refused("hf://acme/tiny-GGUF/tiny-Q4_K_M.gguf")
    assert error.message == "acme/tiny-GGUF has no file 'tiny-Q4_K_M.gguf'"
    assert error.hint == "did you mean tiny-Q8_0.gguf?"


def test_a_repository_without_models_says_so(server: Hub, fetch: Fetch) -> None:
    server.repos["acme/tiny"] = Repo({"model.safetensors": b""})
    assert "no .gguf file at all" in str(fetch.refused("hf://acme/tiny/tiny.gguf").hint)


def test_an_unknown_revision_or_repository_is_told(fetch: Fetch) -> None:
    assert fetch.refused(f"{SOURCE}@v9").message == "acme/tiny-GGUF has no revision 'v9'"
    error = fetch.refused("hf://acme/nothing/x.gguf")
    assert "no repository acme/nothing" in error.message
    assert "HF_TOKEN" in str(error.hint)


def test_a_gated_repository_needs_a_token(server: Hub, fetch: Fetch) -> None:
    """Without one the way to it is told; with it the file comes, and the token goes to the hub only."""
    server.repos["acme/tiny-GGUF"].token = "hf_right"
    for token in (None, "hf_wrong"):
        error = fetch.refused(token=token)
        assert "gated" in error.message
        assert f"{server.url}/acme/tiny-GGUF" in str(error.hint)
        assert "HF_TOKEN" in str(error.hint)
        assert "hf_wrong" not in f"{error.message}{error.hint}"
    assert fetch(token="hf_right").read_bytes() == MODEL


def test_a_private_repository_looks_like_none(server: Hub, fetch: Fetch) -> None:
    server.repos["acme/tiny-GGUF"].token = "hf_right"
    server.repos["acme/tiny-GGUF"].private = True
    assert "or it is private" in fetch.refused().message
    assert fetch(token="hf_right").read_bytes() == MODEL


def test_a_full_disk_is_foreseen(server: Hub, fetch: Fetch) -> None:
    """A file that has no room is not begun; the error has both numbers."""
    server.claimed_size = 2**60
    error = fetch.refused()
    assert f"{SOURCE} needs 1073741824.00 GiB of disk" in error.message
    assert "HF_HOME" in str(error.hint)
    assert not [path for path in server.asked("GET") if path.startswith("/blobs")]


def test_a_disk_that_fills_up_midway_is_told(fetch: Fetch) -> None:
    """A file-size limit stands in for the full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        assert "disk was full before tiny-Q8_0.gguf" in fetch.refused().message
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_wrong_size_is_not_taken_for_whole(server: Hub, fetch: Fetch) -> None:
    """Fewer bytes than the hub announced are an error, and no file."""
    server.claimed_size = len(MODEL) + 1
    assert "did not come whole" in fetch.refused().message
    assert not list(fetch.cache.rglob("*.gguf"))


def test_a_hub_that_is_down_is_told_and_what_is_here_serves(server: Hub, fetch: Fetch) -> None:
    """Failing, refusing or gone: a file that is here is used, one that is not is an error with the way out."""
    path = fetch()
    server.fail_with = 503
    assert fetch() == path
    server.fail_with = 401
    assert fetch() == path
    assert "refuses to show acme/other" in fetch.refused("hf://acme/other/x.gguf").message
    fetch.url = "http://127.0.0.1:9"
    assert fetch() == path
    error = fetch.refused("hf://acme/other/x.gguf")
    assert "the hub at http://127.0.0.1:9 cannot be reached" in error.message
    assert "HTTPS_PROXY" in str(error.hint)


def test_offline_uses_what_is_here_and_asks_nobody(server: Hub, fetch: Fetch) -> None:
    error = fetch.refused(offline=True)
    assert "is not on this machine" in error.message
    assert server.requests == []
    path = fetch()
    asked = len(server.requests)
    assert fetch(offline=True) == path
    assert len(server.requests) == asked


def test_something_that_is_no_hub_is_told(server: Hub, fetch: Fetch) -> None:
    """A proxy's login page or a wrong HF_ENDPOINT."""
    server.plain = True
    error = fetch.refused()
    assert "does not answer as a hub does" in error.message
    assert "HF_ENDPOINT" in str(error.hint)
    for url in ("nonsense", "http://[bad"):
        fetch.url = url
        assert "HF_ENDPOINT" in str(fetch.refused().hint)


def test_a_file_that_is_no_model_is_refused(server: Hub, fetch: Fetch) -> None:
    server.repos["acme/tiny-GGUF"].files["tiny-Q8_0.gguf"] = b"<html>an error page</html>"
    assert "is not a GGUF file" in fetch.refused().message


@pytest.mark.parametrize(
    "source",
    [
        "hf://acme/tiny-GGUF/",
        "hf://acme/tiny-GGUF/README.md",
        "hf://acme/tiny-GGUF/../../x.gguf",
        "hf://acme/tiny-GGUF//x.gguf",
        "hf://acme/tiny-GGUF/a b.gguf",
        "hf://acme/tiny-GGUF/x.gguf@",
        "hf://acme/x.gguf",
    ],
)
def test_a_line_of_another_form_is_told_the_form(server: Hub, fetch: Fetch, source: str) -> None:
    """Nothing is asked of the hub, and no path leads out of the cache."""
    assert "hf://org/repo[/file.gguf]" in str(fetch.refused(source).hint)
    assert server.requests == []


SHARDS = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
INDEX = json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}).encode()


def test_a_repository_is_chosen_from_by_quantisation(server: Hub, fetch: Fetch) -> None:
    """The wanted one, else the middle; offline the same from what is here; the nearest is named."""
    server.repos["acme/tiny-GGUF"].files |= {"tiny-Q4_K_M.gguf": MODEL + b"4", "tiny-Q4_0.gguf": MODEL + b"0"}
    assert fetch("hf://acme/tiny-GGUF").name == "tiny-Q4_K_M.gguf"
    fetch.quant = "q4_0"
    assert fetch("hf://acme/tiny-GGUF@main").read_bytes() == MODEL + b"0"
    assert fetch("hf://acme/tiny-GGUF", offline=True).name == "tiny-Q4_0.gguf"
    fetch.quant = "Q4_K"
    assert "did you mean Q4_K_M?" in str(fetch.refused("hf://acme/tiny-GGUF").hint)


def test_a_repository_of_safetensors_comes_as_a_folder(server: Hub, fetch: Fetch) -> None:
    """Config, tokenizer and the shards of the index, each of the hash that the hub or git knows; no pickles."""
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors.index.json": INDEX}
    small = set(files)
    files |= {"pytorch_model.bin": b"1", "x.py": b"1"} | {shard: shard.encode() * 900 for shard in SHARDS}
    server.repos["acme/tiny"] = Repo(files, small=small)
    assert "has no .gguf model" in fetch.refused("hf://acme/tiny").message
    fetch.forms = ("safetensors", "gguf")
    folder = fetch("hf://acme/tiny")
    assert {path.name for path in folder.iterdir()} == {*small, *SHARDS}
    assert (folder / SHARDS[1]).read_bytes() == files[SHARDS[1]]
    assert fetch("hf://acme/tiny", offline=True) == folder
    assert fetch.told[-1] == (sum(len(files[name]) for name in (*small, *SHARDS)),) * 2
    (folder / SHARDS[1]).unlink()
    assert "not on this machine" in fetch.refused("hf://acme/tiny", offline=True).message


def test_a_small_file_with_wrong_bytes_is_refused(server: Hub, fetch: Fetch) -> None:
    server.repos["acme/tiny"] = Repo({"config.json": b"{}", "model.safetensors": b"x" * 900}, small={"config.json"})
    fetch.forms = ("safetensors",)
    server.bad_bytes = 1
    assert "hashes to" in fetch.refused("hf://acme/tiny").message


def test_a_gated_repository_is_told_before_anything_is_fetched(server: Hub, fetch: Fetch) -> None:
    """Its files are listed to anybody; whoever fetches one is refused."""
    server.repos["acme/tiny-GGUF"].token = "hf_right"
    assert "gated" in fetch.refused("hf://acme/tiny-GGUF").message
    assert fetch("hf://acme/tiny-GGUF", token="hf_right").read_bytes() == MODEL


def test_the_environment_says_where_and_who(server: Hub, tmp_path: Path) -> None:
    """HF_ENDPOINT, HF_HOME and HF_TOKEN are respected, and HF_HUB_OFFLINE; the library is not imported before."""
    server.repos["acme/tiny-GGUF"].token = "hf_right"
    script = (
        "import json, pathlib, sys\n"
        "from inhouse.errors import WeightsError\n"
        "from inhouse.weights.sources import resolve\n"
        "assert 'huggingface_hub' not in sys.modules\n"
        "told = []\n"
        "try:\n"
        "    path = resolve(sys.argv[1], base=pathlib.Path(), progress=lambda *given: told.append(given))\n"
        "    print(json.dumps([str(path), told[-1:]]))\n"
        "except WeightsError as error:\n"
        "    print(json.dumps([error.message, error.hint]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_right", "NO_PROXY": "*"}

    def run(source: str, **more: str) -> tuple[str, object]:
        done = subprocess.run(
            [sys.executable, "-c", script, source], env=environment | more, capture_output=True, timeout=60, check=True
        )
        first, second = json.loads(done.stdout)
        return first, second

    expected = tmp_path / "hub" / "models--acme--tiny-GGUF" / "snapshots" / COMMIT / "tiny-Q8_0.gguf"
    assert run(SOURCE) == (str(expected), [[len(MODEL), len(MODEL)]])
    asked = len(server.requests)
    assert run(SOURCE, HF_HUB_OFFLINE="1")[0] == str(expected)
    assert "not on this machine" in run(f"{SOURCE}@v9", HF_HUB_OFFLINE="1")[0]
    assert len(server.requests) == asked
