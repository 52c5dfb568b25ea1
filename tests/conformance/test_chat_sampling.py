"""Chat completions: what steers the choice of tokens."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from plain_http import PlainHttp

WIDE: dict[str, Any] = {"temperature": 2, "top_p": 1, "extra_body": {"top_k": 0, "min_p": 0}}
QUESTION: list[Any] = [{"role": "user", "content": "what is a token?"}]


def ask(client: openai.OpenAI, **fields: Any) -> openai.types.chat.chat_completion.Choice:
    answer = client.chat.completions.create(model="demo", messages=QUESTION, **{"max_tokens": 40, **fields})
    return answer.choices[0]


def token_of(http: PlainHttp, text: str) -> int:
    """The first token of a text in the model's vocabulary."""
    token: int = http.post("/tokenize", {"content": text}).json["tokens"][0]
    return token


def test_one_seed_twice(client: openai.OpenAI) -> None:
    """At a temperature at which much is possible, the same seed makes the same answer."""
    first, second = (ask(client, seed=11, **WIDE).message.content for _ in range(2))
    assert first == second


def test_many_seeds(client: openai.OpenAI) -> None:
    """At the same temperature, other seeds make other answers."""
    answers = {ask(client, seed=seed, **WIDE).message.content for seed in range(4)}
    assert len(answers) > 1


def test_temperature_zero(client: openai.OpenAI) -> None:
    """Without temperature there is nothing to draw: the seed changes nothing."""
    answers = {ask(client, temperature=0, seed=seed).message.content for seed in range(3)}
    assert len(answers) == 1


def test_a_nucleus_of_one_token(client: openai.OpenAI) -> None:
    """A `top_p` close to 0 leaves the likeliest token only, at any temperature."""
    likeliest = ask(client, temperature=0).message.content
    assert ask(client, temperature=2, top_p=0.000001, seed=5).message.content == likeliest


def test_a_stop_word(client: openai.OpenAI) -> None:
    """The answer ends before the stop word, which is not part of it, and the reason is `stop`."""
    whole = ask(client, temperature=0).message.content or ""
    stop = whole[len(whole) // 2 :][:3]
    choice = ask(client, temperature=0, stop=stop)
    assert choice.message.content == whole[: whole.index(stop)]
    assert choice.finish_reason == "stop"


def test_several_stop_words(client: openai.OpenAI) -> None:
    """The first of them to come up ends the answer, wherever it stands in the list."""
    whole = ask(client, temperature=0).message.content or ""
    early, late = whole[len(whole) // 3 :][:3], whole[2 * len(whole) // 3 :][:3]
    for stops in ([late, early], ["nowhere in it", early, late]):
        choice = ask(client, temperature=0, stop=stops)
        assert choice.message.content == whole[: min(whole.index(early), whole.index(late))]
        assert choice.finish_reason == "stop"


def test_a_stop_word_of_a_stream(client: openai.OpenAI) -> None:
    """No delta lets a part of the stop word through, although it may come in several tokens."""
    whole = ask(client, temperature=0).message.content or ""
    stop = whole[len(whole) // 2 :][:5]
    stream = client.chat.completions.create(
        model="demo", messages=QUESTION, max_tokens=40, temperature=0, stop=stop, stream=True
    )
    chunks = [chunk for chunk in stream if chunk.choices]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole[: whole.index(stop)]
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_bias_toward_one_token(client: openai.OpenAI, http: PlainHttp) -> None:
    """A token with a bias of 100 is the only one that comes."""
    token = token_of(http, "a")
    choice = ask(client, temperature=0, max_tokens=4, logit_bias={str(token): 100})
    assert choice.message.content == http.post("/detokenize", {"tokens": [token] * 4}).json["content"]


def test_a_bias_against_one_token(client: openai.OpenAI, http: PlainHttp) -> None:
    """A token with a bias of -100 does not come, even where it was the likeliest."""
    found = ask(client, temperature=0, max_tokens=1, logprobs=True).logprobs
    assert found is not None
    assert found.content
    likeliest = found.content[0].token
    bias = {str(token_of(http, likeliest)): -100}
    choice = ask(client, temperature=0, max_tokens=1, logprobs=True, logit_bias=bias)
    assert choice.logprobs is not None
    assert choice.logprobs.content
    assert choice.logprobs.content[0].token != likeliest


@pytest.mark.parametrize("penalty", [{"frequency_penalty": 2}, {"repeat_penalty": 1000}], ids=["frequency", "repeat"])
def test_a_penalty_on_repetition(client: openai.OpenAI, http: PlainHttp, penalty: dict[str, float]) -> None:
    """A token that a bias makes come again and again gives way once it was repeated often enough."""
    fields: dict[str, Any] = {"logit_bias": {str(token_of(http, "a")): 60}, "ignore_eos": True}
    plain = ask(client, temperature=0, max_tokens=60, extra_body=fields)
    held = ask(client, temperature=0, max_tokens=60, extra_body={**fields, **penalty})
    once = http.post("/detokenize", {"tokens": [token_of(http, "a")]}).json["content"]
    assert plain.message.content == once * 60
    assert held.message.content != plain.message.content


def test_a_penalty_on_presence(client: openai.OpenAI) -> None:
    """It is accepted at both ends of its range."""
    for penalty in (-2, 2):
        assert ask(client, max_tokens=2, presence_penalty=penalty).finish_reason in ("stop", "length")


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 2.1), ("top_p", 1.5), ("presence_penalty", -3), ("frequency_penalty", 2.5), ("n", 0), ("n", 1000)],
)
def test_a_number_out_of_its_range(client: openai.OpenAI, field: str, value: float) -> None:
    """It is refused under its name, not cut down in silence."""
    with pytest.raises(openai.BadRequestError, match=field) as refused:
        ask(client, **{field: value})
    assert refused.value.param == field
    assert refused.value.code == "invalid_value"
