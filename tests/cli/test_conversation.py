"""`inhouse chat` on a terminal: memory, /commands, Ctrl-C, history."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def chat(terminal: Any, gateway: Any) -> Any:
    one = terminal("chat", "--base-url", gateway.url, "--api-key", "k")
    one.expect("alpha at http://127.0.0.1")
    one.expect("> ")
    return one


def say(chat: Any, text: str) -> str:
    """What is printed until the next prompt."""
    chat.type(f"{text}\n")
    chat.expect(text)
    return str(chat.expect("\n> "))


def test_turns_are_remembered_until_reset(chat: Any, gateway: Any) -> None:
    shown = say(chat, "one")
    assert "you said: one" in shown
    assert "3 tokens" in shown
    say(chat, "two")
    roles = [(message["role"], message["content"].strip()) for message in gateway.requests[-1]["messages"]]
    assert roles == [("user", "one"), ("assistant", "you said: one"), ("user", "two")]
    assert "forgotten" in say(chat, "/reset")
    say(chat, "three")
    assert [message["content"] for message in gateway.requests[-1]["messages"]] == ["three"]
    chat.type("\x04")
    assert chat.ended() == 0


def test_commands(chat: Any, gateway: Any) -> None:
    assert "/model NAME" in say(chat, "/help")
    assert "* alpha" in say(chat, "/model")
    assert "there are: alpha, beta" in say(chat, "/model gamma")
    say(chat, "/model beta")
    say(chat, "/system be brief")
    say(chat, "hi")
    assert gateway.requests[-1]["model"] == "beta"
    assert gateway.requests[-1]["messages"][0] == {"role": "system", "content": "be brief"}
    assert "did you mean /reset?" in say(chat, "/rest")
    assert "the queue is full [queue_full]" in say(chat, "busy")
    say(chat, "")
    chat.type("/exit\n")
    assert chat.ended() == 0


def test_ctrl_c_stops_the_answer_and_the_prompt_comes_back(chat: Any, gateway: Any) -> None:
    """The gateway sees the hang-up; what came is remembered."""
    chat.type("hang\n")
    chat.expect("first words")
    chat.interrupt()
    assert "stopped" in chat.expect("\n> ")
    assert gateway.hung_up.wait(30)
    say(chat, "go on")
    assert [message["content"] for message in gateway.requests[-1]["messages"]] == ["hang", "first words", "go on"]
    chat.interrupt()
    assert chat.ended() == 0


def test_ctrl_c_clears_what_is_typed(chat: Any) -> None:
    """Only on an empty line does it leave."""
    chat.type("half a questi")
    chat.expect("half a questi")
    chat.interrupt()
    chat.expect("> ")
    assert "you said: whole" in say(chat, "whole")
    chat.interrupt()
    assert chat.ended() == 0


def test_an_answer_cannot_command_the_terminal(chat: Any) -> None:
    """Escape sequences in an answer lose their escape."""
    shown = say(chat, "escape")
    assert "]0;owned31mred" in shown
    assert "\x1b]0" not in shown
    assert "\x07" not in shown


def test_thoughts_are_dim(chat: Any) -> None:
    assert "\x1b[2mhmm\x1b[0m" in say(chat, "think")


def test_history_is_kept_for_oneself(terminal: Any, gateway: Any, tmp_path: Path) -> None:
    """Mode 0600; the arrow key brings back the question of the last time."""
    path = tmp_path / "state/inhouse/chat_history"
    for turn in range(2):
        one = terminal("chat", "--base-url", gateway.url, "--api-key", "k")
        one.expect("> ")
        if turn == 0:
            say(one, "remember this")
        else:
            one.type("\x1b[A\n")
            one.expect("you said: remember this")
            one.expect("> ")
        one.type("\x04")
        assert one.ended() == 0
        assert "remember this" in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_history(terminal: Any, gateway: Any, tmp_path: Path) -> None:
    one = terminal("chat", "--no-history", "--base-url", gateway.url, "--api-key", "k")
    one.expect("> ")
    say(one, "secret")
    one.type("\x04")
    assert one.ended() == 0
    assert not (tmp_path / "state").exists()


def test_a_refused_key_ends_the_conversation(terminal: Any, gateway: Any) -> None:
    gateway.key = "right"
    one = terminal("chat", "--model", "alpha", "--base-url", gateway.url, "--api-key", "wrong")
    one.expect("> ")
    one.type("hi\n")
    one.expect("HTTP 401")
    assert one.ended() == 1
