"""`/v1/embeddings`: each input is a job of its own, so that a long list never fills the engine's queue.

`dimensions` cuts here, whatever the engine: the first numbers of a vector, made length 1 again. That is what models
trained for it (Matryoshka) mean by it, and what OpenAI does.
"""

from __future__ import annotations

import base64
import math
import struct
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from inhouse.core import Usage
from inhouse.errors import ApiError, BadRequest, EngineError
from inhouse.wire import errors, sse
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
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    """How many numbers of each vector; without it, all that the model makes."""
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
_numbers = msgspec.json.Decoder(list[float])


def parse(body: bytes | bytearray) -> Call:
    """An embedding request as a Call. Raises BadRequest."""
    request = _decode(body)
    inputs, wanted = _inputs(request.input), request.dimensions
    encoding = request.encoding_format if wanted is None else "float"
    bodies = [_encode(_EngineEmbedding(request.model, text, encoding)) for text in inputs]
    jobs = tuple([Job(PATH, body, False, "input", 0, deterministic=True) for body in bodies])
    cut = None if wanted is None else Cut(wanted, as_text=request.encoding_format == "base64")
    return Call(request.model, jobs, EmbeddingView(request.model, len(jobs), cut))


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


class Cut:
    """Makes vectors shorter."""

    __slots__ = ("_as_text", "_dimensions")

    def __init__(self, dimensions: int, *, as_text: bool) -> None:
        self._dimensions = dimensions
        self._as_text = as_text

    def __call__(self, vector: Raw) -> Raw:
        """The first numbers, of length 1 together; as a list or in base64. Raises BadRequest where there are fewer."""
        numbers = _numbers.decode(vector)
        wanted = self._dimensions
        if wanted > len(numbers):
            raise BadRequest(
                f"`dimensions` is {wanted}, the vectors of this model have {len(numbers)} numbers", param="dimensions"
            )
        kept = numbers[:wanted]
        length = math.sqrt(sum(number * number for number in kept))
        if length:
            kept = [number / length for number in kept]
        return Raw(_encode(base64.b64encode(struct.pack(f"<{wanted}f", *kept)).decode() if self._as_text else kept))


class EmbeddingView:
    """One list of vectors, whatever the order in which they come. The numbers are parsed only where they are cut."""

    __slots__ = ("_cut", "_found", "_model", "events_seen", "usage")
    streams = False

    def __init__(self, model: str, count: int, cut: Cut | None = None) -> None:
        self._model = model
        self._cut = cut
        self._found: list[Raw | None] = [None] * count
        self.usage = Usage()
        self.events_seen = 0

    def events(self, job: int, data: bytes) -> bytes:
        try:
            answer = _answer.decode(data)
            vector = answer.data[0].embedding
            self._found[job] = vector if self._cut is None else self._cut(vector)
        except (*sse.UNREADABLE, IndexError):
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
