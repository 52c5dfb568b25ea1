"""The operations on files and batches, as a literal table."""

from __future__ import annotations

from inhouse.core_batch import BatchObject
from inhouse.wire.batches import BatchList, BatchRequest, FileDeleted, FileList, FileObject
from inhouse.wire.openapi_operation import Operation

_READ = (400, 401, 403, 404, 500, 503)
_CHANGE = (400, 401, 403, 404, 408, 409, 413, 415, 500, 503)
_PAGE = {"limit": "How many at most.", "after": "The id behind which the page begins."}

BATCHES = (
    Operation(
        path="/v1/files",
        summary="Upload a file",
        tag="Work that can wait",
        form={"file": "The file.", "purpose": "What it is for: `batch` for the input of a batch."},
        answer=FileObject,
        answers="The file as it is kept.",
        errors=_CHANGE,
    ),
    Operation(
        path="/v1/files",
        method="get",
        summary="List the tenant's files",
        tag="Work that can wait",
        query=_PAGE | {"purpose": "Only those for this purpose.", "order": "`asc` for the oldest first."},
        answer=FileList,
        answers="The newest first.",
        errors=_READ,
    ),
    Operation(
        path="/v1/files/{id}",
        method="get",
        summary="What is known of a file",
        tag="Work that can wait",
        answer=FileObject,
        answers="Its name, size and times.",
        errors=_READ,
    ),
    Operation(
        path="/v1/files/{id}/content",
        method="get",
        summary="A file's content",
        tag="Work that can wait",
        media="application/octet-stream",
        answers="The bytes as they were uploaded, or the lines of a batch's results.",
        errors=_READ,
    ),
    Operation(
        path="/v1/files/{id}",
        method="delete",
        summary="Delete a file",
        tag="Work that can wait",
        answer=FileDeleted,
        answers="It is gone.",
        errors=_READ,
    ),
    Operation(
        path="/v1/batches",
        summary="Start a batch of requests",
        tag="Work that can wait",
        request=BatchRequest,
        example={"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
        answer=BatchObject,
        answers="The batch, which is looked at first and then worked off in the gaps that others leave.",
        errors=_CHANGE,
    ),
    Operation(
        path="/v1/batches",
        method="get",
        summary="List the tenant's batches",
        tag="Work that can wait",
        query=_PAGE,
        answer=BatchList,
        answers="The newest first.",
        errors=_READ,
    ),
    Operation(
        path="/v1/batches/{id}",
        method="get",
        summary="How far a batch is",
        tag="Work that can wait",
        answer=BatchObject,
        answers="Its status, its counts and, once it is over, the files with its results.",
        errors=_READ,
    ),
    Operation(
        path="/v1/batches/{id}/cancel",
        summary="Cancel a batch",
        tag="Work that can wait",
        answer=BatchObject,
        answers="The batch; what is done by then is given back.",
        errors=_CHANGE,
    ),
)
