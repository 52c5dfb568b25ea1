"""One tree of errors. Each class knows how the API shows it and who caused it.

    InhouseError                        has a message that names the thing, the limit and the way out
    ├── StackError                      inhouse.yaml, environment or flags: file, line, key, expected form
    ├── StateError                      the state folder: unreadable, read-only, full
    ├── WeightsError                    weights: missing, corrupt, refused by the hub; WeightsUnreachable: try later
    ├── RenderError                     rendered files that cannot be read or written
    ├── EngineStartError                an engine that did not start, with its own reason
    ├── EngineBuildError                an engine that could not be compiled
    └── ApiError                        anything that a client of the API can be told
        ├── BadRequest          400     ContextTooLong, UnknownParameter, RequestExceedsQuota …
        ├── Unauthorized        401
        ├── Forbidden           403
        ├── NotFound            404     ModelNotFound
        ├── MethodNotAllowed    405
        ├── RequestTimeout      408     ReaderTooSlow
        ├── Conflict            409
        ├── BodyTooLarge        413
        ├── UnsupportedMedia    415
        ├── HeadersTooLarge     431
        ├── QueueFull           429     TooManyKept
        ├── RateLimited         429     QuotaExceeded
        ├── Unavailable         503     ModelLoading, ModelFailed, ModelDoesNotFit, MemoryFull,
        │                               StateUnavailable, AuditUnavailable, ShuttingDown
        ├── WaitedTooLong       504
        ├── FirstTokenTimeout   504
        ├── TokenGapTimeout     504
        ├── TotalTimeout        504
        └── EngineError         502     EngineTimeout 504

Raised as the specific class where the fact is known; rendered in `wire/errors.py`, in the API's own shape.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Origin = Literal["client", "gateway", "engine"]


class InhouseError(Exception):
    """Anything that `inhouse` says to a person or a client. `exit_code` is that of the command line."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class StackError(InhouseError):
    """The description of the stack is wrong. `where` is `file:line` or the flag's or variable's name."""

    exit_code = 2

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.where = where


class StateError(InhouseError):
    """The state folder, or a store that is shared, cannot be used."""


class WeightsError(InhouseError):
    """Weights cannot be had or are not what they should be."""


class WeightsUnreachable(WeightsError):
    """Where the weights lie, nobody answers or whoever answers refuses; what is on this machine may serve."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: to be tried again later


class RenderError(InhouseError):
    """A folder of rendered files cannot be read or written."""


class EngineStartError(InhouseError):
    """An engine did not start."""


class EngineBuildError(InhouseError):
    """An engine could not be compiled here, or what came of it is not right."""


class ApiError(InhouseError):
    """An answer that refuses: HTTP status, OpenAI `type` and `code`, and when to try again."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"
    origin: ClassVar[Origin] = "gateway"

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.retry_after_s = retry_after_s


class InternalError(ApiError):
    """A fault of ours; the message never carries detail, the log does."""


