"""What stands behind a reference to a secret, `env:NAME` or `file:/path`. It is read anew each time it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from inhouse.errors import StackError

_BYTES_MAX = 16 * 1024


def read_secret(reference: str, environ: Mapping[str, str], where: str) -> str:
    """The secret, without white space around it. Raises StackError, which never shows it; `where` is the setting."""
    kind, _, rest = reference.partition(":")
    if kind == "env":
        found, lacking = environ.get(rest, ""), f"the variable {rest} is not set or empty"
    else:
        lacking = f"the file {rest} is empty"
        try:
            with Path(rest).open(encoding="utf-8", errors="replace") as file:
                found = file.read(_BYTES_MAX)
        except OSError as error:
            raise StackError(f"the secret in {rest} cannot be read: {error.strerror}", where=where) from None
    found = found.strip()
    if not found:
        raise StackError(lacking, where=where)
    return found
