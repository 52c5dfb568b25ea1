"""Local files and the packaged model, as a source line names them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.weights import gguf_bytes

from inhouse.errors import WeightsError
from inhouse.weights.sources import obtain, resolve
from inhouse.weights.splits import parts
from inhouse.weights.wanted import Wanted, silent


def found(source: str, base: Path) -> Path:
    return resolve(source, base=base, progress=lambda done, total: None)


def refusal(source: str, base: Path) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        found(source, base)
    return caught.value


def test_a_path_starts_at_the_base_or_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the file that names it, absolute, or with a tilde."""
    (tmp_path / "m.gguf").write_bytes(gguf_bytes.model())
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in ("./m.gguf", "m.gguf", str(tmp_path / "m.gguf"), "~/m.gguf"):
        assert found(source, tmp_path) == tmp_path / "m.gguf"
    (tmp_path / "deep").mkdir()
    assert found("../m.gguf", tmp_path / "deep").samefile(tmp_path / "m.gguf")


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    """The nearest name first; without a folder, that is said instead."""
    for name in ("gemma-3-1b-it-Q4_K_M.gguf", "other.gguf", "notes.txt"):
        (tmp_path / name).write_bytes(gguf_bytes.model())
    error = refusal("./gemma-3-1b-it-Q4_0.gguf", tmp_path)
    assert str(tmp_path / "gemma-3-1b-it-Q4_0.gguf") in error.message
    assert str(error.hint).endswith("there is: gemma-3-1b-it-Q4_K_M.gguf")
    assert "does not exist" in str(refusal("./nowhere/m.gguf", tmp_path).hint)


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    """A folder, a pipe that would block for ever, a name that cannot be."""
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "folder.gguf").mkdir()
    assert "is a folder" in refusal("./folder.gguf", tmp_path).message
    assert "not a regular file" in refusal("./pipe.gguf", tmp_path).message
    assert refusal("./nul\0byte.gguf", tmp_path)
    assert refusal("x" * 5000 + ".gguf", tmp_path)
    assert refusal("~nobody-of-this-name/m.gguf", tmp_path)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"<html>")
    assert "is not a GGUF file" in refusal("./m.gguf", tmp_path).message


def test_a_split_model_is_its_first_part(tmp_path: Path) -> None:
    """Whichever part is named, the first is given to the engine, once all are there."""
    names = parts("m-00001-of-00003.gguf")
    assert names == tuple(f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3))
    for name in names:
        (tmp_path / name).write_bytes(gguf_bytes.model())
    assert found("m-00002-of-00003.gguf", tmp_path) == tmp_path / names[0]
    (tmp_path / names[2]).unlink()
    assert f"{names[2]} is missing" in refusal(names[0], tmp_path).message


@pytest.mark.parametrize(
    "name", ["m.gguf", "m-00000-of-00003.gguf", "m-00004-of-00003.gguf", "m-00001-of-99999.gguf", "m-1-of-3.gguf"]
)
def test_a_name_that_only_looks_split_is_one_file(name: str) -> None:
    assert parts(name) == (name,)


def test_a_local_file_meets_its_pinned_digest(tmp_path: Path) -> None:
    """Of a split model, that of what `sha256sum` prints for its parts."""
    raw = gguf_bytes.model()
    own = hashlib.sha256(raw).hexdigest()
    names = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    for name in ("one.gguf", *names):
        (tmp_path / name).write_bytes(raw)
    printed = "".join(f"{own}  {name}\n" for name in names)
    for source, pinned in (("one.gguf", own), (names[1], hashlib.sha256(printed.encode()).hexdigest())):
        wanted = Wanted(tmp_path, silent, sha256=pinned)
        assert obtain(source, wanted).files
        with pytest.raises(WeightsError, match="pinned is"):
            obtain(source, replace(wanted, sha256="0" * 64))


def test_a_link_to_a_file_that_is_called_by_a_digest(tmp_path: Path) -> None:
    """A name is no proof: what somebody's own file hashes to is found by reading it."""
    (tmp_path / ("0" * 64)).write_bytes(gguf_bytes.model())
    (tmp_path / "m.gguf").symlink_to(tmp_path / ("0" * 64))
    with pytest.raises(WeightsError, match="pinned is"):
        obtain("m.gguf", Wanted(tmp_path, silent, sha256="0" * 64))


def test_an_unknown_scheme_names_the_known_ones(tmp_path: Path) -> None:
    error = refusal("gopher://host/m.gguf", tmp_path)
    assert "gopher://" in error.message
    assert "hf://org/repo[/file.gguf]" in str(error.hint)


def test_the_demo_model_comes_with_the_package(tmp_path: Path) -> None:
    """No path, no network: `demo` is a GGUF file inside the installation, at most 8 MB."""
    path = found("demo", tmp_path)
    assert path.name == "demo.gguf"
    assert path.stat().st_size <= 8_000_000
