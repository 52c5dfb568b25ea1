"""What clients of the fake engine send, and what it says to them: OpenAI's shapes, as llama-server writes them."""

from __future__ import annotations

import base64
import struct
import time
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from inhouse.fake import text
from inhouse.fake.batch import Sequence
from inhouse.fake.dialects import DIALECTS, Dialect
from inhouse.fake.settings import Settings

_encode = msgspec.json.encode
DONE = b"data: [DONE]\n\n"
_PART_TOKENS = 64
"""Tokens of a part that is no text, such as an image."""


class Refused(Exception):
    """An answer other than 200. `more` is what only llama-server tells."""

    def __init__(self, status: int, kind: str, message: str, **more: int) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.more = status, kind, message, more

    def body(self, dialect: Dialect) -> bytes:
        return _encode(dialect.error(self.status, self.kind, self.message, self.more))


class _Part(Struct):
    type: str = "text"
    text: str = ""


class _Message(Struct):
    role: str
    content: str | list[_Part] | None = None
    tool_calls: Raw | UnsetType = UNSET


class _StreamOptions(Struct):
    include_usage: bool = False


class _Ask(Struct, kw_only=True):
    model: str = ""
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    seed: int | None = None
    ignore_eos: bool | None = False


class ChatAsk(_Ask):
    messages: list[_Message]
    tools: Raw | UnsetType = UNSET


class TextAsk(_Ask):
    prompt: str | list[int | str]


class EmbeddingAsk(Struct):
    input: str | list[str]
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"


class RerankAsk(Struct):
    query: str
    documents: list[str]
    model: str = ""


class Plan(Struct, frozen=True):
    """A request that was understood: what is computed, which words the answer has, and in which shape it goes out."""

    chat: bool
    model: str
    prompt: list[str]
    key: int
    start: int
    answer_tokens: int
    finish_reason: str
    stream: bool
    include_usage: bool

    def words(self, first: int, count: int) -> str:
        """Tokens `first` and on of what is new in this answer."""
        if self.chat:
            return text.answer(self.key, self.start + first, count)
        return "".join([text.token(self.key, self.start + first + k) for k in range(count)])


def chat_plan(ask: ChatAsk, settings: Settings) -> Plan:
    """A chat; where it ends with the assistant, its last message is continued. Raises Refused."""
    before, said = ask.messages, ""
    if before and before[-1].role == "assistant":
        said = _content(before[-1])[0]
        before = before[:-1]
    parts = [part for message in before for part in (message.role, _content(message)[0])]
    key = text.key_of(parts, settings.seed + (ask.seed or 0))
    return _plan(True, ask, settings, chat_tokens(ask), key, len(text.tokens_of(said)))


def chat_tokens(ask: ChatAsk) -> list[str]:
    """The whole prompt in tokens: a marker before and behind each message, one before the answer."""
    tokens = ["<tools>", *text.tokens_of(_raw(ask.tools))] if _raw(ask.tools) else []
    open_end = bool(ask.messages) and ask.messages[-1].role == "assistant"
    for message in ask.messages:
        content, others = _content(message)
        if content and message.role == "assistant":
            content = f" {content}"  # as its tokens were made
        tokens += [f"<{message.role}>", *text.tokens_of(content), *["<part>"] * others]
        tokens += text.tokens_of(_raw(message.tool_calls))
        tokens.append("<end>")
    if open_end:
        tokens.pop()
    else:
        tokens.append("<assistant>")
    return tokens


def text_plan(ask: TextAsk, settings: Settings, vocabulary: text.Vocabulary) -> Plan:
    """A plain text; where it ends with the beginning of its own answer, that is continued. Raises Refused."""
    prompt = ask.prompt
    if isinstance(prompt, list):
        numbers = [item for item in prompt if isinstance(item, int)]
        joined = "".join(item for item in prompt if isinstance(item, str))
        known = vocabulary.text(numbers) if numbers else joined
        prompt = " ".join(map(str, numbers)) if known is None else known
    tokens = text.tokens_of(prompt)
    key, start = text.continued(tokens, settings.seed + (ask.seed or 0))
    return _plan(False, ask, settings, tokens or ["<start>"], key, start)


def _plan(chat: bool, ask: _Ask, settings: Settings, prompt: list[str], key: int, start: int) -> Plan:
    room = settings.context_tokens - len(prompt)
    if room <= 0:
        dialect = DIALECTS[settings.speaks]
        told = dialect.too_long or "request ({prompt} tokens) exceeds the available context size ({context} tokens)"
        raise Refused(
            dialect.too_long_status,
            "exceed_context_size_error",
            told.format(prompt=len(prompt), context=settings.context_tokens),
            n_prompt_tokens=len(prompt),
            n_ctx=settings.context_tokens,
        )
    wanted = ask.max_completion_tokens or ask.max_tokens
    most = room if wanted is None or wanted < 0 else min(room, wanted)
    own = most if ask.ignore_eos else max(0, text.length(key, settings.answer_tokens, settings.answer_spread) - start)
    options = ask.stream_options
    return Plan(
        chat=chat,
        model=ask.model or "fake",
        prompt=prompt,
        key=key,
        start=start,
        answer_tokens=min(own, most),
        finish_reason="stop" if own <= most and not ask.ignore_eos else "length",
        stream=bool(ask.stream),
        include_usage=options is not None and options.include_usage,
    )


