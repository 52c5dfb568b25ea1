"""`inhouse models show` as people run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.weights import gguf_bytes


def test_a_header_is_shown(inhouse: Any, tmp_path: Path) -> None:
    """A source and a model of the stack by its name show the same."""
    (tmp_path / "tiny.gguf").write_bytes(gguf_bytes.model({**gguf_bytes.LLAMA, "general.license": "mit"}))
    (tmp_path / "inhouse.yaml").write_text("models:\n  chat:\n    source: ./tiny.gguf\n")
    for named in ("./tiny.gguf", "chat"):
        done = inhouse("models", "show", named)
        assert (done.returncode, done.stderr) == (0, "")
        rows = dict(line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line)
        shown = {title: value.strip() for title, value in rows.items()}
        assert (shown["architecture"], shown["layers"], shown["licence"]) == ("llama", "4", "mit")
        assert shown["keys and values"] == "1.00 KiB per token at 16 bits"
        assert "Q8_0        1         256    272" in done.stdout


def test_a_header_is_printed_for_scripts(inhouse: Any, tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(gguf_bytes.model())
    found = json.loads(inhouse("models", "show", "tiny.gguf", "--json", "--tensors").stdout)
    assert (found["source"], found["form"], found["parameters"]) == ("tiny.gguf", "gguf", 320)
    assert found["types"][0] == {"kind": "Q8_0", "tensors": 1, "elements": 256, "bytes": 272}
    assert found["tensors"][0]["name"] == "token_embd.weight"
    assert found["attention"][0]["kv_heads"] == 8


def test_a_chat_template_is_printed_alone(inhouse: Any, tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(gguf_bytes.model())
    assert inhouse("models", "show", "tiny.gguf", "--template").stdout == "{{ messages }}\n"


def test_a_file_that_is_no_model_is_told(inhouse: Any, tmp_path: Path) -> None:
    (tmp_path / "page.gguf").write_text("<!doctype html>")
    done = inhouse("models", "show", "page.gguf")
    assert done.returncode == 1
    assert "is not a GGUF file" in done.stderr
    assert "web page" in done.stderr