class BadRequest(ApiError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_value"
    origin = "client"


class InvalidJson(BadRequest):
    code = "invalid_json"


class UnknownParameter(BadRequest):
    """`known` are the fields that exist in that place."""

    code = "unknown_parameter"

    def __init__(self, message: str, *, param: str | None = None, known: tuple[str, ...] = ()) -> None:
        super().__init__(message, param=param)
        self.known = known


class RequestTooComplex(BadRequest):
    """Deeper, or more of something, than one request may have."""

    code = "request_too_complex"


class ContextTooLong(BadRequest):
    code = "context_length_exceeded"

    def __init__(self, prompt_tokens: int, context_tokens: int, *, param: str | None = "messages") -> None:
        super().__init__(
            f"the prompt has {prompt_tokens} tokens, this model's context is {context_tokens} tokens; "
            "shorten the prompt, or raise the model's `context` in inhouse.yaml",
            param=param,
        )
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


class AnswerTooLong(BadRequest):
    """A longer answer than the model gives, where the stack has that refused."""

    code = "answer_too_long"

    def __init__(self, asked: int, tokens_max: int, model: str, *, param: str) -> None:
        super().__init__(
            f"`{param}` asks for {asked} tokens, '{model}' answers with at most {tokens_max}; "
            "ask for fewer, or raise the model's `answer_tokens_max` in inhouse.yaml",
            param=param,
        )


class Unable(BadRequest):
    """What the model's engines cannot do."""

    code = "unsupported_by_model"


class Unauthorized(ApiError):
    """`why` and, where a key of ours was proven, its id are for log and audit; the client gets the message."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"
    origin = "client"

    def __init__(
        self,
        message: str,
        *,
        why: Literal["missing", "malformed", "unknown", "expired", "revoked"] = "unknown",
        key_id: str = "-",
    ) -> None:
        super().__init__(message)
        self.why = why
        self.key_id = key_id


class Forbidden(ApiError):
    status = 403
    type = "permission_error"
    code = "permission_denied"
    origin = "client"


class NotFound(ApiError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"
    origin = "client"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(ApiError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"
    origin = "client"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class RequestTimeout(ApiError):
    status = 408
    type = "invalid_request_error"
    code = "request_timeout"
    origin = "client"


class ReaderTooSlow(RequestTimeout):
    """A client that reads a shared answer much more slowly than the others."""

    code = "reader_too_slow"


class Conflict(ApiError):
    """What is asked for does not go with the state that the thing is in."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"
    origin = "client"


class BodyTooLarge(ApiError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"
    origin = "client"


class UnsupportedMedia(ApiError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"
    origin = "client"


class HeadersTooLarge(ApiError):
    status = 431
    type = "invalid_request_error"
    code = "headers_too_large"
    origin = "client"


class QueueFull(ApiError):
    status = 429
    type = "rate_limit_error"
    code = "queue_full"


class TooManyKept(ApiError):
    """No answer more can be kept for later."""

    status = 429
    type = "rate_limit_error"
    code = "too_many_kept"


class Unavailable(ApiError):
    """Nothing can serve this model now."""

    status = 503
    code = "model_unavailable"
    from_engine = False
    """An engine was asked, and said so."""


class ModelLoading(Unavailable):
    code = "model_loading"


class ModelFailed(Unavailable):
    """Its engine does not start or does not stay; it is tried again by itself."""

    code = "model_failed"


class ModelDoesNotFit(Unavailable):
    """It needs more memory than there ever is for it here."""

    code = "model_does_not_fit"


class MemoryFull(Unavailable):
    """It is asleep, and models that are in use have the memory that it needs."""

    code = "memory_full"


class StateUnavailable(Unavailable):
    """The state folder, Redis or PostgreSQL cannot be read or written now; the log says why."""

    code = "state_unavailable"


class AuditUnavailable(Unavailable):
    """The audit cannot be written, and the stack says that nothing is answered then."""

    code = "audit_unavailable"


class ShuttingDown(Unavailable):
    code = "shutting_down"


class WaitedTooLong(ApiError):
    status = 504
    code = "queue_timeout"


class FirstTokenTimeout(ApiError):
    status = 504
    code = "first_token_timeout"
    origin = "engine"


class TokenGapTimeout(ApiError):
    status = 504
    code = "token_gap_timeout"
    origin = "engine"


class TotalTimeout(ApiError):
    status = 504
    code = "total_timeout"


class EngineError(ApiError):
    """The engine failed, or broke off in the middle of an answer."""

    status = 502
    code = "engine_failed"
    origin = "engine"


class EngineTimeout(EngineError):
    status = 504
    code = "engine_timeout"


class AnswerLost(ApiError):
    """Another gateway made it and is gone, or has lost the right to: what there is of it is all."""

    status = 502
    code = "answer_lost"


class RateLimited(ApiError):
    """A limit per minute, or of requests at once. `headers` tell the client where its limits stand.

    `fewer_tokens_help`: the same request might be let in if it needed fewer tokens. `limits` are those that were met,
    as in `tenant:acme requests_per_minute`.
    """

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    origin = "client"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        fewer_tokens_help: bool = True,
        limits: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)
        self.headers = headers
        self.limits = limits
        self.fewer_tokens_help = fewer_tokens_help


class QuotaExceeded(RateLimited):
    """A quota of a day or a month, in tokens or money, is used up."""

    type = "insufficient_quota"
    code = "insufficient_quota"


class RequestExceedsQuota(BadRequest):
    """A request that would not fit even if nothing were used yet."""

    code = "request_exceeds_quota"
