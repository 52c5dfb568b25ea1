"""`/v1/chat/completions`: the request to engine jobs; the answer: `openai_chat_answer`."""

from __future__ import annotations

from typing import Any

import msgspec

from inhouse.config.requests import REQUESTS, RequestsSpec
from inhouse.errors import BadRequest
from inhouse.wire.call import Call, Job, View
from inhouse.wire.chat import (
    ChatRequest,
    EngineChat,
    Message,
    NamedToolChoice,
    PlainChat,
    PlainWhole,
    Rendering,
    ResponseFormat,
    TextPart,
    Tool,
)
from inhouse.wire.decode import RequestDecoder
from inhouse.wire.guard import check_chat, check_messages
from inhouse.wire.openai_chat_answer import ChatRendering, plain_rendering
from inhouse.wire.views import DocumentView, RelayView, RenderedView, WholeView

_decode = RequestDecoder(ChatRequest)
_encode = msgspec.json.Encoder().encode
PATH = b"/v1/chat/completions"


_decode_plain = msgspec.json.Decoder(PlainChat).decode


def parse(body: bytes | bytearray, limits: RequestsSpec = REQUESTS) -> Call:
    """A chat request as a Call. Raises BadRequest."""
    plain = parse_plain(body, limits)
    return _parse_any(body, limits) if plain is None else plain_call(plain)


