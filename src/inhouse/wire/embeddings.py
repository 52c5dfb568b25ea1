"""`/v1/embeddings`: each input is a job of its own, so that a long list never fills the engine's queue."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from inhouse.core import Usage
from inhouse.errors import ApiError, BadRequest, EngineError
from inhouse.wire import errors
from inhouse.wire.call import Call, Job
from inhouse.wire.chat import EngineUsage
from inhouse.wire.decode import RequestDecoder
from inhouse.wire.guard import check_no_nul

PATH = b"/v1/embeddings"
INPUTS_MAX = 2048

TokenIds = Annotated[list[int], Meta(min_length=1)]


class EmbeddingRequest(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A text, several texts, or token ids; the answer has one vector for each, in their order."""

    model: str
    input: str | Annotated[list[str | int | TokenIds], Meta(min_length=1)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None


class _EngineEmbedding(Struct):
    model: str
    input: str | list[int]
    encoding_format: str


class _Datum(Struct):
    embedding: Raw
    index: int = 0
    object: str = "embedding"


class _EngineAnswer(Struct):
    data: list[_Datum]
    usage: EngineUsage | None = None


class _Usage(Struct):
    prompt_tokens: int
    total_tokens: int


class _Answer(Struct):
    model: str
    data: list[_Datum]
    usage: _Usage
    object: str = "list"


_decode = RequestDecoder(EmbeddingRequest)
_encode = msgspec.json.Encoder().encode
_answer = msgspec.json.Decoder(_EngineAnswer)


def parse(body: bytes | bytearray) -> Call:
    """An embedding request as a Call. Raises BadRequest."""
    request = _decode(body)
    if request.dimensions is not None:
        raise BadRequest("`dimensions` is not supported: the vectors come as the model makes them", param="dimensions")
    inputs = _inputs(request.input)
    bodies = [_encode(_EngineEmbedding(request.model, text, request.encoding_format)) for text in inputs]
    jobs = tuple([Job(PATH, body, False, "input", 0, deterministic=True) for body in bodies])
    return Call(request.model, jobs, EmbeddingView(request.model, len(jobs)))


def _inputs(given: str | list[str | int | list[int]]) -> list[str | list[int]]:
    if isinstance(given, str):
        found: list[str | list[int]] = [given]
    elif all(isinstance(item, int) for item in given):
        found = [[item for item in given if isinstance(item, int)]]
    else:
        found = [item for item in given if not isinstance(item, int)]
        if len(found) != len(given):
            raise BadRequest("`input` mixes token ids with texts; send one kind", param="input")
    if len(found) > INPUTS_MAX:
        raise BadRequest(f"`input` has {len(found)} items; at most {INPUTS_MAX} in one request", param="input")
    for text in found:
        if isinstance(text, str):
            check_no_nul(text, "input")
    if "" in found:
        raise BadRequest("`input` has an empty text; every text needs at least one character", param="input")
    return found


class EmbeddingView:
    """One list of vectors, whatever the order in which they come. The numbers themselves are never parsed."""

    __slots__ = ("_found", "_model", "events_seen", "usage")
    streams = False

    def __init__(self, model: str, count: int) -> None:
        self._model = model
        self._found: list[Raw | None] = [None] * count
        self.usage = Usage()
        self.events_seen = 0

    def events(self, job: int, data: bytes) -> bytes:
        try:
            answer = _answer.decode(data)
            self._found[job] = answer.data[0].embedding
        except (msgspec.DecodeError, IndexError):
            raise EngineError("the engine sent embeddings that cannot be read") from None
        if answer.usage is not None:
            self.usage += answer.usage.noun()
        self.events_seen += 1
        return b""

    def tokens_of(self, job: int) -> int:
        return self.usage.prompt_tokens // max(1, self.events_seen)

    def finished(self, job: int) -> None:
        if self._found[job] is None:
            raise EngineError("the engine broke off in the middle of its answer; the request can be sent again")

    def end(self) -> bytes:
        data = [_Datum(vector, index) for index, vector in enumerate(self._found) if vector is not None]
        return _encode(_Answer(self._model, data, _Usage(self.usage.prompt_tokens, self.usage.prompt_tokens)))

    def fail(self, error: ApiError) -> bytes:
        return errors.body(error)
