"""Draws docs/images/terminal.svg and writes the README's transcript, both from one real run on the demo model.

`inhouse serve` and `inhouse chat` run in pseudo-terminals, in a state folder that is removed at the end; what they
write becomes the picture, which refers to no font and no host of anybody's. The request is the one that the README
shows.

    python tools/terminal_picture.py
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "terminal.svg"
README = ROOT / "README.md"
TRANSCRIPT = re.compile(
    r"(<!-- test: run -->\n```sh\n)(.*?)(```\n.*?<!-- transcript -->\n```\n)(.*?)(```\n)", re.DOTALL
)
EVENTS_FIRST, EVENTS_LAST = 3, 3
WIDTH = 100
QUESTIONS = ("Hello, who are you?", "What is a slot?")
WAIT_S = 60.0
PORT = 8080
"""Stands in the README; nothing else may listen there."""

# rich's own frame without the fonts that it would load from a host
FRAME = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>inhouse serve and inhouse chat in a terminal</title>
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
  font-variant-east-asian: full-width;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix" xml:space="preserve">
{matrix}
</g>
</g>
</svg>
"""


@dataclass
class Terminal:
    """A command in a pseudo-terminal, and what it has written so far."""

    pid: int
    descriptor: int
    written: bytes = b""

    @classmethod
    def run(cls, *command: str, environ: dict[str, str]) -> Terminal:
        pid, descriptor = pty.fork()
        if pid == 0:
            os.execvpe(command[0], command, environ)
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
        return cls(pid, descriptor)

    def read_until(self, sign: bytes | None) -> str:
        """All of the output until `sign` has come and its line is over; without one, until the command ends."""
        until_s = time.monotonic() + WAIT_S
        while time.monotonic() < until_s:
            if sign is not None and sign in self.written and self.written.rpartition(sign)[2].count(b"\n"):
                return self.written.decode()
            if select.select([self.descriptor], [], [], 0.1)[0]:
                try:
                    data = os.read(self.descriptor, 65536)
                except OSError:  # Linux: the other end has closed
                    data = b""
                if not data:
                    break
                self.written += data
        if sign is not None:
            raise SystemExit(f"no {sign!r} within {WAIT_S:g} s: {self.written.decode()}")
        return self.written.decode()

    def end(self) -> None:
        os.kill(self.pid, signal.SIGINT)
        self.read_until(None)
        os.waitpid(self.pid, 0)


def session(port: int, request: str) -> tuple[str, str]:
    """What the terminal shows, colours included; and what the shell commands of `request` print."""
    with tempfile.TemporaryDirectory(prefix="inhouse-picture-") as folder:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("INHOUSE_")}
        environ = {**kept, "TERM": "xterm-256color", "INHOUSE_STATE_DIR": folder, "INHOUSE_LOG__LEVEL": "error"}
        environ["INHOUSE_GATEWAY__PORT"] = str(port)
        environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
        os.chdir(folder)
        gateway = Terminal.run("inhouse", "serve", environ=environ)
        try:
            shown = ["$ inhouse serve\n", _settled(gateway.read_until(b"loaded in"))]
            for question in QUESTIONS:
                chat = Terminal.run("inhouse", "chat", question, environ=environ)
                shown += [f"\n$ inhouse chat '{question}'\n", chat.read_until(None)]
                os.waitpid(chat.pid, 0)
            printed = subprocess.run(["sh", "-ec", request], env=environ, check=True, stdout=subprocess.PIPE, text=True)
        finally:
            gateway.end()
    return "".join(shown).replace("\r\n", "\n"), printed.stdout


def _settled(output: str) -> str:
    """The output without what was drawn over: a line that was cleared and written again shows its last state."""
    output = re.sub(r"\x1b\[\?25[lh]", "", output.replace("\r\n", "\n"))
    return "\n".join(re.split(r"\r|\x1b\[2?K", line)[-1] for line in output.split("\n"))


def picture(text: str) -> str:
    """The SVG. The same text gives the same bytes."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor")
    for line in text.strip("\n").split("\n"):
        shown = Text.from_ansi(line)
        if line.startswith("$ "):
            shown.stylize("bold green", 0, 1)
            shown.stylize("bold", 2)
        console.print(shown, soft_wrap=False)
    return console.export_svg(title="inhouse", theme=MONOKAI, code_format=FRAME, unique_id="terminal")


def shortened(stream: str) -> str:
    """The first and the last events of a stream."""
    events = [line for line in stream.split("\n") if line]
    return "\n".join([*events[:EVENTS_FIRST], "…", *events[-EVENTS_LAST:]]) + "\n"


def main() -> None:
    readme = README.read_text()
    found = TRANSCRIPT.search(readme)
    if found is None:
        raise SystemExit("README.md has no marked request with a transcript")
    terminal, stream = session(PORT, found[2])
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(picture(terminal))
    README.write_text(readme[: found.start(4)] + shortened(stream) + readme[found.end(4) :])


if __name__ == "__main__":
    main()
