"""The network: closed, but for what the parts need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inhouse.deploy import engines, gateway, workers
from inhouse.deploy.inventory import PROXY_PORTS
from inhouse.deploy.site import ENGINE_PORT, HEALTH_PORT, OPEN_PORT, Site
from inhouse.deploy.state import POSTGRES_PORT, REDIS_PORT
from inhouse.deploy.text import bare, why

_PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"]
_KNATIVE_PORTS = (80, 8080, 8081)
"""Of the gateways inside the cluster that Knative works with."""
_NODE_LOCAL = {"ipBlock": {"cidr": "169.254.0.0/16"}}
"""Where a cache of names on each node listens."""


def network(site: Site) -> Iterator[Any]:
    """First everything is closed, then each way is opened by itself."""
    if not site.stack.deploy.network_policies:
        return
    ours = {} if site.stack.deploy.own_namespace else site.common
    yield _policy(site, "default-deny", ours, {"policyTypes": ["Ingress", "Egress"]}, "Nothing in, nothing out.")
    yield _policy(
        site,
        "names",
        ours,
        {
            "policyTypes": ["Egress"],
            "egress": [{"to": [_kube_system(), _NODE_LOCAL], "ports": _ports(53, "UDP") + _ports(53)}],
        },
        "All pods may ask for names.",
    )
    door = {"ports": [{"protocol": "TCP", "port": "http"}]}
    out: list[Any] = []
    if not site.sidecar and site.reached:
        if site.target == "knative":
            ports = [port for number in _KNATIVE_PORTS for port in _ports(number)]
            out.append(
                why(
                    {"to": [{"namespaceSelector": {}}], "ports": ports}, "the gateway of Knative, on its way to engines"
                )
            )
        else:
            out.append({"to": [_pods(site, engines.COMPONENT)], "ports": _ports(ENGINE_PORT)})
    made = site.stack.deploy.state
    for component, port, is_made in (("redis", REDIS_PORT, made.redis), ("postgres", POSTGRES_PORT, made.postgres)):
        if is_made != "none":
            chosen = _cnpg(site) if is_made == "cloudnative-pg" else _pods(site, component)
            out.append({"to": [chosen], "ports": _ports(port)})
    if _elsewhere(site):
        out.append(why({}, "engines, stores or issuers outside this namespace: narrow it to theirs"))
    elif gateway.watching(site):
        out.append(why({"ports": _ports(443) + _ports(6443)}, "the API server, which no selector can name"))
    yield _policy(
        site,
        "gateway",
        site.labels(gateway.COMPONENT),
        {"policyTypes": ["Ingress", "Egress"], "ingress": [door], "egress": out},
        "Clients and scrapers reach the gateway's door; it reaches engines.",
    )
    for component, port, is_made in (("redis", REDIS_PORT, made.redis), ("postgres", POSTGRES_PORT, made.postgres)):
        if is_made == "trial":
            rule = {"from": _of_store(site, component), "ports": _ports(port)}
            spec = {"policyTypes": ["Ingress"], "ingress": [rule]}
            who = "gateways and workers" if len(rule["from"]) > 1 else "gateways"
            yield _policy(site, component, site.labels(component), spec, f"Only {who} reach the store.")
    if made.postgres == "cloudnative-pg":
        spec = {"policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}
        pods = {"cnpg.io/cluster": f"{site.name}-postgres"}
        sentence = "Its operator, its copies and the API server speak with PostgreSQL; passwords and TLS guard it."
        yield _policy(site, "postgres", pods, spec, sentence)
    if site.sidecar:
        yield _policy(
            site,
            "weights",
            site.labels(gateway.COMPONENT),
            {"policyTypes": ["Egress"], "egress": [_outside()]},
            "The weights come from outside; https only.",
        )
        return
    if site.workers:
        yield _workers(site)
    if not site.reached:
        return
    yield _policy(
        site,
        "engines",
        site.labels(engines.COMPONENT),
        {
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                _to_engines(site),
                *_to_metrics(site),
                *_among_nodes(site),
            ],
            "egress": [_outside(), *_among_nodes(site, out=True)],
        },
        "Only the gateway reaches engines, and who reads their metrics. They fetch weights by https and reach nothing "
        "in the cluster.",
    )


def _of_store(site: Site, component: str) -> list[Any]:
    """Who may reach a store that is made here."""
    found = [_pods(site, gateway.COMPONENT)]
    if component == "redis" and site.workers:
        found.append(_pods(site, workers.COMPONENT))
    return found


def _queue_is_here(site: Site) -> bool:
    return site.stack.deploy.state.redis == "trial" and f"//{site.name}-redis." in str(site.stack.queue.url)


def _workers(site: Site) -> Any:
    egress: list[Any] = [_outside()]
    if site.stack.deploy.state.redis == "trial":
        egress.insert(0, {"to": [_pods(site, "redis")], "ports": _ports(REDIS_PORT)})
    if not _queue_is_here(site):
        egress.insert(0, why({}, "the queue's Redis, outside this namespace: narrow it to that"))
    rules = [rule | {"ports": _ports(HEALTH_PORT)} for rule in map(bare, _to_metrics(site))]
    return _policy(
        site,
        "workers",
        site.labels(workers.COMPONENT),
        {"policyTypes": ["Ingress", "Egress"], "ingress": rules, "egress": egress},
        "Nobody connects to workers but who reads their metrics. They reach the queue, and fetch weights by https.",
    )


def _to_engines(site: Site) -> Any:
    if site.target == "knative":
        ports = [port for number in PROXY_PORTS for port in _ports(number)]
        rule = {"from": [{"namespaceSelector": {}}], "ports": ports}
        return why(rule, "Knative's own gateway and counters, wherever they are, reach its proxy in the pod")
    return {"from": [_pods(site, gateway.COMPONENT)], "ports": _door(site)}


def _to_metrics(site: Site) -> list[Any]:
    spec = site.stack.deploy.observe
    if spec.metrics == "none" or site.target == "knative":
        return []
    rule = {
        "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": spec.namespace}}}],
        "ports": _ports(OPEN_PORT) if site.certified else _door(site),
    }
    return [why(rule, "Prometheus reads each engine by itself")]


def _door(site: Site) -> list[Any]:
    """Where an engine is asked for answers."""
    return _ports(ENGINE_PORT) if site.certified else [{"protocol": "TCP", "port": "http"}]


def _elsewhere(site: Site) -> bool:
    store = site.stack.store
    stores = store.redis.is_set or store.postgres.is_set
    queue = bool(site.workers) and not _queue_is_here(site)
    return (
        stores or queue or bool(site.stack.issuers) or any(spec.source is None for spec in site.stack.models.values())
    )


def _among_nodes(site: Site, *, out: bool = False) -> list[Any]:
    if all(lane.spec.deploy.nodes == 1 for lane in site.lanes):
        return []
    whom = {"to" if out else "from": [_pods(site, engines.COMPONENT)]}
    return [why(whom, "the nodes of one copy talk among themselves")]


def _policy(site: Site, name: str, labels: dict[str, str], spec: dict[str, Any], sentence: str) -> Any:
    selector = {"podSelector": {"matchLabels": labels} if labels else {}}
    return why(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": site.meta(f"{site.name}-{name}", "network"),
            "spec": selector | spec,
        },
        sentence,
    )


def _pods(site: Site, component: str) -> dict[str, Any]:
    """Of this installation: another one in the same namespace is a stranger."""
    return {"podSelector": {"matchLabels": site.labels(component)}}


def _cnpg(site: Site) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"cnpg.io/cluster": f"{site.name}-postgres"}}}


def _kube_system() -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}


def _outside() -> dict[str, Any]:
    """Not the cluster's own networks, which are private addresses."""
    return {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": list(_PRIVATE)}}], "ports": _ports(443)}


def _ports(number: int, protocol: str = "TCP") -> list[Any]:
    return [{"protocol": protocol, "port": number}]