def parse_plain(body: bytes | bytearray, limits: RequestsSpec) -> PlainChat | None:
    """A plain request, with all that is checked of one; None where it is none. Raises BadRequest."""
    try:
        plain = _decode_plain(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if plain.stream_options is not None and not plain.stream:
        return None
    check_messages(plain.messages, limits, prompt_param="messages")
    _check_parts(plain.messages)
    return plain


def plain_call(plain: PlainChat) -> Call:
    """A plain request as a Call."""
    engine = EngineChat(
        model=plain.model,
        messages=plain.messages,
        max_tokens=plain.max_tokens,
        temperature=plain.temperature,
        top_p=plain.top_p,
    )
    options = plain.stream_options
    view: View
    if plain.stream:
        view = RelayView(include_usage=options is not None and options.include_usage)
    else:
        view = DocumentView(plain_rendering)
    return Call(plain.model, spread(engine, PATH, 1, "messages"), view)


def plain_whole(plain: PlainChat, answer_tokens: int | None) -> bytes:
    """The body for a whole answer of at most so many tokens: as `whole` of the job of `plain_call`."""
    return _encode(PlainWhole(plain.model, plain.messages, answer_tokens, plain.temperature, plain.top_p))


def _parse_any(body: bytes | bytearray, limits: RequestsSpec) -> Call:
    request = _decode(body)
    options = request.stream_options
    include_usage = options is not None and options.include_usage
    if options is not None and not request.stream:
        raise BadRequest("`stream_options` is only allowed when `stream` is true", param="stream_options")
    bare_logprobs = bool(request.logprobs) and not request.top_logprobs
    count = request.n or 1
    view: View
    if count == 1 and not bare_logprobs:
        view = RelayView(include_usage=include_usage) if request.stream else DocumentView(plain_rendering)
    else:
        rendering = ChatRendering(include_usage=include_usage, bare_logprobs=bare_logprobs)
        view = (RenderedView if request.stream else WholeView)(rendering, choices=count)
    return Call(request.model, jobs(request, limits), view, count)


def call(
    request: ChatRequest,
    limits: RequestsSpec,
    *,
    stream: bool,
    rendering: Rendering,
    prompt_param: str,
    stop_param: str = "stop",
) -> Call:
    """A Call for another API that was translated into a chat request of one choice."""
    view = RenderedView(rendering) if stream else WholeView(rendering)
    return Call(request.model, jobs(request, limits, prompt_param, stop_param), view)


def jobs(
    request: ChatRequest, limits: RequestsSpec = REQUESTS, prompt_param: str = "messages", stop_param: str = "stop"
) -> tuple[Job, ...]:
    """One job for each of `n` choices; with a seed, each choice has its own, so that they differ.

    Raises BadRequest for what is beyond `limits`, and for what no engine here can do.
    """
    check_chat(request, limits, prompt_param=prompt_param, stop_param=stop_param)
    if request.top_logprobs is not None and not request.logprobs:
        raise BadRequest("`top_logprobs` needs `logprobs` to be true", param="top_logprobs")
    tools, choice = _tools(request)
    _check_parts(request.messages)
    engine = EngineChat(
        model=request.model,
        messages=request.messages,
        max_tokens=request.max_completion_tokens or request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        stop=request.stop,
        seed=request.seed,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        logprobs=request.logprobs,
        # llama.cpp sends 20 where none is named, and no log probabilities at all for 0
        top_logprobs=request.top_logprobs or (1 if request.logprobs else None),
        logit_bias=request.logit_bias,
        response_format=_response_format(request.response_format),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=request.parallel_tool_calls,
        top_k=request.top_k,
        min_p=request.min_p,
        typical_p=request.typical_p,
        repeat_penalty=request.repetition_penalty if request.repeat_penalty is None else request.repeat_penalty,
        ignore_eos=request.ignore_eos,
        chat_template_kwargs=request.chat_template_kwargs,
    )
    return spread(engine, PATH, request.n or 1, prompt_param)


_STREAMED = b',"stream":true,"stream_options":{"include_usage":true}'
"""As `EngineChat` is written. In no text of a body: there quotes are escaped."""


STREAMED_BYTES = len(_STREAMED)
"""By which a job's body is longer than the one for an answer in one piece."""


def whole(body: bytes) -> bytes:
    """The body for an answer in one piece."""
    return body.replace(_STREAMED, b"", 1)


def spread(engine: Any, path: bytes, count: int, prompt_param: str) -> tuple[Job, ...]:
    """`count` jobs of one engine request, each with a seed of its own where one was given."""
    first = Job(path, _encode(engine), True, prompt_param, engine.max_tokens, engine, deterministic(engine))
    if count == 1 or engine.seed is None:
        return (first,) * count
    found = [first]
    for index in range(1, count):
        one = msgspec.structs.replace(engine, seed=engine.seed + index)
        found.append(Job(path, _encode(one), True, prompt_param, engine.max_tokens, one, deterministic(one)))
    return tuple(found)


def deterministic(engine: Any) -> bool:
    """Whether the engine is asked for the same answer each time."""
    if engine.temperature == 0:
        return True
    # a seed of -1, in 32 bits, has llama.cpp choose one
    return engine.seed is not None and engine.seed & 0xFFFF_FFFF != 0xFFFF_FFFF


def _check_parts(messages: list[Message]) -> None:
    """Raises BadRequest for parts that are no text."""
    for index, message in enumerate(messages):
        if type(message.content) is not str or message.role == "developer":
            _check_message(message, index)


def _check_message(message: Message, index: int) -> None:
    if message.role == "developer":  # the templates of open models know it as `system`
        message.role = "system"
    if isinstance(message.content, list):
        for at, part in enumerate(message.content):
            if not isinstance(part, TextPart):
                where = f"messages[{index}].content[{at}]"
                kind = type(part).__struct_config__.tag
                raise BadRequest(f"`{where}` is of type {kind}; this server takes text parts only", param=where)


def _tools(request: ChatRequest) -> tuple[list[Tool] | None, str | None]:
    choice = request.tool_choice
    if not request.tools:
        if choice not in (None, "none", "auto"):
            raise BadRequest("`tool_choice` names a tool, but `tools` is empty", param="tool_choice")
        return None, None
    if choice == "none":  # a model that reads of tools may write a call, which would come as text
        return None, None
    if isinstance(choice, NamedToolChoice):
        named = [tool for tool in request.tools if tool.function.name == choice.function.name]
        if not named:
            raise BadRequest(f"`tool_choice` names `{choice.function.name}`, no such tool", param="tool_choice")
        return named, "required"
    return request.tools, choice


def _response_format(wanted: ResponseFormat | None) -> ResponseFormat | None:
    if (
        wanted is not None
        and wanted.type == "json_schema"
        and (wanted.json_schema is None or wanted.json_schema.schema is None)
    ):
        raise BadRequest("`response_format.json_schema.schema` is missing", param="response_format")
    return wanted
