"""The section of the stack about files and batches: work that can wait."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from inhouse.config.fields import Count, Duration, Section, Size, contradiction, setting
from inhouse.config.units import GIB, KIB, MIB


def _address(text: str | None) -> str | None:
    if text is not None and not text.startswith(("https://", "http://")):
        raise ValueError("not an address such as https://minio.internal:9000")
    return text


class BatchesSpec(Section):
    """Files that clients upload, and batches of requests that run in the gaps that others leave."""

    folder: Path | None = setting(
        None, "Where uploaded files and results lie; without it, `files` in the state folder.", example="/data/files"
    )
    s3_bucket: str | None = setting(
        None, "A bucket of S3 or what speaks like it, in place of the folder: many gateways need one.",
        example="inhouse-files", min_length=3, max_length=63,
    )  # fmt: skip
    s3_prefix: str = setting("", "What the names in the bucket begin with.", max_length=512)
    s3_endpoint: Annotated[str | None, AfterValidator(_address)] = setting(
        None, "The S3-compatible service; without it, AWS_ENDPOINT_URL_S3 or Amazon's.",
        example="https://minio.internal:9000",
    )  # fmt: skip
    file_bytes_max: Size = setting(200 * MIB, "Largest file; a larger one is told 413.", unit="bytes", ge=KIB)
    tenant_bytes_max: Size = setting(20 * GIB, "All files of one tenant together; beyond it 413.", unit="bytes", ge=KIB)
    lines_max: Count = setting(50_000, "Requests in one batch.", unit="requests", ge=1, le=10_000_000)
    window: Duration = setting(
        86_400.0, "How long a batch may take; what is not done then is given back undone.", unit="seconds", ge=1
    )
    files_kept: Duration = setting(30 * 86_400.0, "How long files and ended batches are kept.", unit="seconds", ge=60)
    requests_max: Count = setting(
        64, "Requests of batches that one gateway has under way at once.", unit="requests", ge=1, le=4096
    )
    spare_slots: Count = setting(
        0, "Slots of each model that batches leave free, so that others need not wait for one.", unit="slots", ge=0
    )
    attempts_max: Count = setting(
        8, "Tries of a request that fails for no fault of its own, such as an engine that is away.", unit="tries", ge=1
    )
    lease: Duration = setting(
        30.0, "How long a gateway that is silent keeps a batch before another one goes on with it.",
        unit="seconds", ge=1, le=3600,
    )  # fmt: skip

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.folder is not None and self.s3_bucket is not None:
            raise contradiction(
                ("s3_bucket",), "`batches` has both `folder` and `s3_bucket`", "keep one: files lie in one place"
            )
        return self
