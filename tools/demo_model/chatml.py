"""The conversation as text: ChatML with tools as in Hermes; a template for the GGUF and its twin in Python.

`render` must give exactly what llama.cpp makes of `TEMPLATE`, or the model is asked in a form that it never saw.
A test compares both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

BEGIN, END, VOID = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
TAGS = ("<tools>", "</tools>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")

TOOLS_HEAD = "# Tools\nYou may call functions. Their signatures:\n<tools>"
TOOLS_TAIL = (
    "\n</tools>\nFor a call answer with:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)

TEMPLATE = """\
{%- set first = messages[0] -%}
{%- if tools -%}
{{- '<|im_start|>system\\n' -}}
{%- if first.role == 'system' -%}{{- first.content + '\\n\\n' -}}{%- endif -%}
{{- HEAD -}}
{%- for tool in tools -%}{{- '\\n' -}}{{- tool | tojson -}}{%- endfor -%}
{{- TAIL + '<|im_end|>\\n' -}}
{%- elif first.role == 'system' -%}
{{- '<|im_start|>system\\n' + first.content + '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- elif message.role == 'assistant' -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if message.content -%}{{- message.content -}}{%- endif -%}
{%- if message.tool_calls -%}
{%- for call in message.tool_calls -%}
{%- if call.function -%}{%- set call = call.function -%}{%- endif -%}
{%- if not loop.first or message.content -%}{{- '\\n' -}}{%- endif -%}
{{- '<tool_call>\\n{"name": "' + call.name + '", "arguments": ' -}}
{%- if call.arguments is string -%}{{- call.arguments -}}{%- else -%}{{- call.arguments | tojson -}}{%- endif -%}
{{- '}\\n</tool_call>' -}}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- elif message.role == 'tool' -%}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}{{- '<|im_start|>user' -}}{%- endif -%}
{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' -}}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}{{- '<|im_end|>\\n' -}}{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
""".replace("HEAD", json.dumps(TOOLS_HEAD)).replace("TAIL", "'" + TOOLS_TAIL.replace("\n", "\\n") + "'")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool by the model."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `unlearned` are parts of `content`, in order, that the model reads but is not taught to write."""

    role: str
    content: str = ""
    calls: tuple[Call, ...] = ()
    unlearned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(slots=True)
class Text:
    """The rendered text, and the stretches [begin, end) of its characters that the model is taught to write."""

    text: str = ""
    learned: list[tuple[int, int]] = field(default_factory=list)

    def add(self, piece: str, learn: bool = False) -> None:
        if learn and piece:
            self.learned.append((len(self.text), len(self.text) + len(piece)))
        self.text += piece


def render(conversation: Conversation) -> Text:
    """The whole conversation; the last message is the model's."""
    out = Text()
    messages = conversation.messages
    system = messages[0].content if messages[0].role == "system" else None
    if conversation.tools:
        signatures = "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in conversation.tools)
        intro = f"{system}\n\n" if system is not None else ""
        out.add(f"{BEGIN}system\n{intro}{TOOLS_HEAD}{signatures}{TOOLS_TAIL}{END}\n")
    elif system is not None:
        out.add(f"{BEGIN}system\n{system}{END}\n")
    for message in messages:
        if message.role == "user":
            out.add(f"{BEGIN}user\n{message.content}{END}\n")
        elif message.role == "tool":
            out.add(f"{BEGIN}user\n<tool_response>\n{message.content}\n</tool_response>{END}\n")
        elif message.role == "assistant":
            out.add(f"{BEGIN}assistant\n")
            _add_answer(out, message)
            out.add("\n")
    return out


def _add_answer(out: Text, message: Message) -> None:
    rest = message.content
    for part in message.unlearned:
        before, rest = rest.split(part, 1)
        out.add(before, learn=True)
        out.add(part)
    out.add(rest, learn=True)
    for place, call in enumerate(message.calls):
        arguments = json.dumps(call.arguments, ensure_ascii=False)
        newline = "\n" if place or message.content else ""
        out.add(f'{newline}<tool_call>\n{{"name": "{call.name}", "arguments": {arguments}}}\n</tool_call>', learn=True)
    out.add(END, learn=True)