def _content(message: _Message) -> tuple[str, int]:
    """The text of a message, and the tokens of what is no text."""
    content = message.content
    if content is None or isinstance(content, str):
        return content or "", 0
    others = sum(part.type not in ("text", "refusal") for part in content)
    return "".join(part.text for part in content), others * _PART_TOKENS


def _raw(value: Raw | UnsetType) -> str:
    return "" if value is UNSET else bytes(value).decode()


class Answer:
    """The bytes of one answer, streamed or whole."""

    def __init__(self, plan: Plan, number: int, model: str, dialect: Dialect = DIALECTS["llamacpp"]) -> None:
        self._plan = plan
        self._dialect = dialect
        self._model = plan.model or model
        self._id = f"{'chatcmpl' if plan.chat else 'cmpl'}-fake-{number}"
        self._created = int(time.time())
        role = '"role":"assistant",' if dialect.opening is None else ""
        name, value = (f'"delta":{{{role}"content":"', '"}') if plan.chat else ('"text":"', '"')
        self._before = f'data: {{"choices":[{{"finish_reason":null,"index":0{dialect.choice},{name}'.encode()
        self._after = f"{value}}}],{self._tail(stream=True)}{dialect.event}}}\n\n".encode()

    def opening(self) -> bytes:
        dialect = self._dialect
        if not self._plan.chat or dialect.opening is None:
            return b""
        return self._event(f'[{{"finish_reason":null,"index":0{dialect.choice},"delta":{dialect.opening}}}]')

    def tokens(self, first: int, count: int) -> bytes:
        """An event for each token. Words need no escaping."""
        words = [self._plan.words(k, 1).encode() for k in range(first, first + count)]
        return b"".join([self._before + word + self._after for word in words])

    def closing(self, sequence: Sequence) -> bytes:
        """The last event, usage where it was asked for, and the mark of the end."""
        dialect = self._dialect
        shape = '"delta":{}' if self._plan.chat else '"text":""'
        end = f'"finish_reason":"{self._plan.finish_reason}","index":0{dialect.choice}{dialect.last}'
        last = self._event(f"[{{{end},{shape}}}]")
        usage = b""
        if self._plan.include_usage:
            usage = self._event("[]", "," + self._told(sequence))
        return last + usage + DONE

    def whole(self, sequence: Sequence) -> bytes:
        words = self._plan.words(0, sequence.tokens)
        said: dict[str, Any] = {"text": words}
        if self._plan.chat:
            said = {"message": {"role": "assistant", "content": words}}
        choice = {"index": 0, "finish_reason": self._plan.finish_reason, **said}
        return f'{{"choices":[{_json(choice)}],{self._tail(stream=False)},{self._told(sequence)}}}'.encode()

    def _told(self, sequence: Sequence) -> str:
        usage = usage_of(sequence)
        if not self._dialect.cached:
            del usage["prompt_tokens_details"]
        timings = f',"timings":{_json(timings_of(sequence))}' if self._dialect.timings else ""
        return f'"usage":{_json(usage)}{timings}'

    def _event(self, choices: str, told: str = "") -> bytes:
        more = told or self._dialect.event
        return f'data: {{"choices":{choices},{self._tail(stream=True)}{more}}}\n\n'.encode()

    def _tail(self, *, stream: bool) -> str:
        kind = ("chat.completion.chunk" if stream else "chat.completion") if self._plan.chat else "text_completion"
        facts = {"created": self._created, "id": self._id, "model": self._model, "object": kind}
        return _json(facts)[1:-1]


def usage_of(sequence: Sequence) -> dict[str, Any]:
    prompt_tokens = len(sequence.prompt)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": sequence.tokens,
        "total_tokens": prompt_tokens + sequence.tokens,
        "prompt_tokens_details": {"cached_tokens": sequence.cached},
    }


def timings_of(sequence: Sequence) -> dict[str, Any]:
    """As llama-server tells them; in the fake engine's own time."""
    return {
        "cache_n": sequence.cached,
        "prompt_n": len(sequence.prompt) - sequence.cached,
        "prompt_ms": round(1000 * (sequence.first_s - sequence.begun_s), 3),
        "predicted_n": sequence.tokens,
        "predicted_ms": round(1000 * (sequence.over_s - sequence.first_s), 3),
    }


def embeddings(ask: EmbeddingAsk, settings: Settings, prompt_tokens: int) -> bytes:
    inputs = [ask.input] if isinstance(ask.input, str) else ask.input
    data = []
    for index, one in enumerate(inputs):
        vector: Any = text.vector(one, settings.embedding_dim)
        if ask.encoding_format == "base64":
            vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return _encode({"object": "list", "model": ask.model or "fake", "data": data, "usage": usage})


def ranking(ask: RerankAsk, dialect: Dialect, prompt_tokens: int) -> bytes:
    """Scores by the words that a document shares with the query."""
    wanted = set(ask.query.lower().split())
    scores = [len(wanted & set(document.lower().split())) / max(1, len(wanted)) for document in ask.documents]
    if dialect.bare_scores:
        return _encode([{"score": score, "index": index} for index, score in enumerate(scores)])
    results = [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return _encode({"model": ask.model or "fake", "object": "list", "usage": usage, "results": results})


def _json(value: Any) -> str:
    return _encode(value).decode()
