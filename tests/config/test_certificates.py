"""What a stack may say of certificates towards engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from inhouse.config import load
from inhouse.errors import StackError


def told(folder: Path, model: str) -> str:
    """What is said of a stack with this model; "" where it is one."""
    file = folder / "inhouse.yaml"
    file.write_text(f"models:\n  chat: {{{model}}}\n")
    try:
        load(file, environ={}, flags={})
    except StackError as error:
        return f"{error.where} {error.message}"
    return ""


BOTH = "cert_file: tls.crt, key_file: tls.key"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ('endpoints: ["https://e:1"], cert_file: tls.crt', "`key_file` is not"),
        ('endpoints: ["https://e:1"], key_file: tls.key', "`cert_file` is not"),
        (f'endpoints: ["https://e:1", "http://plain:1"], {BOTH}', "http://plain:1 speaks no TLS"),
        ('endpoints: ["k8s://a/b:http"], server_name: b', "k8s://a/b:http speaks no TLS"),
        (f"source: demo, {BOTH}", "has no `endpoints`"),
    ],
)
def test_a_certificate_that_would_never_be_shown_is_told(tmp_path: Path, model: str, words: str) -> None:
    """With the line: who sets it takes it that nothing goes out in the clear."""
    found = told(tmp_path, model)
    assert words in found
    assert "inhouse.yaml:2" in found


def test_paths_are_those_beside_the_file(tmp_path: Path) -> None:
    """As of every file that a stack names."""
    assert told(tmp_path, f'endpoints: ["dns+https://e:1"], {BOTH}, server_name: engines') == ""
    chat = load(tmp_path / "inhouse.yaml", environ={}, flags={}).models["chat"]
    assert (chat.cert_file, chat.key_file) == (tmp_path / "tls.crt", tmp_path / "tls.key")
