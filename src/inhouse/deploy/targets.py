"""What makes engines of a cluster: plain Kubernetes, KServe, or KServe on Knative."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from inhouse.deploy import engines, kserve, scaling, workers
from inhouse.deploy.site import Site

Objects = Callable[[Site], Iterator[Any]]


@dataclass(frozen=True, slots=True)
class Target:
    """The functions that make the objects which differ."""

    engines: tuple[Objects, ...]
    scalers: tuple[Objects, ...] = (scaling.of_engines,)
    """Of engines; empty where the target scales by itself."""


TARGETS: dict[str, Target] = {
    "kubernetes": Target((engines.services, engines.workloads, engines.budgets)),
    "kserve": Target((engines.services, kserve.inference_services, engines.budgets)),
    "knative": Target((kserve.knative_services,), scalers=()),
}
"""By the name in `deploy.target` and `--target`."""
_LLM = Target((engines.services, kserve.llm_inference_services, engines.budgets), scalers=())


def target(site: Site) -> Target:
    return _LLM if site.llm else TARGETS[site.target]


def of_engines(site: Site) -> Iterator[Any]:
    """The engines' objects, as the target has them."""
    for make in target(site).engines:
        yield from make(site)
    for make in (workers.services, workers.workloads):  # whatever the target: they are no services
        yield from make(site)


def of_scalers(site: Site) -> Iterator[Any]:
    """What scales engines."""
    for make in target(site).scalers:
        yield from make(site)
    if scaling.of_engines not in target(site).scalers:
        yield from scaling.of_lanes(site, site.workers)
