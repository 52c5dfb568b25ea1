"""The pages are true: links lead somewhere, commands and settings exist, generated pages are fresh."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer

from inhouse.cli.commands import app_of
from inhouse.config import read
from inhouse.wire.chat import ChatRequest, EngineChat

COMMANDS: Any = typer.main.get_command(app_of())

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page for folder in ("", "docs/**/", "examples/**/", "terraform/**/") for page in ROOT.glob(f"{folder}*.md")
)
PLAIN = [ROOT / "Makefile", ROOT / ".ci/run", ROOT / ".pre-commit-config.yaml", ROOT / "requirements-dev.lock"]
OTHERS = [path for path in [*PLAIN, *ROOT.glob("examples/**/*"), *ROOT.glob("docs/images/*")] if path.is_file()]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in HEADING.findall(prose(page)):
        text = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return found


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """The page and anchor of each link to something in the repository."""
    for target in LINK.findall(prose(page)):
        if not re.match(r"\w+:", target):
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_merged_to_the_end(page: Path) -> None:
    assert not re.search(r"^(<{7}|={7}|>{7})( |$)", page.read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file of the repository, and its anchor a heading in it."""
    for target, anchor in links(page):
        assert target.exists(), f"{name(page)} links to {target}"
        if anchor:
            assert anchor in anchors(target), f"{name(page)} links to #{anchor} of {name(target)}"


def test_every_page_is_linked() -> None:
    """Nobody finds a page that no other one links to."""
    linked = {target for page in PAGES for target, _ in links(page)}
    assert [name(page) for page in PAGES if page not in linked and page.name != "README.md"] == []


def commands(page: Path) -> Iterator[list[str]]:
    """The words behind `inhouse` in shell blocks and inline code."""
    text = page.read_text()
    shell = [block for language, block in FENCE.findall(text) if language in ("sh", "console")]
    lines = [line for block in shell for line in block.replace("\\\n", " ").splitlines()]
    lines += [code for code in INLINE.findall(prose(page)) if code.startswith("inhouse ")]
    for line in lines:
        if line.startswith("helm "):  # whose releases may be called so
            continue
        for call in re.findall(r"(?:^|[\s|(])inhouse ([^|)#>…]+)", line):
            yield shlex.split(call)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist(page: Path) -> None:
    """Every `inhouse …` that a page names is a command, and its options are that command's."""
    for words in commands(page):
        command = COMMANDS
        rest = iter(words)
        for word in rest:
            what = f"{name(page)}: inhouse {shlex.join(words)}: no {word}"
            children = getattr(command, "commands", None)
            if word.startswith("-") and len(word) > 1:
                options = {option: param for param in command.params for option in param.opts}
                assert word in {*options, "--help"}, what
                if not getattr(options.get(word), "is_flag", True):
                    next(rest, None)  # its value
            elif children is not None:
                assert word in children, what
                command = children[word]


def test_verbs_exist() -> None:
    """Every `make …` that a page names is a target."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        code = [*INLINE.findall(prose(page)), *(block for _, block in FENCE.findall(page.read_text()))]
        for verb in re.findall(r"^make ([a-z]+)", "\n".join(code), re.MULTILINE):
            assert verb in targets, f"{name(page)}: make {verb}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_stacks_are_valid(page: Path, tmp_path: Path) -> None:
    """Every block of `yaml` is an `inhouse.yaml` that is taken as it is; YAML of another kind is called `yml`. One that
    begins with `# name.yaml` lies beside it under that name."""
    file = tmp_path / "inhouse.yaml"
    for language, block in FENCE.findall(page.read_text()):
        if language == "yml" and (named := re.match(r"# ([a-z-]+\.yaml)\n", block)):
            (tmp_path / named[1]).write_text(block)
    for language, block in FENCE.findall(page.read_text()):
        if language == "yaml":
            file.write_text(block)
            read(file, environ={}, flags={})


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_compiles(page: Path) -> None:
    """Every Python block is a program."""
    for language, block in FENCE.findall(page.read_text()):
        if language == "python":
            compile(block, name(page), "exec")


@pytest.mark.parametrize("path", [*PAGES, *OTHERS], ids=name)
def test_nothing_of_a_machine(path: Path) -> None:
    """No path of somebody's machine and no host of a package registry: both are other ones elsewhere."""
    text = path.read_text()
    private = re.compile(r"(?<![\w.~-])/(?:work|root|home|Users|mnt)/|file:/|pypi\.|pythonhosted|npmjs\.|deb\.debian")
    assert private.findall(text) == []


def test_generated_pages_are_fresh() -> None:
    """Else: make docs"""
    pages = runpy.run_path(str(ROOT / "tools" / "reference.py"))["pages"]()
    folder = ROOT / "docs" / "reference"
    assert {page.name for page in folder.glob("*.md")} == set(pages)
    for file, text in pages.items():
        assert (folder / file).read_text() == text, f"docs/reference/{file} is stale: make docs"


def test_parameters_without_effect_are_named() -> None:
    """The list in api.md is that of the fields that are taken and not passed on."""
    text = (ROOT / "docs" / "api.md").read_text()
    (listed,) = re.findall(r"<!-- no-effect: chat -->(.*?)<!-- end -->", text, re.DOTALL)
    used_here = {"max_completion_tokens", "n", "repetition_penalty"}
    unused = set(ChatRequest.__struct_fields__) - set(EngineChat.__struct_fields__) - used_here
    assert set(INLINE.findall(listed)) == unused


def test_the_picture_needs_nothing_else() -> None:
    """It is well-formed, and loads no font, style or image from anywhere."""
    text = (ROOT / "docs" / "images" / "terminal.svg").read_text()
    ElementTree.fromstring(text)
    assert re.findall(r"href|@import|@font-face|url\((?!#)", text) == []
