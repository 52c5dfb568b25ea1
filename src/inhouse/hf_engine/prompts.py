"""Requests → rows of tokens. With long prompts that is too slow for the event loop: it is called in a thread.

A lock keeps two threads out of the tokenizer at once: some kinds of it change their own settings while they encode.
The model's thread only decodes, which changes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from inhouse.errors import BadRequest, ContextTooLong
from inhouse.hf_engine import asks
from inhouse.hf_engine.asks import ChatAsk, EmbeddingAsk, GenerateAsk, Sampling, TextAsk
from inhouse.hf_engine.loading import Loaded
from inhouse.hf_engine.rows import Wanted
from inhouse.wire.chat import Message, TextPart

_encoding = threading.Lock()


def chat_tokens(loaded: Loaded, ask: ChatAsk) -> list[int]:
    """The prompt that the model's own template makes of the messages. Raises BadRequest."""
    if not getattr(loaded.tokenizer, "chat_template", None):
        raise BadRequest("this model has no chat template; send the text itself to /v1/completions", param="messages")
    goes_on = bool(ask.continue_final_message)
    if goes_on and ask.messages[-1].role != "assistant":
        raise BadRequest("`continue_final_message` needs a last message of the assistant", param="messages")
    opens = (ask.add_generation_prompt is not False) and not goes_on
    messages = [_message(message, index) for index, message in enumerate(ask.messages)]
    return _templated(loaded, messages, opens=opens, goes_on=goes_on, more=ask.chat_template_kwargs or {})


def chat_rows(loaded: Loaded, ask: ChatAsk) -> list[Wanted]:
    """One row for each of `n`. Raises BadRequest, ContextTooLong."""
    _check_generates(loaded)
    asks.check_chat(ask)
    if ask.top_logprobs is not None and not ask.logprobs:
        raise BadRequest("`top_logprobs` needs `logprobs` to be true", param="top_logprobs")
    logprobs = (ask.top_logprobs or 0) if ask.logprobs else None
    sampling = asks.sampling(ask, loaded.defaults, logprobs)
    most = ask.max_completion_tokens or ask.max_tokens
    return _spread(loaded, [chat_tokens(loaded, ask)], ask, sampling, most, param="messages")


def text_rows(loaded: Loaded, ask: TextAsk) -> list[Wanted]:
    """One row for each prompt and each of `n`. Raises BadRequest, ContextTooLong."""
    _check_generates(loaded)
    if ask.echo:
        raise BadRequest("`echo` is not supported; the prompt is known to whoever sent it", param="echo")
    prompts = [encoded(loaded, one, special=True) for one in _several(ask.prompt, "prompt")]
    sampling = asks.sampling(ask, loaded.defaults, ask.logprobs)
    return _spread(loaded, prompts, ask, sampling, ask.max_tokens, param="prompt")


def generate_rows(loaded: Loaded, ask: GenerateAsk) -> list[Wanted]:
    """One row. The text is a user's message where the model has a chat template, and the prompt itself elsewhere."""
    _check_generates(loaded)
    if (ask.n or 1) != 1:
        raise BadRequest("`n` is 1 here; /v1/completions gives several answers", param="n")
    if getattr(loaded.tokenizer, "chat_template", None):
        prompt = _templated(loaded, [{"role": "user", "content": ask.text}], opens=True, goes_on=False, more={})
    else:
        prompt = encoded(loaded, ask.text, special=True)
    return _spread(loaded, [prompt], ask, asks.sampling(ask, loaded.defaults), ask.max_tokens, param="text")


def embedding_rows(loaded: Loaded, ask: EmbeddingAsk) -> list[Wanted]:
    """One row for each input. Raises BadRequest, ContextTooLong."""
    if not loaded.embeds:
        raise BadRequest("this model generates text; it makes no embeddings")
    inputs = _several(ask.input, "input")
    if len(inputs) > asks.INPUTS_MAX:
        raise BadRequest(f"`input` has {len(inputs)} items; at most {asks.INPUTS_MAX} in one request", param="input")
    rows = [Wanted(encoded(loaded, one, special=True)) for one in inputs]
    for row in rows:
        if not row.prompt:
            raise BadRequest("`input` has an empty text; every text needs at least one token", param="input")
        if len(row.prompt) > loaded.context_tokens:
            raise ContextTooLong(len(row.prompt), loaded.context_tokens, param="input")
    return rows


