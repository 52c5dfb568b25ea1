"""What goes wrong between here and the hub, said with its way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inhouse.errors import WeightsError, WeightsUnreachable

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError


@dataclass(frozen=True, slots=True)
class Place:
    """Where the hub is and who asks; None is what the environment says (HF_ENDPOINT, HF_TOKEN)."""

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        from huggingface_hub import constants

        return self.endpoint or constants.ENDPOINT


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository."""

    repo: str
    name: str
    revision: str


@contextmanager
def telling(file: HubFile, place: Place) -> Iterator[None]:
    """The library's and the network's errors become `WeightsError`, of which some are `WeightsUnreachable`."""
    import httpx2
    from huggingface_hub import errors

    at = place.url
    try:
        yield
    except errors.GatedRepoError as error:
        raise WeightsUnreachable(
            f"{file.repo} is gated: its owner asks for consent first",
            hint=f"accept the terms at {at}/{file.repo}, then set HF_TOKEN to a token of that account "
            f"({at}/settings/tokens makes one)",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(
            f"{file.repo} has no revision '{file.revision}'", hint=f"leave it out, or see {at}/{file.repo}/commits/main"
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise WeightsError(f"{file.repo} has no file '{file.name}'", hint=_nearest(file, place)) from error
    except errors.RepositoryNotFoundError as error:
        raise WeightsUnreachable(
            f"there is no repository {file.repo} at {at}, or it is private",
            hint="check its spelling; for a private one set HF_TOKEN to a token that may read it",
        ) from error
    except errors.HfHubHTTPError as error:
        raise _refused(file, at, error) from error
    except (httpx2.HTTPError, errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise _unreachable(at, str(error) or type(error).__name__) from error
    except errors.HFValidationError as error:
        raise WeightsError(f"'{file.repo}' cannot be a repository: {_one_line(error)}") from error
    except (errors.FileMetadataError, httpx2.InvalidURL, ValueError) as error:
        raise no_hub(at, str(error)) from error
    except OSError as error:
        raise _unreachable(at, str(error)) from error


def refusal(file: HubFile, place: Place, status: int) -> WeightsError:
    """What a final status for a file's bytes means, after its metadata had been shown."""
    if status in (401, 403):
        return WeightsUnreachable(
            f"{place.url} refuses to hand out {file.name} of {file.repo} (status {status})",
            hint="set HF_TOKEN to a valid token that may read it",
        )
    return WeightsError(f"{place.url} answered {status} for {file.name} of {file.repo}", hint="try again later")


def no_hub(at: str, reason: str) -> WeightsUnreachable:
    return WeightsUnreachable(
        f"{at} does not answer as a hub does: {_one_line(reason)}", hint="check HF_ENDPOINT and the proxy"
    )


def _refused(file: HubFile, at: str, error: HfHubHTTPError) -> WeightsError:
    status = error.response.status_code
    if status in (401, 403):
        return WeightsUnreachable(
            f"{at} refuses to show {file.repo} (status {status})",
            hint="set HF_TOKEN to a valid token that may read it; an invalid one is refused for public files too",
        )
    if status == 429 or status >= 500:
        return _unreachable(at, f"status {status}")
    return WeightsError(f"{at} answered {status} for {file.name} of {file.repo}", hint="try again; check HF_ENDPOINT")


def _unreachable(at: str, reason: str) -> WeightsUnreachable:
    return WeightsUnreachable(
        f"the hub at {at} cannot be reached: {_one_line(reason)}",
        hint="check the network, the proxy (HTTPS_PROXY) and HF_ENDPOINT, or name a local .gguf file as source",
    )


def _nearest(file: HubFile, place: Place) -> str:
    """What the repository has instead; without an answer, where to look."""
    import httpx2
    from huggingface_hub import HfApi

    try:
        names = HfApi(endpoint=place.endpoint, token=place.token).list_repo_files(file.repo, revision=file.revision)
    except (httpx2.HTTPError, OSError, ValueError):
        return f"see {place.url}/{file.repo}/tree/{file.revision}"
    models = sorted(name for name in names if name.endswith(".gguf"))
    if not models:
        return "it has no .gguf file at all; look for a repository of the same model with GGUF in its name"
    near = difflib.get_close_matches(file.name, models, n=5, cutoff=0.6) or models[:5]
    return "did you mean " + ", ".join(near) + "?"


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:300]
