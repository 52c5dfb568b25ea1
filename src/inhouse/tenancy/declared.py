"""Keys that inhouse.yaml declares, known by the SHA-256 of their whole text. Files are read again when they change.

Theory of operation. A hash or a variable is read once, at the start; what is missing then stops the start. A file is
looked at by every `refresh` (about once a second) and read again when its size, time or inode differ. A file that is
gone or holds no key any more opens nothing: taking it away is a revocation. That is told once, and the key is back
as soon as the file is.

A digest is looked up in a dict and not compared in constant time: to learn anything from its first bytes one would
have to choose texts by their SHA-256, and would then know bytes of a hash, not of a key.

Not here: keys made by commands (`keys`), and what a header looks like (`auth`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from inhouse.config import KeySpec, parse_moment
from inhouse.errors import StackError
from inhouse.store.contract import Key, KeyStore
from inhouse.tenancy.keys import hash_of
from inhouse.tenancy.limits import limits_of

TEXT_LENGTH_MIN = 16
TEXT_BYTES_MAX = 4096
_HASH_PREFIX = "sha256:"

Tell = Callable[[str, str | None], None]
"""(name of the key, what is wrong with its file or None when it is well again)."""
_Seen = tuple[int, int, int, int] | None


class DeclaredKeys:
    """The declared keys of a stack. Raises `StackError` for a variable or file that is missing or holds no key."""

    def __init__(self, specs: Mapping[str, KeySpec], environ: Mapping[str, str], *, tell: Tell = lambda _, __: None):
        self._specs = {name: spec for name, spec in specs.items() if spec.declared}
        self._tell = tell
        self._seen: dict[str, _Seen] = {}
        self._faults: dict[str, str] = {}
        self._digests: dict[str, bytes] = {}
        self._changes = 0
        for name, spec in self._specs.items():
            where = f"keys.{name}"
            if spec.from_file is not None:
                self._seen[name] = _seen(spec.from_file)
            try:
                self._digests[name] = _digest(spec, environ)
            except ValueError as error:
                raise StackError(str(error), where=where, hint=_WAY_OUT) from None
        self._keys = self._indexed()
        lost = [name for name in self._digests if self._keys[self._digests[name]].id != name]
        if lost:
            other = self._keys[self._digests[lost[0]]].id
            raise StackError(
                f"it has the same text as `keys.{other}`", where=f"keys.{lost[0]}", hint="give each a text of its own"
            )

    def __bool__(self) -> bool:
        return bool(self._specs)

    def check_apart_from(self, store: KeyStore) -> None:
        """Limits and use go by a key's id: no two keys have the same. Raises `StackError`, `StateError`."""
        for name in self._specs:
            if store.by_id(name) is not None:
                raise StackError(
                    f"a key of the id '{name}' was made by `inhouse keys create`, and this one is another",
                    where=f"keys.{name}",
                    hint="declare it under another name",
                )

    def find(self, digest: bytes) -> Key | None:
        """The key whose text has that SHA-256, live or expired."""
        return self._keys.get(digest)

    def refresh(self) -> int:
        """Looks at the files. Equal to the last answer while no key has changed."""
        for name, seen in self._seen.items():
            path = self._specs[name].from_file
            assert path is not None  # noqa: S101 - only such are looked at
            now = _seen(path)
            if now == seen and now is not None:
                continue
            self._seen[name] = now
            self._read_again(name)
        return self._changes

    def faults(self) -> dict[str, str]:
        """What is wrong now with the files of keys, by key; such a key opens nothing."""
        return dict(self._faults)

    def _read_again(self, name: str) -> None:
        before = self._digests.get(name)
        try:
            digest = _digest(self._specs[name], {})
            other = self._keys.get(digest)
            if other is not None and other.id != name:
                raise ValueError(f"it has the same text as `keys.{other.id}`")
        except ValueError as error:
            self._digests.pop(name, None)
            if self._faults.get(name) != str(error):
                self._faults[name] = str(error)
                self._tell(name, str(error))
        else:
            self._digests[name] = digest
            if self._faults.pop(name, None) is not None:
                self._tell(name, None)
        if self._digests.get(name) != before:
            self._changes += 1
            self._keys = self._indexed()

    def _indexed(self) -> dict[bytes, Key]:
        """Of keys with the same text, the first."""
        found: dict[bytes, Key] = {}
        for name, digest in self._digests.items():
            found.setdefault(digest, record(name, self._specs[name], digest))
        return found


_WAY_OUT = "give `hash: sha256:…` (`inhouse keys hash` prints it), `from_env: NAME` or `from_file: PATH`"


def record(name: str, spec: KeySpec, digest: bytes = bytes(32)) -> Key:
    """A declared key as a record. When it was made nobody knows: `created_at` is 0."""
    return Key(
        id=name,
        hash=digest,
        note=spec.note,
        tenant=spec.tenant,
        roles=frozenset(spec.roles),
        created_at=0.0,
        expires_at=None if spec.expires is None else parse_moment(spec.expires),
        models=tuple(spec.models),
        limits=limits_of(spec.limits),
    )


def hash_text(text: str) -> str:
    """What to write behind `hash:` for a key of this text. Raises `ValueError`, which does not repeat it."""
    return _HASH_PREFIX + hash_of(_checked(text, "it")).hex()


def _digest(spec: KeySpec, environ: Mapping[str, str]) -> bytes:
    if spec.hash is not None:
        return bytes.fromhex(spec.hash.removeprefix(_HASH_PREFIX))
    if spec.from_env is not None:
        text = environ.get(spec.from_env)
        if not text:
            raise ValueError(f"its text is to come from the environment variable {spec.from_env}, which is not set")
        return hash_of(_checked(text, f"the variable {spec.from_env}"))
    assert spec.from_file is not None  # noqa: S101 - one of the three is given
    return hash_of(_checked(_content(spec.from_file), f"the file {spec.from_file}"))


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(TEXT_BYTES_MAX + 1)
    except FileNotFoundError:
        raise ValueError(f"its text is to come from the file {path}, which does not exist") from None
    except OSError as error:
        raise ValueError(f"the file {path} with its text cannot be read: {error.strerror}") from None
    if len(content) > TEXT_BYTES_MAX:
        raise ValueError(f"the file {path} is larger than {TEXT_BYTES_MAX} bytes; a key is one line")
    return content.decode("latin-1")


def _checked(text: str, what: str) -> str:
    """The key in `text`, spaces and newlines around it cut off. Never part of a message."""
    key = text.strip()
    if len(key) < TEXT_LENGTH_MIN:
        raise ValueError(
            f"{what} holds a key of {len(key)} characters, at least {TEXT_LENGTH_MIN} are needed; "
            "`openssl rand -hex 32` makes a good one"
        )
    if not all("\x21" <= character <= "\x7e" for character in key):
        raise ValueError(f"{what} holds spaces or characters that cannot be sent in a header; a key is one word")
    return key


def _seen(path: Path) -> _Seen:
    """What changes when the file does; None where it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