def text_of(loaded: Loaded, tokens: list[int]) -> str:
    """Raises BadRequest for numbers that are no tokens."""
    size = len(loaded.tokenizer)
    if any(not 0 <= token < size for token in tokens):
        raise BadRequest(f"`tokens` has an id outside this model's vocabulary of {size}", param="tokens")
    found: str = loaded.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return found


def _check_generates(loaded: Loaded) -> None:
    if loaded.embeds:
        raise BadRequest("this model makes embeddings; it generates no text")


def _spread(
    loaded: Loaded, prompts: Sequence[list[int]], ask: Any, sampling: Sampling, most: int | None, *, param: str
) -> list[Wanted]:
    """`n` rows of each prompt; with a seed, each has its own, so that they differ."""
    count = ask.n or 1
    if len(prompts) * count > asks.ROWS_MAX:
        raise BadRequest(f"prompts times `n` is more than {asks.ROWS_MAX}; send several requests", param=param)
    stops = asks.stops(ask)
    found = []
    for prompt in prompts:
        room = loaded.context_tokens - len(prompt)
        if room <= 0:
            raise ContextTooLong(len(prompt), loaded.context_tokens, param=param)
        if not prompt:
            raise BadRequest(f"`{param}` is empty; an answer needs at least one token to go on from", param=param)
        for index in range(count):
            seed = None if sampling.seed is None else sampling.seed + index
            found.append(
                Wanted(
                    prompt,
                    room if most is None else min(room, most),
                    replace(sampling, seed=seed),
                    stops,
                    bool(ask.ignore_eos),
                )
            )
    return found


def _several(given: str | list[Any], param: str) -> list[str | list[int]]:
    if isinstance(given, str):
        return [given]
    kinds = {type(item) for item in given}
    if len(kinds) != 1:
        raise BadRequest(f"`{param}` mixes texts with token ids; send one kind", param=param)
    return [given] if kinds == {int} else given


def encoded(loaded: Loaded, given: str | list[int], *, special: bool) -> list[int]:
    """A text in tokens, with those that the model wants around it where `special`. Raises BadRequest."""
    if isinstance(given, list):
        size = loaded.model.config.get_text_config(decoder=True).vocab_size
        if any(not 0 <= token < size for token in given):
            raise BadRequest(f"a token id is outside this model's vocabulary of {size}")
        return given
    with _encoding:
        found: list[int] = loaded.tokenizer(given, add_special_tokens=special)["input_ids"]
        return found


def _templated(
    loaded: Loaded, messages: list[dict[str, Any]], *, opens: bool, goes_on: bool, more: dict[str, Any]
) -> list[int]:
    import jinja2

    try:
        with _encoding:
            text = loaded.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=opens,
                continue_final_message=goes_on,
                **{key: value for key, value in more.items() if key not in _OWN},
            )
            found: list[int] = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
            return found
    except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
        told = str(error)[:300] if isinstance(error, jinja2.TemplateError) else type(error).__name__
        raise BadRequest(f"the model's chat template does not take these messages: {told}", param="messages") from None


_OWN = frozenset(
    ("tokenize", "add_generation_prompt", "continue_final_message", "conversation", "chat_template", "tools",
     "documents", "padding", "truncation", "max_length", "return_tensors", "return_dict",
     "return_assistant_tokens_mask", "tokenizer_kwargs", "sanitize_control_tokens")
)  # fmt: skip
"""What the library's function means by itself: clients give variables of the template, no templates and no switches."""


def _message(message: Message, index: int) -> dict[str, Any]:
    content = message.content or ""
    if isinstance(content, list):
        for at, part in enumerate(content):
            if not isinstance(part, TextPart):
                where = f"messages[{index}].content[{at}]"
                raise BadRequest(f"`{where}` is no text; this engine takes text parts only", param=where)
        content = "".join(part.text for part in content if isinstance(part, TextPart))
    role = "system" if message.role == "developer" else message.role
    found: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(message, role=role, content=content))
    return found
