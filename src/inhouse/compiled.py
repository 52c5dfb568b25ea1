"""Whether this is a build whose hot path was compiled (`hooks.mypyc` in pyproject.toml). It is one of its modules."""

from __future__ import annotations

COMPILED = not __file__.endswith(".py")
