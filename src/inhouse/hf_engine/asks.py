"""What clients send to the engine: OpenAI's requests and `/generate`, parsed. Fields that do not exist are passed over.

Not here: tokens. A request becomes rows of tokens in `prompts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from inhouse.errors import BadRequest
from inhouse.wire.chat import Message, Penalty, ResponseFormat, StreamOptions, Temperature, TokensMax, Unit
from inhouse.wire.decode import RequestDecoder

ROWS_MAX = 16
"""Answers of one request: prompts times `n`."""
INPUTS_MAX = 256
STOPS_MAX = 16
_PLAIN_TOKENS = 16  # OpenAI's own default for completions

StopTexts = Annotated[str, Meta(min_length=1)] | Annotated[list[Annotated[str, Meta(min_length=1)]], Meta()] | None
TokenIds = Annotated[list[int], Meta(min_length=1)]


class _Ask(Struct, kw_only=True):
    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokensMax | None = None
    temperature: Temperature | None = None
    top_p: Unit | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Unit | None = None
    n: Annotated[int, Meta(ge=1, le=ROWS_MAX)] | None = None
    stop: StopTexts = None
    seed: int | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0)] | None = None
    repeat_penalty: Annotated[float, Meta(gt=0)] | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    ignore_eos: bool | None = None


class ChatAsk(_Ask, kw_only=True):
    """`/v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: TokensMax | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Raw | UnsetType = UNSET
    tool_choice: Raw | UnsetType = UNSET
    chat_template_kwargs: dict[str, Any] | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None


class TextAsk(_Ask, kw_only=True):
    """`/v1/completions`."""

    prompt: str | Annotated[list[str | int | TokenIds], Meta(min_length=1)]
    max_tokens: TokensMax | None = _PLAIN_TOKENS
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    echo: bool | None = None


class GenerateAsk(_Ask, kw_only=True):
    """`/generate`: a text to answer."""

    text: str
    max_tokens: TokensMax | None = 256


class EmbeddingAsk(Struct, kw_only=True):
    """`/v1/embeddings`."""

    input: str | Annotated[list[str | int | TokenIds], Meta(min_length=1)]
    model: str = ""
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None


class TokenizeAsk(Struct):
    content: str
    add_special: bool = False


class DetokenizeAsk(Struct):
    tokens: list[int]


chat = RequestDecoder(ChatAsk)
text = RequestDecoder(TextAsk)
generate = RequestDecoder(GenerateAsk)
embedding = RequestDecoder(EmbeddingAsk)
tokenize = RequestDecoder(TokenizeAsk)
detokenize = RequestDecoder(DetokenizeAsk)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is picked. Neutral values cost nothing."""

    temperature: float = 1.0
    """0 picks the likeliest."""
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition: float = 1.0
    """Divides the score of what was said or asked already."""
    presence: float = 0.0
    frequency: float = 0.0
    seed: int | None = None
    bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    """How many alternatives are told beside each token; None: no log probabilities at all."""

    @property
    def plain_greedy(self) -> bool:
        """Whether the token is that of the highest score, and nothing else is to be told."""
        return self.temperature == 0 and self.logprobs is None and not self.changes_scores

    @property
    def changes_scores(self) -> bool:
        return bool(self.bias or self.presence or self.frequency or self.repetition != 1.0)


def sampling(ask: _Ask, defaults: Sampling, logprobs: int | None = None) -> Sampling:
    """As the request says; else as the model's own generation config does. Raises BadRequest."""
    repetition = ask.repetition_penalty if ask.repeat_penalty is None else ask.repeat_penalty
    return Sampling(
        temperature=_or(ask.temperature, defaults.temperature),
        top_p=_or(ask.top_p, defaults.top_p),
        top_k=_or(ask.top_k, defaults.top_k),
        min_p=_or(ask.min_p, defaults.min_p),
        repetition=_or(repetition, defaults.repetition),
        presence=ask.presence_penalty or 0.0,
        frequency=ask.frequency_penalty or 0.0,
        seed=ask.seed,
        bias=_bias(ask.logit_bias),
        logprobs=logprobs,
    )


def stops(ask: _Ask) -> tuple[str, ...]:
    """Raises BadRequest where there are too many."""
    found = (ask.stop,) if isinstance(ask.stop, str) else tuple(ask.stop or ())
    if len(found) > STOPS_MAX:
        raise BadRequest(f"`stop` has {len(found)} texts; at most {STOPS_MAX} in one request", param="stop")
    return found


def check_chat(ask: ChatAsk) -> None:
    """Raises BadRequest for what this engine cannot do, where leaving it out would change the answer's meaning."""
    choice = None if ask.tool_choice is UNSET else bytes(ask.tool_choice)
    offered = None if ask.tools is UNSET else bytes(ask.tools)
    if offered not in (None, b"null", b"[]") and choice != b'"none"':
        raise BadRequest("this engine offers no tools to a model; leave `tools` out", param="tools")
    if ask.response_format is not None and ask.response_format.type != "text":
        raise BadRequest(
            "this engine does not bind an answer to a form; leave `response_format` out", param="response_format"
        )


def include_usage(ask: _Ask) -> bool:
    return ask.stream_options is not None and ask.stream_options.include_usage


def _or(given: Any, default: Any) -> Any:
    return default if given is None else given


def _bias(given: dict[str, float] | None) -> tuple[tuple[int, float], ...]:
    try:
        return tuple((int(token), value) for token, value in (given or {}).items())
    except ValueError:
        raise BadRequest("the keys of `logit_bias` are token ids, as in {'42': -100}", param="logit_bias") from None
