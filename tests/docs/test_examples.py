"""What the pages and examples/ show runs as it stands, against a real gateway."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serving import Gateway

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))
MARKED = re.compile(r"<!-- test: run -->\n```sh\n(.*?)```", re.DOTALL)
BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
    for number, block in enumerate(MARKED.findall(page.read_text()), start=1)
]
LIMIT_S = 60

Environment = dict[str, str]
Require = Callable[[str], None]


def output(command: list[str], environment: Environment, folder: Path) -> str:
    """What the command prints; it succeeds."""
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_python_examples(program: Path, environment: Environment, tmp_path: Path) -> None:
    """Each ends well and has something to say."""
    assert output([sys.executable, str(program)], environment, tmp_path).strip()


def test_the_curl_example(environment: Environment, require: Require, tmp_path: Path) -> None:
    """The list, the answer and the whole stream come."""
    require("curl")
    printed = output(["sh", str(EXAMPLES / "curl.sh")], environment, tmp_path)
    assert '"object":"list"' in printed
    assert '"object":"chat.completion"' in printed
    assert printed.rstrip().endswith("data: [DONE]")


def test_the_javascript_example(environment: Environment, require: Require, tmp_path: Path) -> None:
    """The stream arrives whole."""
    require("node")
    assert output(["node", str(EXAMPLES / "javascript" / "stream.mjs")], environment, tmp_path).strip()


def test_every_example_is_listed() -> None:
    """The page about the examples names each of them."""
    page = (EXAMPLES / "README.md").read_text()
    programs = [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.sh"), *EXAMPLES.glob("javascript/*.mjs")]
    assert [path.name for path in programs if f"({path.relative_to(EXAMPLES)})" not in page] == []


@pytest.mark.parametrize("block", BLOCKS)
def test_shell_blocks(block: str, environment: Environment, gateway: Gateway, require: Require, tmp_path: Path) -> None:
    """Marked blocks run when they are pasted; only the address is another one here."""
    if "curl" in block:
        require("curl")
    assert output(["sh", "-eu", "-c", block.replace("http://127.0.0.1:8080", gateway.url)], environment, tmp_path)
