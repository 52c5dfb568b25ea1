"""Contents of files in a bucket of S3, or of what speaks like it. Needs the extra `s3`.

Who asks is found as boto3 finds it: AWS_ACCESS_KEY_ID and its like, profiles, the role of the machine or the pod.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from inhouse.config.batches import BatchesSpec
from inhouse.errors import NotFound, StateError
from inhouse.store.blobs import CHUNK_BYTES, lines_of

_SPOOLED_BYTES = 8 * 1024 * 1024


class S3Blobs:
    """One object each."""

    def __init__(self, spec: BatchesSpec) -> None:
        try:
            import boto3
        except ImportError:
            raise StateError("`batches.s3_bucket` needs the extra 's3': pip install 'inhouse[s3]'") from None
        self._bucket, self._prefix = str(spec.s3_bucket), spec.s3_prefix
        session = boto3.session.Session()
        region = session.region_name or "us-east-1"
        self._client: Any = session.client("s3", endpoint_url=spec.s3_endpoint, region_name=region)

    def put(self, id: str, chunks: Iterable[bytes]) -> int:
        size = 0
        with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES) as file:  # S3 wants to know how long it is
            for chunk in chunks:
                size += file.write(chunk)
            file.seek(0)
            with self._told():
                self._client.upload_fileobj(file, self._bucket, self._key(id))
        return size

    def chunks(self, id: str) -> Iterator[bytes]:
        with self._told(id):
            body = self._client.get_object(Bucket=self._bucket, Key=self._key(id))["Body"]
            yield from body.iter_chunks(CHUNK_BYTES)

    def lines(self, id: str) -> Iterator[bytes]:
        return lines_of(self.chunks(id))

    def remove(self, id: str) -> None:
        with self._told():
            self._client.delete_object(Bucket=self._bucket, Key=self._key(id))

    def _key(self, id: str) -> str:
        return f"{self._prefix}{id}"

    @contextmanager
    def _told(self, id: str = "") -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if id and code in ("NoSuchKey", "404"):
                raise NotFound(f"the content of the file '{id}' is not there any more") from None
            raise StateError(f"the bucket {self._bucket} refuses: {code}; check its name, rights and region") from error
        except (BotoCoreError, Boto3Error) as error:
            reason = type(error).__name__
            raise StateError(f"the bucket {self._bucket} cannot be reached: {reason}; try again") from error
