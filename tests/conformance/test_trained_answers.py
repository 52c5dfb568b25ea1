"""What the demo model has learned: answers that end by themselves, counting, JSON of its own."""

from __future__ import annotations

import json
from typing import Any

import openai

COUNT: list[Any] = [{"role": "user", "content": "Count from 1 to 50."}]


def ask(client: openai.OpenAI, text: str, **fields: Any) -> openai.types.chat.chat_completion.Choice:
    answer = client.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": text}], temperature=0, **{"max_tokens": 300, **fields}
    )
    return answer.choices[0]


def test_an_answer_that_ends_by_itself(client: openai.OpenAI) -> None:
    """The reason is `stop`, and no mark of the chat template is left in the text."""
    choice = ask(client, "hello")
    assert choice.finish_reason == "stop"
    assert choice.message.content
    assert "<|" not in choice.message.content


def test_a_stop_word_in_a_count(client: openai.OpenAI) -> None:
    """The count ends before the number."""
    choice = ask(client, "Count from 1 to 50.", stop=" 7")
    assert choice.finish_reason == "stop"
    assert choice.message.content == "1, 2, 3, 4, 5, 6,"


def test_a_count_that_is_streamed(client: openai.OpenAI) -> None:
    """Long enough to see that it comes piece by piece, and in order."""
    stream = client.chat.completions.create(model="demo", messages=COUNT, temperature=0, max_tokens=300, stream=True)
    pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices[0].delta.content]
    assert len(pieces) > 50
    assert "".join(pieces).startswith(", ".join(str(number) for number in range(1, 31)))


def test_an_object_of_the_models_own(client: openai.OpenAI) -> None:
    """With `json_object` and a limit that suffices, the object is closed."""
    choice = ask(client, "What is the default port? Answer in JSON.", response_format={"type": "json_object"})
    assert choice.finish_reason == "stop"
    assert isinstance(json.loads(choice.message.content or ""), dict)


def test_a_response_in_json(client: openai.OpenAI) -> None:
    """The same through the Responses API."""
    answer = client.responses.create(
        model="demo",
        input="What is the default port? Answer in JSON.",
        temperature=0,
        max_output_tokens=300,
        text={"format": {"type": "json_object"}},
    )
    assert answer.status == "completed"
    assert isinstance(json.loads(answer.output_text), dict)


def test_a_free_text_in_a_schema(client: openai.OpenAI) -> None:
    """A string without any limit ends because the model ends it."""
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string"}, "sure": {"type": "boolean"}},
        "required": ["answer", "sure"],
        "additionalProperties": False,
    }
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    choice = ask(client, "What is inhouse?", response_format=wanted)
    assert choice.finish_reason == "stop"
    found = json.loads(choice.message.content or "")
    assert set(found) == {"answer", "sure"}
