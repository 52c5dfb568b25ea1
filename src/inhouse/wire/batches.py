"""OpenAI's Files and Batch API: objects, the lines of an input file, the lines of results. Pure.

Source: OpenAI's API reference, "Files" and "Batch". Times are whole seconds since 1970.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from inhouse.core_batch import BatchObject
from inhouse.errors import BadRequest
from inhouse.wire.decode import RequestDecoder

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
"""What a batch may ask for."""
METADATA_MAX = 16


class FileObject(Struct, kw_only=True):
    """A file, as clients see it."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"


class FileList(Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class FileDeleted(Struct, kw_only=True):
    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class BatchRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/batches`."""

    input_file_id: str
    endpoint: str
    completion_window: str = "24h"
    metadata: dict[str, str] | None = None


class BatchList(Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class Line(Struct, kw_only=True):
    """One request of an input file. `body` stays as it came."""

    custom_id: str
    method: str = "POST"
    url: str
    body: msgspec.Raw


class Failed(Struct, kw_only=True):
    code: str
    message: str


class Response(Struct, kw_only=True):
    status_code: int
    request_id: str
    body: msgspec.Raw


class Result(Struct, kw_only=True):
    """One line of an output or error file."""

    id: str
    custom_id: str
    response: Response | None
    error: Failed | None


class _Body(Struct):
    model: str | UnsetType = UNSET
    stream: bool | None = None


_request = RequestDecoder(BatchRequest)
_line = msgspec.json.Decoder(Line).decode
_body = msgspec.json.Decoder(_Body).decode
_encode = msgspec.json.encode


def request(body: bytes) -> BatchRequest:
    """Raises BadRequest."""
    asked = _request(body)
    if asked.endpoint not in ENDPOINTS:
        raise BadRequest(f"a batch cannot ask for this endpoint; it can for {', '.join(ENDPOINTS)}", param="endpoint")
    if asked.completion_window != "24h":
        raise BadRequest("the window of a batch is `24h`", param="completion_window")
    metadata = asked.metadata or {}
    if len(metadata) > METADATA_MAX or any(len(value) > 512 for value in metadata.values()):
        raise BadRequest(f"metadata is at most {METADATA_MAX} values of 512 characters", param="metadata")
    return asked


def line(text: bytes, endpoint: str) -> Line:
    """Raises ValueError with what is wrong, nothing of the line's content in it."""
    try:
        found = _line(text)
        body = _body(found.body)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    except msgspec.DecodeError:
        raise ValueError("not a JSON object") from None
    if found.method != "POST":
        raise ValueError("`method` is POST")
    if found.url != endpoint:
        raise ValueError(f"`url` is not the batch's endpoint, {endpoint}")
    if not 0 < len(found.custom_id) <= 512:
        raise ValueError("`custom_id` has 1 to 512 characters")
    if body.stream:
        raise ValueError("an answer in a batch cannot stream")
    return found


def model_of(one: Line) -> str:
    """The model that a line names; "" where it names none."""
    model = _body(one.body).model
    return model if isinstance(model, str) else ""


def answered(id: str, custom_id: str, status: int, request_id: str, body: bytes) -> bytes:
    """A line of results: the answer, or the refusal in its own shape."""
    response = Response(status_code=status, request_id=request_id, body=msgspec.Raw(body))
    return _encode(Result(id=id, custom_id=custom_id, response=response, error=None))


def undone(id: str, custom_id: str, code: str, message: str) -> bytes:
    """A line of errors for a request that was never answered."""
    return _encode(Result(id=id, custom_id=custom_id, response=None, error=Failed(code=code, message=message)))
