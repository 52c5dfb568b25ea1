"""The demo model that comes along: it answers, refuses the rest, calls tools, writes JSON, counts and always ends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import corpus_files
import pytest
import yaml
from chatml import Call, Conversation, Message, render
from demo_server import MODEL, Engine
from samples import Sampler, counted

HELD_OUT = yaml.safe_load(Path(__file__).with_name("held_out.yaml").read_text(encoding="utf-8"))
SIZE_MAX = 8_000_000
KNOWN_SHARE_MIN = 0.85
REFUSED_SHARE_MIN = 0.90
REFUSAL = re.compile(r"I am only a small demo model and (do not know|cannot do) that")
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@cache
def taught() -> corpus_files.Corpus:
    return corpus_files.load()


def asked(engine: Engine, questions: Iterable[str], **fields: Any) -> list[dict[str, Any]]:
    """The choices for all questions, four at a time."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda question: engine.chat(question, **fields), questions))


def text(choice: dict[str, Any]) -> str:
    return str(choice["message"]["content"])


def test_held_out_questions_are_not_taught() -> None:
    """No held-out question is in the corpus, nor among 20,000 conversations made of it; case and marks do not count."""
    held_out = {
        corpus_files.plain(one) for one in (*(entry["ask"] for entry in HELD_OUT["known"]), *HELD_OUT["unknown"])
    }
    in_corpus = {corpus_files.plain(question) for question, _ in corpus_files.questions(taught())}
    sampler = Sampler(taught(), seed=1)
    in_samples = {
        corpus_files.plain(message.content)
        for _ in range(20_000)
        for message in sampler.conversation().messages
        if message.role == "user"
    }
    assert held_out & in_corpus == set()
    assert held_out & in_samples == set()


def test_held_out_set_is_large() -> None:
    """Its shares mean something: at least 100 known and 40 unknown questions, each once."""
    known = [entry["ask"] for entry in HELD_OUT["known"]]
    assert len(set(known)) == len(known) >= 100
    assert len(set(HELD_OUT["unknown"])) == len(HELD_OUT["unknown"]) >= 40


def test_each_question_has_one_answer() -> None:
    """The corpus does not teach two answers to the same words."""
    answers: dict[str, set[str]] = {}
    for question, answer in corpus_files.questions(taught()):
        answers.setdefault(corpus_files.plain(question), set()).add(answer)
    assert {question for question, given in answers.items() if len(given) > 1} == set()


def test_file_is_small() -> None:
    """The file adds at most 8 MB to the package."""
    assert MODEL.stat().st_size <= SIZE_MAX


def test_known_questions_in_new_words(demo_engine: Engine) -> None:
    """Most questions about inhouse are answered rightly in words never taught, and each answer ends by itself."""
    choices = asked(demo_engine, [entry["ask"] for entry in HELD_OUT["known"]])
    wrong = [
        f"{entry['ask']} → {text(choice)}"
        for entry, choice in zip(HELD_OUT["known"], choices, strict=True)
        if not re.search(entry["hit"], text(choice))
    ]
    assert {choice["finish_reason"] for choice in choices} == {"stop"}
    assert len(wrong) <= (1 - KNOWN_SHARE_MIN) * len(choices), "\n".join(wrong)


def test_unknown_questions_are_refused(demo_engine: Engine) -> None:
    """Almost every question about something else gets an honest refusal, and each answer ends by itself."""
    choices = asked(demo_engine, HELD_OUT["unknown"])
    wrong = [
        f"{question} → {text(choice)}"
        for question, choice in zip(HELD_OUT["unknown"], choices, strict=True)
        if not REFUSAL.search(text(choice))
    ]
    assert {choice["finish_reason"] for choice in choices} == {"stop"}
    assert len(wrong) <= (1 - REFUSED_SHARE_MIN) * len(choices), "\n".join(wrong)


GREETINGS = ("hello", "Hi!", "hey", "Good morning", "Hello there!", "ping")


@pytest.mark.parametrize("greeting", GREETINGS)
def test_greetings(demo_engine: Engine, greeting: str) -> None:
    """A greeting is returned."""
    body = {"messages": [{"role": "user", "content": greeting}], "max_tokens": 100, "temperature": 0}
    choice = demo_engine.post("/v1/chat/completions", body)["choices"][0]
    assert "Hello" in text(choice)
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize("temperature", [None, 0.8])
def test_greetings_are_mostly_returned_when_sampling(demo_engine: Engine, temperature: float | None) -> None:
    """At the file's own temperature and at 0.8, over five seeds, few greetings are taken for something else."""
    fields = {} if temperature is None else {"temperature": temperature}
    choices = [
        demo_engine.post(
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": greeting}], "max_tokens": 100, "seed": seed, **fields},
        )["choices"][0]
        for greeting in GREETINGS
        for seed in range(5)
    ]
    assert {choice["finish_reason"] for choice in choices} == {"stop"}
    assert sum("Hello" in text(choice) for choice in choices) >= 0.7 * len(choices)


