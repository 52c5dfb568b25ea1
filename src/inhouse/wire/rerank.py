"""`/v1/rerank`: documents in the order of how well they answer a query, in the shape that Jina and Cohere share.

Each document is a job of its own, as an embedding is: a list of documents never fills the engine's queue, and no score
depends on what else is ranked. The scores are the engine's own: of llama.cpp they are logits, of vLLM from 0 to 1.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from inhouse.core import Usage
from inhouse.errors import ApiError, BadRequest, EngineError
from inhouse.wire import errors, sse
from inhouse.wire.call import Call, Job
from inhouse.wire.decode import RequestDecoder
from inhouse.wire.guard import check_no_nul

PATH = b"/v1/rerank"
DOCUMENTS_MAX = 1024


class RerankDocument(Struct):
    text: str


class RerankRequest(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A query and the documents to be ranked by it; the answer has the best `top_n` of them, best first."""

    model: str
    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str | RerankDocument], Meta(min_length=1)]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool = False
    user: str | None = None


class _EngineRerank(Struct):
    model: str
    query: str
    documents: list[str]


class _Result(Struct):
    """Of llama.cpp and vLLM; SGLang calls it `score`, and sends the bare list."""

    index: int = 0
    relevance_score: float | None = None
    score: float | None = None


class _EngineUsage(Struct):
    prompt_tokens: int = 0
    total_tokens: int = 0


class _EngineAnswer(Struct):
    results: list[_Result]
    usage: _EngineUsage | None = None


class RerankResult(Struct):
    """`index` is the document's place in the request."""

    index: int
    relevance_score: float
    document: RerankDocument | UnsetType = UNSET


class RerankUsage(Struct):
    prompt_tokens: int
    total_tokens: int


class RerankBody(Struct, tag="list", tag_field="object"):
    """Results, best first."""

    model: str
    results: list[RerankResult]
    usage: RerankUsage


_decode = RequestDecoder(RerankRequest)
_encode = msgspec.json.Encoder().encode
_answer = msgspec.json.Decoder(_EngineAnswer | list[_Result])


def parse(body: bytes | bytearray) -> Call:
    """A request to rank as a Call. Raises BadRequest."""
    request = _decode(body)
    documents = [one if isinstance(one, str) else one.text for one in request.documents]
    if len(documents) > DOCUMENTS_MAX:
        raise BadRequest(
            f"`documents` has {len(documents)} items; at most {DOCUMENTS_MAX} in one request", param="documents"
        )
    for name, text in (("query", request.query), *(("documents", document) for document in documents)):
        check_no_nul(text, name)
    if "" in documents:
        raise BadRequest("`documents` has an empty text; each needs at least one character", param="documents")
    jobs = tuple(
        [
            Job(PATH, _encode(_EngineRerank(request.model, request.query, [text])), False, "documents", 0)
            for text in documents
        ]
    )
    top_n = min(request.top_n or len(documents), len(documents))
    return Call(request.model, jobs, RerankView(request.model, documents, top_n, shown=request.return_documents))


class RerankView:
    """One list of scores, whatever the order in which they come."""

    __slots__ = ("_documents", "_model", "_scores", "_shown", "_top_n", "events_seen", "usage")
    streams = False

    def __init__(self, model: str, documents: list[str], top_n: int, *, shown: bool) -> None:
        self._model = model
        self._documents = documents
        self._top_n = top_n
        self._shown = shown
        self._scores: list[float | None] = [None] * len(documents)
        self.usage = Usage()
        self.events_seen = 0

    def events(self, job: int, data: bytes) -> bytes:
        try:
            answer = _answer.decode(data)
        except sse.UNREADABLE:
            raise EngineError("the engine sent scores that cannot be read") from None
        bare = isinstance(answer, list)
        results, usage = (answer, None) if isinstance(answer, list) else (answer.results, answer.usage)
        if len(results) != 1:
            raise EngineError("the engine did not send one score for one document")
        self._scores[job] = results[0].score if bare else results[0].relevance_score
        if usage is not None:
            self.usage += Usage(prompt_tokens=usage.prompt_tokens or usage.total_tokens)
        self.events_seen += 1
        return b""

    def tokens_of(self, job: int) -> int:
        return self.usage.prompt_tokens // max(1, self.events_seen)

    def finished(self, job: int) -> None:
        if self._scores[job] is None:
            raise EngineError("the engine broke off in the middle of its answer; the request can be sent again")

    def end(self) -> bytes:
        scored = [(score, index) for index, score in enumerate(self._scores) if score is not None]
        best = sorted(scored, key=lambda one: (-one[0], one[1]))[: self._top_n]
        results = [RerankResult(index, score, self._document(index)) for score, index in best]
        tokens = self.usage.prompt_tokens
        return _encode(RerankBody(self._model, results, RerankUsage(tokens, tokens)))

    def fail(self, error: ApiError) -> bytes:
        return errors.body(error)

    def _document(self, index: int) -> RerankDocument | UnsetType:
        return RerankDocument(self._documents[index]) if self._shown else UNSET
