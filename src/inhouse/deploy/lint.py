"""What a cluster would not refuse, and which would not work all the same: a table of rules over rendered objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from inhouse.deploy import rules_links, rules_pods, rules_tls
from inhouse.deploy.inventory import Inventory


@dataclass(frozen=True, slots=True)
class Finding:
    rule: str
    message: str


Rule = Callable[[Inventory], Iterator[str]]

RULES: dict[str, Rule] = {
    "selectors-match": rules_links.selectors_match,
    "ports-match": rules_links.ports_match,
    "references-exist": rules_links.references_exist,
    "budgets-leave-room": rules_links.budgets_leave_room,
    "one-scaler-each": rules_links.one_scaler_each,
    "probes-are-served": rules_links.probes_are_served,
    "names-are-single": rules_links.names_are_single,
    "pods-are-restricted": rules_pods.pods_are_restricted,
    "tokens-stay-out": rules_pods.tokens_stay_out,
    "resources-are-set": rules_pods.resources_are_set,
    "ends-are-long-enough": rules_pods.ends_are_long_enough,
    "images-are-pinned": rules_pods.images_are_pinned,
    "rollouts-can-move": rules_pods.rollouts_can_move,
    "values-are-known": rules_pods.values_are_known,
    "namespaces-agree": rules_pods.namespaces_agree,
    "certificates-fit": rules_tls.certificates_fit,
}
"""By name; each tells its findings as sentences that begin with the object."""


def lint(inventory: Inventory) -> list[Finding]:
    """All findings, in the order of the rules."""
    return [Finding(name, message) for name, rule in RULES.items() for message in rule(inventory)]
