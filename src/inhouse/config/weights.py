"""The section of the stack about fetching weights: where they are kept, and how they come."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from inhouse.config.fields import Count, Duration, Section, Size, setting
from inhouse.config.units import KIB, MIB


def _address(text: str | None) -> str | None:
    if text is not None and not text.startswith(("https://", "http://")):
        raise ValueError("not an address such as https://minio.internal:9000")
    return text


class WeightsSpec(Section):
    """How weights are fetched and where they are kept."""

    folder: Path | None = setting(
        None,
        "Folder of the cache, shared with other programs of the hub; without it, HF_HUB_CACHE or `$HF_HOME/hub`.",
        example="/var/lib/models",
    )
    catalogue: Path | None = setting(
        None,
        "A file with short names of your own for models, which come before those included.",
        example="./models.yaml",
    )
    offline: bool = setting(False, "Whether only what is on this machine is used, and nothing is asked of others.")
    connections: Count = setting(8, "Parts of one file that are fetched at once.", unit="connections", ge=1, le=64)
    range_bytes: Size = setting(32 * MIB, "Bytes that are asked for at once.", unit="bytes", ge=KIB)
    silence_max: Duration = setting(
        60.0, "How long a place may send nothing before the connection is made anew.", unit="seconds", gt=0, le=3600
    )
    tries_max: Count = setting(
        5, "Tries in a row without a single byte after which fetching is given up.", unit="tries", ge=1, le=1000
    )
    retry_pause: Duration = setting(
        0.5, "Pause before the second try, doubled each time up to 30 s.", unit="seconds", ge=0, le=30
    )
    disk_reserve: Size = setting(64 * MIB, "Disk that is left free: what needs it is not begun.", unit="bytes", ge=0)
    s3_endpoint: Annotated[str | None, AfterValidator(_address)] = setting(
        None,
        "The S3-compatible service of `s3://` sources; without it, AWS_ENDPOINT_URL_S3 or Amazon's.",
        example="https://minio.internal:9000",
    )
    oci_plain_http: list[str] = setting(
        [], "Registries that are spoken to without TLS, beside this machine's own.", example=["registry.lab:5000"]
    )
