"""Answers that follow a schema: whatever the model knows, the grammar holds it to the form."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field

QUESTION: list[Any] = [{"role": "user", "content": "Describe the server as JSON."}]


class Reading(BaseModel):
    """A shape in which nothing is open-ended, so that any model comes to its end."""

    level: Literal["low", "middle", "high"]
    count: Annotated[int, Field(ge=0, le=999)]
    ready: bool


SCHEMA: dict[str, Any] = {**Reading.model_json_schema(), "additionalProperties": False}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "reading", "schema": SCHEMA, "strict": True}}


def test_an_answer_by_a_schema(client: openai.OpenAI) -> None:
    """It is JSON that the schema's own model accepts, with nothing before or after it."""
    answer = client.chat.completions.create(
        model="demo", messages=QUESTION, response_format=FORMAT, max_tokens=400, temperature=0
    )
    assert answer.choices[0].finish_reason == "stop"
    Reading.model_validate_json(answer.choices[0].message.content or "", strict=True)


@pytest.mark.parametrize("seed", range(4))
def test_a_hot_answer_by_a_schema(client: openai.OpenAI, seed: int) -> None:
    """At any temperature: the grammar chooses among what is possible, it does not ask the model."""
    answer = client.chat.completions.create(
        model="demo", messages=QUESTION, response_format=FORMAT, max_tokens=400, temperature=2, seed=seed
    )
    Reading.model_validate_json(answer.choices[0].message.content or "", strict=True)


def test_a_streamed_answer_by_a_schema(client: openai.OpenAI) -> None:
    """The deltas add up to the same kind of document."""
    stream = client.chat.completions.create(
        model="demo", messages=QUESTION, response_format=FORMAT, max_tokens=400, temperature=0, stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    Reading.model_validate_json(text, strict=True)


def test_several_answers_by_a_schema(client: openai.OpenAI) -> None:
    """Each choice follows it."""
    answer = client.chat.completions.create(
        model="demo", messages=QUESTION, response_format=FORMAT, max_tokens=400, temperature=1, n=3
    )
    for choice in answer.choices:
        Reading.model_validate_json(choice.message.content or "", strict=True)


def test_a_pydantic_model_as_format(client: openai.OpenAI) -> None:
    """The client's `parse` makes the schema and hands out an instance of the model."""
    answer = client.chat.completions.parse(
        model="demo", messages=QUESTION, response_format=Reading, max_tokens=400, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Reading)


def test_a_pydantic_model_as_format_of_a_stream(client: openai.OpenAI) -> None:
    """The client's stream helper hands out the instance at the end."""
    with client.chat.completions.stream(
        model="demo", messages=QUESTION, response_format=Reading, max_tokens=400, temperature=0
    ) as stream:
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Reading)


async def test_a_pydantic_model_as_format_of_an_asyncio_client(async_client: openai.AsyncOpenAI) -> None:
    """The same with asyncio."""
    answer = await async_client.chat.completions.parse(
        model="demo", messages=QUESTION, response_format=Reading, max_tokens=400, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Reading)


def test_a_response_by_a_schema(client: openai.OpenAI) -> None:
    """The Responses API takes the same schema as `text.format`."""
    answer = client.responses.create(
        model="demo",
        input="Describe the server as JSON.",
        max_output_tokens=400,
        temperature=0,
        text={"format": {"type": "json_schema", "name": "reading", "schema": SCHEMA, "strict": True}},
    )
    assert answer.status == "completed"
    Reading.model_validate_json(answer.output_text, strict=True)


def test_a_pydantic_model_as_format_of_a_response(client: openai.OpenAI) -> None:
    """The client's `parse` of the Responses API."""
    answer = client.responses.parse(
        model="demo", input="Describe the server.", text_format=Reading, max_output_tokens=400, temperature=0
    )
    assert isinstance(answer.output_parsed, Reading)


def test_a_list_by_a_schema(client: openai.OpenAI) -> None:
    """Arrays, nested objects and enumerations are held to, too."""
    item = {
        "type": "object",
        "properties": {"kind": {"enum": ["a", "b"]}, "on": {"type": "boolean"}},
        "required": ["kind", "on"],
        "additionalProperties": False,
    }
    schema = {"type": "array", "items": item, "minItems": 2, "maxItems": 3}
    answer = client.chat.completions.create(
        model="demo",
        messages=QUESTION,
        max_tokens=800,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "list", "schema": schema}},
    )
    found = json.loads(answer.choices[0].message.content or "")
    assert 2 <= len(found) <= 3
    assert all(entry["kind"] in ("a", "b") and isinstance(entry["on"], bool) for entry in found)


def test_an_object_of_any_kind(client: openai.OpenAI) -> None:
    """`json_object` opens with a brace at any temperature."""
    for seed in range(3):
        answer = client.chat.completions.create(
            model="demo",
            messages=QUESTION,
            max_tokens=20,
            temperature=2,
            seed=seed,
            response_format={"type": "json_object"},
        )
        assert (answer.choices[0].message.content or "").lstrip().startswith("{")


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "empty"}},
        {"type": "json_schema", "json_schema": {"name": "odd", "schema": {"type": "no such type"}}},
        {"type": "xml"},
    ],
    ids=["no json_schema", "no schema", "a schema of an unknown type", "an unknown type"],
)
def test_a_format_that_cannot_be_followed(client: openai.OpenAI, wanted: Any) -> None:
    """It is refused; an answer in another form would break the program that asked."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="demo", messages=QUESTION, response_format=wanted, max_tokens=10)
    assert refused.value.type == "invalid_request_error"
    assert refused.value.code
