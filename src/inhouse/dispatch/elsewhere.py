"""What tenants that wait here were given at other gateways of the same queue. Pure.

Each gateway has a fair queue of its own. For a tenant to get its share of the workers and not of each gateway, its
account here is charged with what the others gave to it: what Redis counts for all, less what this gateway has counted
itself. A tenant that begins to wait starts from there: what it was given before is no debt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SHARES_MAX = 256


class Elsewhere:
    """A share is `class tenant`; amounts are tokens divided by the tenant's weight."""

    def __init__(self) -> None:
        self._own: dict[str, float] = {}
        self._known: dict[str, float] = {}
        """Of those that wait: the most that was seen of the others."""

    def gave(self, share: str, amount: float) -> None:
        """This gateway gave so much; less than nothing where a guess was too high."""
        self._own[share] = self._own.get(share, 0.0) + amount

    def charges(self, shares: Sequence[str], served: Iterable[float]) -> dict[str, float]:
        """What to charge now, to those that wait, by what Redis says that all gateways together gave."""
        known, self._known = self._known, {}
        charges: dict[str, float] = {}
        for share, amount in zip(shares, served, strict=True):
            others = amount - self._own.get(share, 0.0)
            before = known.get(share)
            if before is not None and others > before:
                charges[share] = others - before
            self._known[share] = others if before is None else max(before, others)
        if len(self._own) > 4 * SHARES_MAX:  # those that do not wait begin anew
            self._own = {share: amount for share, amount in self._own.items() if share in self._known}
        return charges
