"""The prompt of `inhouse chat`: line editing, history, /commands. Ctrl-C clears the line; on an empty one it leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from inhouse.cli.conversation import Conversation
from inhouse.errors import InhouseError

HISTORY_LINES_MAX = 1000
COMMANDS = {
    "/help": "this list",
    "/reset": "forget what was said",
    "/system": "/system TEXT tells the model who it is; without TEXT, nothing",
    "/model": "/model NAME changes the model; without NAME, lists them",
    "/exit": "leave (so does Ctrl-D)",
}


def converse(talk: Conversation, history: Path | None) -> None:
    """Asks and answers until the person leaves. `history` is kept with mode 0600; None keeps none."""
    print(f"{talk.model} at {talk.gateway.base_url}. /help for help, Ctrl-D to leave.\n", flush=True)
    with _line_editing(history) as readline:
        while (line := _line(readline)) is not None:
            try:
                if line.startswith("/"):
                    if not _obey(line, talk):
                        return
                elif line:
                    talk.ask(line)
            except InhouseError as error:
                if getattr(error, "status", None) == 401:  # no further question would fare better
                    raise
                print(f"error: {error.message}" + (f"\n  hint: {error.hint}" if error.hint else "") + "\n", flush=True)


def _line(readline: ModuleType | None) -> str | None:
    """What was typed; None to leave."""
    try:
        return input("> ").strip()
    except EOFError:
        print(flush=True)
        return None
    except KeyboardInterrupt:
        print(flush=True)
        return "" if readline is not None and readline.get_line_buffer() else None


def _obey(line: str, talk: Conversation) -> bool:
    """Does what a /command says; False to leave."""
    command, _, argument = line.partition(" ")
    argument = argument.strip()
    if command == "/exit":
        return False
    if command == "/reset":
        talk.reset()
        print("forgotten\n")
    elif command == "/system":
        talk.system = argument or None
        print("the model is told this first\n" if argument else "the model is told nothing first\n")
    elif command == "/model":
        _change_model(talk, argument)
    elif command == "/help":
        print("".join(f"{name:<8} {meaning}\n" for name, meaning in COMMANDS.items()))
    else:
        near = get_close_matches(command, COMMANDS, n=1)
        print(f"there is no {command}; " + (f"did you mean {near[0]}?\n" if near else "/help lists what there is\n"))
    return True


def _change_model(talk: Conversation, name: str) -> None:
    names = [str(entry.get("id")) for entry in talk.gateway.models()]
    if not name:
        print("".join(f"{'*' if known == talk.model else ' '} {known}\n" for known in names))
    elif name in names:
        talk.model = name
        print(f"now talking to {name}\n")
    else:
        print(f"there is no model {name}; there are: {', '.join(names)}\n")


@contextmanager
def _line_editing(history: Path | None) -> Iterator[ModuleType | None]:
    """readline where Python has it, with the history loaded and, at the end, saved."""
    try:
        import readline
    except ImportError:
        yield None
        return
    readline.set_auto_history(True)
    if history is not None:
        with suppress(OSError):  # none yet
            readline.read_history_file(history)
    try:
        yield readline
    finally:
        if history is not None:
            _save(readline, history)


def _save(readline: ModuleType, history: Path) -> None:
    try:
        history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(history, os.O_WRONLY | os.O_CREAT, 0o600))  # never readable by others, not even for a moment
        os.chmod(history, 0o600)
        readline.set_history_length(HISTORY_LINES_MAX)
        readline.write_history_file(history)
        os.chmod(history, 0o600)
    except OSError as error:
        print(f"the history could not be kept in {history}: {error.strerror}", flush=True)
