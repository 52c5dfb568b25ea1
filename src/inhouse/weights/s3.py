"""`s3://bucket/key.gguf`, `s3://bucket/folder`: weights in S3, or in whatever speaks its protocol.

Who asks, and of whom, is found as boto3 finds it: AWS_ACCESS_KEY_ID and its like, profiles, roles of the machine or the
pod, AWS_REGION, AWS_ENDPOINT_URL_S3 or `weights.s3_endpoint`; without any credentials, as anybody. boto3 lists and
signs; the bytes come by `transfer`, from signed addresses, so that they are resumed and checked as all others are.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inhouse.config.sources import SourceLine
from inhouse.config.weights import WeightsSpec
from inhouse.errors import WeightsError, WeightsUnreachable
from inhouse.weights.at_hand import at_hand
from inhouse.weights.choose import INDEX, choose_papers
from inhouse.weights.deliver import deliver
from inhouse.weights.delivered import delivered
from inhouse.weights.digest import Digest
from inhouse.weights.kept import pick
from inhouse.weights.ranges import CONNECT_S
from inhouse.weights.remote import Address, Remote
from inhouse.weights.shelf import Destination, Folder, other_shelf
from inhouse.weights.splits import parts
from inhouse.weights.wanted import Got, Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping

LATEST = "latest"
OBJECTS_MAX = 10_000
SIGNED_S = 3600


def fetch(line: SourceLine, wanted: Wanted) -> Got:
    """Raises `WeightsError`."""
    shelf = other_shelf(wanted.spec.folder, line)
    if wanted.offline:
        return at_hand(line, shelf, shelf.version_of(LATEST), wanted)
    place: Destination = Folder(wanted.into) if wanted.into else shelf
    try:
        remotes = _look_up(line, place, wanted)
    except WeightsUnreachable as error:
        try:
            return at_hand(line, shelf, shelf.version_of(LATEST), wanted)
        except WeightsError:
            raise error from None
    return delivered(line, LATEST, remotes, place, wanted)


@dataclass(frozen=True, slots=True)
class _Object:
    key: str
    size: int
    etag: str


def _look_up(line: SourceLine, place: Destination, wanted: Wanted) -> list[Remote]:
    """The files of the model, as the bucket has them now."""
    client = _client(wanted.spec)
    with telling(line, client):
        if line.name.endswith(".gguf"):
            folder, _, name = line.name.rpartition("/")
            names = list(parts(name))
            prefix = f"{folder}/" if folder else ""
            objects = {name: _head(client, line.place, prefix + name)[0] for name in names}
        else:
            names, prefix = [], line.name.removesuffix("/") + "/"
            objects = _list(client, line, prefix)
    states = " ".join(f"{name} {one.etag} {one.size}" for name, one in sorted(objects.items()))
    version = hashlib.sha256(states.encode()).hexdigest()[:40]

    def remote(name: str) -> Remote:
        with telling(line, client):
            found, digest = _head(client, line.place, objects[name].key)
        return _remote(client, line, name, found, digest, version)

    def index() -> Path:
        return deliver(line.shown, [remote(INDEX)], place, wanted)[0]

    chosen = names or pick(line, list(objects), wanted, index)
    papers = [name for name in choose_papers(list(objects)) if wanted.papers and name not in chosen]
    return [remote(name) for name in [*chosen, *papers]]


def _client(spec: WeightsSpec) -> Any:
    try:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config
    except ImportError as error:
        raise WeightsError("s3:// sources need the extra 's3'", hint="pip install 'inhouse[s3]'") from error
    from botocore.exceptions import BotoCoreError

    try:
        session = boto3.session.Session()
        config = Config(
            signature_version="s3v4" if session.get_credentials() else UNSIGNED,
            connect_timeout=CONNECT_S,
            read_timeout=spec.silence_max,
            retries={"total_max_attempts": 2},
            s3={"addressing_style": "path"} if spec.s3_endpoint else {},
        )
        region = session.region_name or "us-east-1"
        return session.client("s3", endpoint_url=spec.s3_endpoint, region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise WeightsError(f"S3 cannot be spoken to: {error}", hint="check AWS_PROFILE and `s3_endpoint`") from error


def _head(client: Any, bucket: str, key: str) -> tuple[_Object, Digest | None]:
    answer = client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    return _Object(key, int(answer["ContentLength"]), str(answer["ETag"])), _digest(answer)


def _digest(answer: Mapping[str, Any]) -> Digest | None:
    """The SHA-256 that was stored with the object; one of pieces (`…-3`) says nothing of the whole."""
    text = str(answer.get("ChecksumSHA256") or "")
    if "-" in text or answer.get("ChecksumType") == "COMPOSITE":
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return Digest("sha256", raw.hex()) if len(raw) == 32 else None


def _list(client: Any, line: SourceLine, prefix: str) -> dict[str, _Object]:
    """All below the prefix, by what follows it."""
    found: dict[str, _Object] = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=line.place, Prefix=prefix):
        for one in page.get("Contents", ()):
            name = one["Key"].removeprefix(prefix)
            if {"", ".", ".."} & set(name.split("/")):
                continue
            found[name] = _Object(one["Key"], int(one["Size"]), one["ETag"])
            if len(found) > OBJECTS_MAX:
                raise WeightsError(
                    f"{line.shown} has more than {OBJECTS_MAX} objects below it", hint="name the folder of one model"
                )
    if not found:
        raise WeightsError(f"there is nothing below {line.shown}", hint="a single file ends in .gguf")
    return found


def _remote(client: Any, line: SourceLine, name: str, found: _Object, digest: Digest | None, version: str) -> Remote:
    def address() -> Address:
        with telling(line, client):
            url = client.generate_presigned_url(
                "get_object", Params={"Bucket": line.place, "Key": found.key}, ExpiresIn=SIGNED_S
            )
        return Address(url, {"If-Match": found.etag})

    def refused(status: int) -> WeightsError:
        shown = f"s3://{line.place}/{found.key}"
        if status == 412:
            return WeightsError(f"{shown} was replaced while it was fetched", hint="fetch it again")
        return _refusal(shown, str(status), client)

    return Remote(name, found.size, digest, version, address, refused)


@contextmanager
def telling(line: SourceLine, client: Any) -> Iterator[None]:
    """boto3's errors become `WeightsError`."""
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        raise _refusal(line.shown, code, client) from error
    except exceptions.NoCredentialsError as error:
        raise _refusal(line.shown, "403", client) from error
    except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
        raise WeightsUnreachable(
            f"{client.meta.endpoint_url} cannot be reached: {' '.join(str(error).split())[:300]}",
            hint="check the network, the proxy (HTTPS_PROXY) and `weights.s3_endpoint`",
        ) from error
    except exceptions.BotoCoreError as error:
        raise WeightsError(f"{line.shown} cannot be fetched: {error}") from error


def _refusal(shown: str, code: str, client: Any) -> WeightsError:
    at = client.meta.endpoint_url
    if code in ("404", "NoSuchKey", "NoSuchBucket"):
        what = "bucket" if code == "NoSuchBucket" else "object"
        return WeightsError(
            f"{at} has no such {what}: {shown}", hint="check bucket and key; a folder has no .gguf at its end"
        )
    if code in ("401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"):
        return WeightsUnreachable(
            f"{at} refuses to hand out {shown} ({code})",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, to somebody who may read it",
        )
    return WeightsUnreachable(f"{at} answered {code} for {shown}", hint="try again later")
