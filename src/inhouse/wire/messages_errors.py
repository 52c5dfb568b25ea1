"""Errors in the shape of the Messages API: `{"type": "error", "error": {"type", "message"}, "request_id"}`."""

from __future__ import annotations

from msgspec import Struct

from inhouse.errors import ApiError

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class ErrorDetail(Struct):
    type: str
    message: str


class ErrorObject(Struct, tag="error", tag_field="type"):
    error: ErrorDetail
    request_id: str | None = None


def error_object(error: ApiError, request_id: str | None = None) -> ErrorObject:
    """The type follows the HTTP status: other statuses below 500 are the client's, other ones from 500 on are ours."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return ErrorObject(ErrorDetail(kind, error.message), request_id)
