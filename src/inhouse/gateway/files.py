"""OpenAI's Files API: upload, list, look at, read, delete. A file belongs to its tenant; nobody else sees it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import IO, Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from inhouse.config.batches import BatchesSpec
from inhouse.core import Identity
from inhouse.errors import BadRequest, BodyTooLarge, NotFound, UnsupportedMedia
from inhouse.store.batches import Batches, FileRecord
from inhouse.store.blobs import CHUNK_BYTES, Blobs
from inhouse.threads import in_thread
from inhouse.wire.batches import FileDeleted, FileList, FileObject

PURPOSES = ("batch", "user_data", "assistants", "fine-tune", "vision", "evals")
_LISTED_MAX = 10_000
_FORM_BYTES = 64 * 1024
"""What the form may have around its file."""


class Files:
    """The handlers. Whoever comes here has proven an identity."""

    def __init__(self, spec: BatchesSpec, batches: Batches, blobs: Blobs) -> None:
        self._spec, self._batches, self._blobs = spec, batches, blobs

    async def upload(self, request: Request) -> Response:
        from starlette.formparsers import MultiPartException, MultiPartParser

        identity = _identity(request)
        limit = self._spec.file_bytes_max
        if int(request.headers.get("content-length", "0") or 0) > limit + _FORM_BYTES:
            raise self._too_large(limit)
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise UnsupportedMedia("a file is sent as a form: `Content-Type: multipart/form-data`")
        parser = MultiPartParser(request.headers, self._bounded(request, limit), max_files=1, max_fields=20)
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise BadRequest(f"the form cannot be read: {error.message}", param="file") from None
        async with form_closed(form):
            file, purpose = form.get("file"), form.get("purpose")
            if file is None or isinstance(file, str):
                raise BadRequest("the form has no file in the field `file`", param="file")
            if purpose not in PURPOSES:
                raise BadRequest(f"`purpose` is one of {', '.join(PURPOSES)}", param="purpose")
            kept = await self._keep(identity, file.file, file.filename or "file", str(purpose))
        return _json(_object(kept))

    async def list(self, request: Request) -> Response:
        purpose = request.query_params.get("purpose")
        limit = _number(request, "limit", 1, _LISTED_MAX, _LISTED_MAX)
        tenant, after = _identity(request).tenant, request.query_params.get("after")
        found = await in_thread(lambda: self._batches.files(tenant, purpose=purpose))
        if request.query_params.get("order") == "asc":
            found.reverse()
        at = next((index + 1 for index, one in enumerate(found) if one.id == after), 0)
        shown = [_object(record) for record in found[at : at + limit]]
        first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
        return _json(FileList(data=shown, first_id=first, last_id=last, has_more=len(found) > at + limit))

    async def show(self, request: Request) -> Response:
        return _json(_object(await self._record(request)))

    async def content(self, request: Request) -> Response:
        record = await self._record(request)
        chunks = self._blobs.chunks(record.id)
        first = await in_thread(lambda: next(chunks, b""))
        headers = {"content-length": str(record.bytes)}
        return StreamingResponse(_sent(first, chunks), media_type="application/octet-stream", headers=headers)

    async def delete(self, request: Request) -> Response:
        record = await self._record(request)

        def remove() -> None:
            self._batches.remove_file(record.id)
            self._blobs.remove(record.id)

        await in_thread(remove)
        return _json(FileDeleted(id=record.id))

    async def _keep(self, identity: Identity, file: IO[bytes], name: str, purpose: str) -> FileRecord:
        id, now_us = f"file-{os.urandom(12).hex()}", time.time_ns() // 1000

        def keep() -> FileRecord:
            used = self._batches.files_bytes(identity.tenant)
            file.seek(0, os.SEEK_END)
            size = file.tell()
            file.seek(0)
            if used + size > self._spec.tenant_bytes_max:
                raise BodyTooLarge(
                    f"the files of '{identity.tenant}' have {used} bytes, with this one more than "
                    f"{self._spec.tenant_bytes_max}; delete some, or raise `batches.tenant_bytes_max` in inhouse.yaml"
                )
            size = self._blobs.put(id, iter(lambda: file.read(CHUNK_BYTES), b""))
            kept_until = now_us // 1_000_000 + int(self._spec.files_kept)
            record = FileRecord(id, identity.tenant, identity.key_id, name[:255], purpose, size, now_us, kept_until)
            self._batches.add_file(record)
            return record

        return await in_thread(keep)

    async def _record(self, request: Request) -> FileRecord:
        tenant, id = _identity(request).tenant, request.path_params["id"]
        record = await in_thread(lambda: self._batches.file(tenant, id))
        if record is None:
            raise NotFound(f"there is no file '{id[:100]}'; GET /v1/files lists those that exist")
        return record

    async def _bounded(self, request: Request, limit: int) -> AsyncGenerator[bytes, None]:
        size = 0
        async for piece in request.stream():
            size += len(piece)
            if size > limit + _FORM_BYTES:
                raise self._too_large(limit)
            yield piece

    def _too_large(self, limit: int) -> BodyTooLarge:
        return BodyTooLarge(
            f"the file is larger than {limit} bytes; split it, or raise `batches.file_bytes_max` in inhouse.yaml"
        )


class form_closed:  # noqa: N801 - reads as what it does
    """Closes the temporary files of a form."""

    def __init__(self, form: Any) -> None:
        self._form = form

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *exc: object) -> None:
        await self._form.close()


async def _sent(first: bytes, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    chunk = first
    while chunk:
        yield chunk
        chunk = await in_thread(lambda: next(chunks, b""))


def _object(record: FileRecord) -> FileObject:
    return FileObject(
        id=record.id,
        bytes=record.bytes,
        created_at=record.created_us // 1_000_000,
        expires_at=record.expires_at,
        filename=record.filename,
        purpose=record.purpose,
    )


def _identity(request: Request) -> Identity:
    return cast(Identity, request.scope["identity"])


def _number(request: Request, name: str, low: int, high: int, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or not low <= int(text) <= high:
        raise BadRequest(f"`{name}` is a whole number from {low} to {high}", param=name)
    return int(text)


def _json(body: object) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
