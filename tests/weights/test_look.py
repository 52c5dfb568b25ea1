"""What a model is, from wherever it lies: files, folders, web servers, a hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.weights import gguf_bytes, hub_server, range_server, safetensors_bytes
from tests.weights.hub_server import Hub, Repo
from tests.weights.range_server import Web

from inhouse.errors import WeightsError
from inhouse.weights.header import Header
from inhouse.weights.hub_errors import Place
from inhouse.weights.look import look


@pytest.fixture
def web() -> Iterator[Web]:
    with range_server.serving() as running:
        yield running


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with hub_server.serving() as running:
        yield running


def check_safetensors(header: Header) -> None:
    assert (header.form, header.architecture, header.files) == ("safetensors", "qwen3", 2)
    assert (header.parameters, header.weights_bytes) == (3 * 32 * 64 + 64, 3 * 4096 + 256)
    assert header.attention is not None


def test_the_demo_model_is_known(tmp_path: Path) -> None:
    header = look("demo", base=tmp_path)
    assert (header.architecture, header.quantisation, header.licence) == ("llama", "Q8_0", "apache-2.0")


def test_a_folder_with_shards_is_one_model(tmp_path: Path) -> None:
    """Sums over the shards; words from the files beside them."""
    safetensors_bytes.write(tmp_path / "Tiny", safetensors_bytes.files())
    header = look("Tiny", base=tmp_path)
    check_safetensors(header)
    assert (header.name, header.tokenizer, header.chat_template) == ("Tiny", "Qwen2Tokenizer", "{{ m }}")
    assert (header.licence, header.licence_url) == ("tiny-terms", "https://example.com/t")
    assert look("Tiny/model-00002-of-00002.safetensors", base=tmp_path) == header


def test_a_template_in_its_own_file_comes_first(tmp_path: Path) -> None:
    safetensors_bytes.write(tmp_path, {**safetensors_bytes.files(), "chat_template.jinja": b"{{ own }}"})
    assert look(".", base=tmp_path).chat_template == "{{ own }}"


def test_copies_in_another_layout_are_passed_over(tmp_path: Path) -> None:
    """`consolidated.safetensors` has the same weights once more."""
    extra = {"consolidated.safetensors": b"x", "original/model.safetensors": b"x"}
    safetensors_bytes.write(tmp_path, {**safetensors_bytes.files(), **extra})
    check_safetensors(look(".", base=tmp_path))


def test_a_folder_with_one_gguf_model_is_that_model(tmp_path: Path) -> None:
    """What only sees for it (`mmproj`) is none."""
    (tmp_path / "m.gguf").write_bytes(gguf_bytes.model())
    (tmp_path / "mmproj-m.gguf").write_bytes(b"x")
    assert look(".", base=tmp_path).name == "Tiny"
    (tmp_path / "n.gguf").write_bytes(gguf_bytes.model())
    with pytest.raises(WeightsError, match="has several models") as caught:
        look(".", base=tmp_path)
    assert caught.value.hint == "name one of them in the source: m.gguf, n.gguf"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model-00002-of-00002.safetensors": None}, "has 1 of the 2 files model-"),
        ({"config.json": None}, "has no .gguf model"),
        ({"config.json": b"[1]"}, "config.json of"),
        ({"config.json": b"[" * 100_000}, "config.json of"),
        ({"config.json": b" " * (2 * 2**20 + 1)}, "has no config.json of up to"),
        ({"tokenizer_config.json": b"{"}, "tokenizer_config.json of"),
        ({"model-00001-of-00002.safetensors": b"x"}, "model-00001-of-00002.safetensors of"),
        (
            {f"model-0000{at}-of-00002.safetensors": None for at in (1, 2)}
            | {"a.safetensors": b"", "b.safetensors": b""},
            "not clear which files",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path, changes: dict[str, bytes | None], told: str) -> None:
    contents = {**safetensors_bytes.files(), **changes}
    safetensors_bytes.write(tmp_path, {name: raw for name, raw in contents.items() if raw is not None})
    with pytest.raises(WeightsError) as caught:
        look(".", base=tmp_path)
    assert told in caught.value.message


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    for source in ("none.gguf", "none.safetensors", "none/none"):
        with pytest.raises(WeightsError, match="cannot be read"):
            look(source, base=tmp_path)
    with pytest.raises(WeightsError, match="cannot be read from there"):
        look("oci://registry/repo", base=tmp_path)


def test_models_of_a_web_server_are_read_in_place(web: Web, tmp_path: Path) -> None:
    """A single file, a split one of which any part is named, and shards with the config beside them."""
    web.files = {f"d/{name}": raw for name, raw in safetensors_bytes.files().items()}
    web.files["m.gguf"] = gguf_bytes.model()
    split = gguf_bytes.model({**gguf_bytes.LLAMA, "split.count": 2})
    web.files |= {"s-00001-of-00002.gguf": split, "s-00002-of-00002.gguf": split}
    assert look(f"{web.url}/m.gguf?download=true", base=tmp_path).parameters == 320
    assert look(f"{web.url}/s-00002-of-00002.gguf", base=tmp_path).parameters == 640
    check_safetensors(look(f"{web.url}/d/model-00002-of-00002.safetensors", base=tmp_path))
    with pytest.raises(WeightsError, match="is no model file"):
        look(f"{web.url}/d/", base=tmp_path)


@pytest.mark.parametrize(
    "source", ["hf://org/tiny", "hf://org/tiny@main", "{url}/org/tiny", "{url}/org/tiny/tree/main", "hf://org/all/sub"]
)
def test_a_repository_is_read_in_place(hub: Hub, tmp_path: Path, source: str) -> None:
    """By its name or its page, with the token that it wants; nothing is kept on this machine."""
    contents = safetensors_bytes.files()
    hub.repos["org/tiny"] = Repo(contents, token="t")
    hub.repos["org/all"] = Repo({f"sub/{name}": raw for name, raw in contents.items()}, token="t")
    header = look(source.format(url=hub.url), base=tmp_path, place=Place(hub.url, token="t"))
    check_safetensors(header)
    assert header.licence == "tiny-terms"
    assert not (tmp_path / "hf" / "hub").exists()


def test_a_gguf_file_of_a_repository_is_read_in_place(hub: Hub, tmp_path: Path) -> None:
    """The header travels and the weights do not."""
    raw = gguf_bytes.model()
    hub.repos["org/tiny"] = Repo({"m-Q4_K_M.gguf": raw, "m-Q8_0.gguf": raw})
    for source in ("hf://org/tiny/m-Q8_0.gguf", f"{hub.url}/org/tiny/blob/main/m-Q8_0.gguf"):
        assert look(source, base=tmp_path, place=Place(hub.url)).parameters == 320
    with pytest.raises(WeightsError, match=r"org/tiny has no file 'm-Q2_K.gguf'") as caught:
        look("hf://org/tiny/m-Q2_K.gguf", base=tmp_path, place=Place(hub.url))
    assert "m-Q4_K_M.gguf" in (caught.value.hint or "")


def test_a_gated_repository_says_so(hub: Hub, tmp_path: Path) -> None:
    """Its listing is open and its files are not; a file of it says so too."""
    hub.repos["org/tiny"] = Repo({**safetensors_bytes.files(), "m.gguf": b"x"}, token="t")
    for source in ("hf://org/tiny", "hf://org/tiny/m.gguf"):
        with pytest.raises(WeightsError, match="gated"):
            look(source, base=tmp_path, place=Place(hub.url))


def test_a_hub_that_is_down_is_told_at_once(tmp_path: Path) -> None:
    """It is asked once and not again and again."""
    for source in ("hf://org/tiny", "hf://org/tiny/m.gguf"):
        with pytest.raises(WeightsError, match="cannot be reached"):
            look(source, base=tmp_path, place=Place("http://127.0.0.1:9"))
