"""Engines with a will of their own, as programs to be named `engine_binary`.

All but the flood are the embedded engine itself, with something done to it before it starts.
"""

from __future__ import annotations

import sys
from pathlib import Path

from inhouse.engines.llamacpp import CHILD

_EMBEDDED = """#!{python} -P
import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location("child", {child!r})
child = importlib.util.module_from_spec(spec)
spec.loader.exec_module(child)
{before}
os.dup2(os.pipe()[0], 0)  # an own binary has no life line on its standard input: lifeline.py holds it
child.main(sys.argv[1:])
"""
_ENDLESS = """
usual = child.parameters
def parameters(flags, engine):
    found = usual(flags, engine)
    found.sampling.ignore_eos = True
    return found
child.parameters = parameters
"""
_LATE = """
while not os.path.exists({gate!r}):
    time.sleep(0.02)
"""
_BROKEN = """
if not os.path.exists({gate!r}):
    print("error: the moon is full", file=sys.stderr)
    sys.exit(9)
"""
_FLOOD = """#!{python} -P
import asyncio, json, sys

EVENT = b'data: {{"choices":[{{"index":0,"delta":{{"content":"%s"}},"finish_reason":null}}]}}\\n\\n' % (b"x" * 928)
LAST = (b'data: {{"choices":[{{"index":0,"delta":{{}},"finish_reason":"stop"}}]}}\\n\\n'
        b'data: {{"choices":[],"usage":{{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}}}\\n\\n'
        b"data: [DONE]\\n\\n")
sent = 0

async def serve(reader, writer):
    global sent
    try:
        while True:
            head = (await reader.readuntil(b"\\r\\n\\r\\n")).decode().lower()
            length = int(head.split("content-length: ")[1].split("\\r\\n")[0])
            body = await reader.readexactly(length)
            if head.startswith("get"):
                answer = b"[]" if head.startswith("get /slots") else b"{{}}"
                writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n" + answer)
                continue
            writer.write(b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n")
            for _ in range(json.loads(body)["max_tokens"]):
                writer.write(b"%x\\r\\n%b\\r\\n" % (len(EVENT), EVENT))
                await writer.drain()
                sent += len(EVENT)
            writer.write(b"%x\\r\\n%b\\r\\n0\\r\\n\\r\\n" % (len(LAST), LAST))
    except (OSError, EOFError):
        writer.close()

async def main():
    server = await asyncio.start_unix_server(serve, sys.argv[sys.argv.index("--host") + 1])
    while True:
        with open({progress!r}, "w") as file:
            file.write(str(sent))
        await asyncio.sleep(0.05)

asyncio.run(main())
"""


def endless(folder: Path) -> Path:
    """Answers end at `max_tokens` only, whatever API they are asked for with."""
    return _program(folder / "endless", _ENDLESS)


def late(folder: Path, gate: Path) -> Path:
    """Begins to load once `gate` exists."""
    return _program(folder / "late", _LATE.format(gate=str(gate)))


def broken(folder: Path, gate: Path) -> Path:
    """Ends at once with an error, until `gate` exists."""
    return _program(folder / "broken", _BROKEN.format(gate=str(gate)))


def flood(folder: Path, progress: Path) -> Path:
    """Streams `max_tokens` kilobytes as fast as they are taken; `progress` has the bytes that it could get rid of."""
    return _written(folder / "flood", _FLOOD.format(python=sys.executable, progress=str(progress)))


def _program(path: Path, before: str) -> Path:
    return _written(path, _EMBEDDED.format(python=sys.executable, child=str(CHILD), before=before))


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path