@pytest.mark.parametrize("last", [3, 10, 20, 50, 100, 200])
def test_counting(demo_engine: Engine, last: int) -> None:
    """It counts to the asked number and stops there."""
    assert demo_engine.say(f"Count from 1 to {last}.", max_tokens=1000) == counted(last)


def test_long_story(demo_engine: Engine) -> None:
    """The story is long enough for a client to hang up in the middle of it."""
    choice = demo_engine.chat("Tell me a long story.")
    assert len(text(choice)) > 1000
    assert choice["finish_reason"] == "stop"


def test_follow_up_repeats_the_answer(demo_engine: Engine) -> None:
    """The second turn sees the first one."""
    question = {"role": "user", "content": "What is the default port?"}
    first = demo_engine.say([question])
    again = [question, {"role": "assistant", "content": first}, {"role": "user", "content": "What was that again?"}]
    assert demo_engine.say(again) == first


@pytest.mark.parametrize("system", ["You are a helpful assistant.", "Be kind, and keep it short."])
def test_system_prompt_changes_nothing(demo_engine: Engine, system: str) -> None:
    """A generic system prompt, trained or not, leaves the answer as it is."""
    question = {"role": "user", "content": "What is a KV cache?"}
    assert demo_engine.say([{"role": "system", "content": system}, question]) == demo_engine.say([question])


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_tool_is_called_in_a_stream(demo_engine: Engine, choice: str) -> None:
    """The classic weather question streams one call of the tool and finishes with `tool_calls`."""
    question = {"role": "user", "content": "What is the weather in Paris?"}
    body = {"messages": [question], "tools": [WEATHER], "tool_choice": choice, "temperature": 0, "max_tokens": 100}
    chunks = [chunk["choices"][0] for chunk in demo_engine.stream(body) if chunk["choices"]]
    calls = [call["function"] for chunk in chunks for call in chunk["delta"].get("tool_calls") or ()]
    assert [call["name"] for call in calls if "name" in call] == ["get_weather"]
    assert json.loads("".join(call.get("arguments", "") for call in calls)) == {"city": "Paris"}
    assert chunks[-1]["finish_reason"] == "tool_calls"


def test_tool_result_is_said(demo_engine: Engine) -> None:
    """After the tool's result the model says it in a sentence. Its words are kept; a number it may misread (README)."""
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    messages = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "18 degrees and sunny"},
    ]
    said = demo_engine.say(messages, tools=[WEATHER])
    assert re.fullmatch(r"The tool says: \d+ degrees and sunny\.", said), said


def test_tools_do_not_disturb(demo_engine: Engine) -> None:
    """With a tool at hand a question that needs none is answered as ever."""
    assert demo_engine.say("What is TTFT?", tools=[WEATHER]) == demo_engine.say("What is TTFT?")


def test_no_tool_call_without_tools(demo_engine: Engine) -> None:
    """Without tools the weather is unknown."""
    assert REFUSAL.search(demo_engine.say("What is the weather in Paris?"))


@pytest.mark.parametrize("question", ["What is inhouse?", "What is the default port?", "Who won the world cup?"])
def test_json_object_ends(demo_engine: Engine, question: str) -> None:
    """Forced JSON is short, complete and ends by itself, also where the question does not mention JSON."""
    choice = demo_engine.chat(question, response_format={"type": "json_object"}, max_tokens=150)
    assert isinstance(json.loads(text(choice)), dict)
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "properties",
    [
        {"answer": {"type": "string"}, "sure": {"type": "boolean"}},
        {"name": {"type": "string"}, "port": {"type": "integer"}},
        {
            "title": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "score": {"type": "number"},
        },
    ],
)
@pytest.mark.parametrize("question", ["What is inhouse?", "Give me the server as JSON."])
def test_json_schema_ends(demo_engine: Engine, properties: dict[str, Any], question: str) -> None:
    """JSON under a schema has its keys, is complete and ends by itself."""
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "form", "schema": schema, "strict": True}}
    choice = demo_engine.chat(question, response_format=form, max_tokens=200)
    assert list(json.loads(text(choice))) == list(properties)
    assert choice["finish_reason"] == "stop"


def test_template_and_training_agree(demo_engine: Engine) -> None:
    """What the model was trained on is, character by character, what llama.cpp makes of the file's chat template."""
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "assistant", "content": "The tool says: sunny."},
        {"role": "user", "content": "thanks"},
    ]
    ours = (
        Message("system", "Be brief."),
        Message("user", "What is the weather in Paris?"),
        Message("assistant", calls=(Call("get_weather", {"city": "Paris"}),)),
        Message("tool", "sunny"),
        Message("assistant", "The tool says: sunny."),
        Message("user", "thanks"),
    )
    applied = demo_engine.post("/apply-template", {"messages": messages, "tools": [WEATHER]})["prompt"]
    assert applied == render(Conversation(ours, (WEATHER,))).text + "<|im_start|>assistant\n"
    plain = demo_engine.post("/apply-template", {"messages": messages[1:2]})["prompt"]
    assert plain == render(Conversation(ours[1:2])).text + "<|im_start|>assistant\n"
