"""Numbers that a file claims, asked for by name and believed within limits only."""

from __future__ import annotations

from collections.abc import Mapping

LAYERS_MAX = 1_024
HEADS_MAX = 65_536
LENGTH_MAX = 2**24
EXPERTS_MAX = 65_536

Numbers = tuple[int | float | bool, ...]
Fact = int | float | Numbers


class Unknown(Exception):
    """Why it cannot be told."""


class Facts:
    """Numbers by their name; `label` stands before the name in messages."""

    def __init__(self, values: Mapping[str, Fact], *, label: str) -> None:
        self._values = values
        self._label = label

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def one(self, key: str, most: int) -> int | None:
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise Unknown(f"{self._label}{key} is not a number up to {most}")
        return value

    def is_list(self, key: str) -> bool:
        return isinstance(self._values.get(key), tuple)

    def each(self, key: str, layers: int, most: int) -> tuple[int, ...] | None:
        """One number for each layer, of a list or of one number for all."""
        value = self._values.get(key)
        if not isinstance(value, tuple):
            one = self.one(key, most)
            return None if one is None else (one,) * layers
        if len(value) < layers:
            raise Unknown(f"{self._label}{key} has {len(value)} entries for {layers} layers")
        for entry in value[:layers]:
            if isinstance(entry, float) or not 0 <= entry <= most:
                raise Unknown(f"{self._label}{key} is not a list of numbers up to {most}")
        return tuple(int(entry) for entry in value[:layers])

    def known(self, key: str, most: int) -> int | None:
        """As `one`, None also where it is no number within the limit."""
        try:
            return self.one(key, most)
        except Unknown:
            return None

    def largest(self, key: str, layers: int, most: int) -> int | None:
        try:
            return max(self.each(key, layers, most) or (0,)) or None
        except Unknown:
            return None
