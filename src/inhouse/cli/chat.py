"""`inhouse chat`: a conversation in the terminal, or one question from the arguments or a pipe."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from inhouse.cli.options import ApiKey, BaseUrl, Config, StateDir, examples

EXAMPLES = examples(
    "inhouse chat",
    "inhouse chat 'What is a slot?'",
    "git diff | inhouse chat 'Say what changes here:' -",
    "echo hi | inhouse chat --model chat --max-tokens 50",
)


def chat(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUESTION", help="Asked once; `-` stands for standard input.", show_default=False),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The model; else the gateway's first.")] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="What the model is told first.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="0 for the likeliest words, 1 for variety.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of an answer at most.")] = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    no_history: Annotated[bool, typer.Option("--no-history", help="Keep no history of what is typed.")] = False,
) -> None:
    """Talk to a model of the running gateway.

    Ctrl-C stops an answer; Ctrl-C or Ctrl-D at an empty prompt leaves. /help lists what else can be typed.
    With a question or in a pipe, only the answer is printed.
    """
    from inhouse.cli.conversation import Conversation, first_model
    from inhouse.cli.reach import Target, reach

    interactive = not words and sys.stdin.isatty() and sys.stdout.isatty()
    question = "" if interactive else _question(words or ["-"])
    target = Target(config, base_url, api_key, state_dir)
    with reach(target, note="inhouse chat") as gateway:
        talk = Conversation(gateway, model or first_model(gateway), system, temperature, max_tokens)
        if not interactive:
            talk.ask_once(question)
            return
        from inhouse.cli.terminal import converse

        converse(talk, None if no_history else target.state_folder() / "chat_history")


def _question(words: list[str]) -> str:
    from inhouse.errors import InhouseError

    try:
        text = " ".join(sys.stdin.read().strip() if word == "-" else word for word in words).strip()
    except UnicodeDecodeError as error:
        raise InhouseError(f"standard input is not UTF-8 text (byte {error.start})") from error
    if not text:
        raise InhouseError("there is no question", hint="inhouse chat 'What is a slot?', or echo … | inhouse chat")
    return text
