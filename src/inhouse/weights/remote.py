"""One file that lies elsewhere: where, how large, what its bytes hash to. What every kind of source is reduced to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from inhouse.errors import WeightsError
from inhouse.weights.digest import Digest


@dataclass(frozen=True, slots=True)
class Address:
    """Where a file can be read just now; signatures and tokens in it end some time."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Remote:
    name: str
    """Its path under the model's folder, with `/` between steps."""
    size: int | None
    """Bytes; None where the place does not tell."""
    digest: Digest | None
    """None where the place does not tell."""
    version: str
    """What the place calls this state of the files: a commit, a digest. With `name` it says which bytes."""
    address: Callable[[], Address] = field(repr=False)
    """Asked again when an address is no longer taken. Raises `WeightsError`."""
    refused: Callable[[int], WeightsError] = field(repr=False)
    """A status that is final → what to tell."""
    validator: str | None = None
    """A strong ETag: parts of another state of the file are refused by it."""

    @property
    def key(self) -> str:
        """Names the part and the lock."""
        if self.digest is not None:
            return self.digest.hex
        return hashlib.sha256(f"{self.version} {self.name}".encode()).hexdigest()[:40]
