"""The linter: each rule finds what it is for, in trees that are right but for one change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inhouse.deploy.inventory import Inventory
from inhouse.deploy.lint import RULES, lint
from inhouse.deploy.tree import expected, tree
from rendered import objects, site

Change = Callable[[list[dict[str, Any]]], None]


def _one(all_: list[dict[str, Any]], kind: str, name: str = "") -> Any:
    return next(one for one in all_ if one["kind"] == kind and (not name or one["metadata"]["name"] == name))


def _gateway(all_: list[dict[str, Any]]) -> Any:
    return _one(all_, "Deployment", "inhouse")["spec"]


def _container(all_: list[dict[str, Any]]) -> Any:
    return _gateway(all_)["template"]["spec"]["containers"][0]


def _engine(all_: list[dict[str, Any]]) -> Any:
    return _one(all_, "Deployment", "inhouse-large")["spec"]["template"]["spec"]["containers"][0]


def _scaler(kind: str, name: str, target: str) -> dict[str, Any]:
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
    spec = {"scaleTargetRef": ref, "triggers": []}
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "inhouse"}, "spec": spec}


def _route(service: str, port: int) -> dict[str, Any]:
    rules = [{"backendRefs": [{"name": service, "port": port}]}]
    meta = {"name": "door", "namespace": "inhouse"}
    return {"apiVersion": "v1", "kind": "HTTPRoute", "metadata": meta, "spec": {"rules": rules}}


def _without(all_: list[dict[str, Any]], kind: str) -> None:
    all_[:] = [one for one in all_ if one["kind"] != kind]


CHANGES: list[tuple[str, str, Change]] = [
    ("selectors-match", "not take its own pods", lambda a: _gateway(a)["selector"]["matchLabels"].update(x="y")),
    ("selectors-match", "Service inhouse:", lambda a: _one(a, "Service", "inhouse")["spec"]["selector"].update(x="y")),
    (
        "selectors-match",
        "PodDisruptionBudget",
        lambda a: _one(a, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].update(x="y"),
    ),
    (
        "selectors-match",
        "NetworkPolicy inhouse-gateway",
        lambda a: _one(a, "NetworkPolicy", "inhouse-gateway")["spec"]["podSelector"]["matchLabels"].update(x="y"),
    ),
    ("ports-match", "'htp'", lambda a: _one(a, "Service", "inhouse")["spec"]["ports"][0].update(targetPort="htp")),
    ("ports-match", "'metrics'", lambda a: _container(a)["readinessProbe"]["httpGet"].update(port="metrics")),
    ("ports-match", "no port 81", lambda a: a.append(_route("inhouse", 81))),
    ("ports-match", "no Service inhous", lambda a: a.append(_route("inhous", 80))),
    ("references-exist", "no ConfigMap inhouse-config", lambda a: _without(a, "ConfigMap")),
    ("references-exist", "no ServiceAccount", lambda a: _without(a, "ServiceAccount")),
    ("references-exist", "no Role inhouse-endpoints", lambda a: _without(a, "Role")),
    ("references-exist", "no PersistentVolumeClaim", lambda a: _without(a, "PersistentVolumeClaim")),
    ("references-exist", "no ResourceClaimTemplate", lambda a: _without(a, "ResourceClaimTemplate")),
    (
        "references-exist",
        "no Secret other",
        lambda a: _container(a)["env"][0]["valueFrom"]["secretKeyRef"].update(name="other"),
    ),
    ("references-exist", "no volume of the pod", lambda a: _container(a)["volumeMounts"][0].update(name="conf")),
    ("references-exist", "no Deployment gone", lambda a: a.append(_scaler("ScaledObject", "s", "gone"))),
    ("budgets-leave-room", "has 1 pod", lambda a: _gateway(a).update(replicas=1)),
    ("budgets-leave-room", "none may ever", lambda a: _one(a, "PodDisruptionBudget")["spec"].update(minAvailable=2)),
    ("budgets-leave-room", "no pod may", lambda a: _one(a, "PodDisruptionBudget")["spec"].update(maxUnavailable=0)),
    (
        "one-scaler-each",
        "2 scalers",
        lambda a: a.extend(
            [_scaler("ScaledObject", "s", "inhouse"), _scaler("HorizontalPodAutoscaler", "h", "inhouse")]
        ),
    ),
    ("probes-are-served", "/healthz", lambda a: _container(a)["livenessProbe"]["httpGet"].update(path="/healthz")),
    ("probes-are-served", "/ready", lambda a: _engine(a)["startupProbe"]["httpGet"].update(path="/ready")),
    ("names-are-single", "2 times", lambda a: a.append(dict(_one(a, "Service", "inhouse")))),
    (
        "pods-are-restricted",
        "runAsNonRoot",
        lambda a: _gateway(a)["template"]["spec"]["securityContext"].pop("runAsNonRoot"),
    ),
    (
        "pods-are-restricted",
        "seccomp",
        lambda a: _gateway(a)["template"]["spec"]["securityContext"].pop("seccompProfile"),
    ),
    ("pods-are-restricted", "hostNetwork", lambda a: _gateway(a)["template"]["spec"].update(hostNetwork=True)),
    (
        "pods-are-restricted",
        "kind that is not allowed",
        lambda a: _gateway(a)["template"]["spec"]["volumes"].append({"name": "h", "hostPath": {"path": "/"}}),
    ),
    ("pods-are-restricted", "more rights", lambda a: _container(a)["securityContext"].update(privileged=True)),
    ("pods-are-restricted", "capabilities", lambda a: _container(a)["securityContext"].pop("capabilities")),
    (
        "pods-are-restricted",
        "write to its image",
        lambda a: _container(a)["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    ("pods-are-restricted", "as root", lambda a: _container(a)["securityContext"].update(runAsUser=0)),
    (
        "tokens-stay-out",
        "needs for nothing",
        lambda a: _one(a, "Deployment", "inhouse-large")["spec"]["template"]["spec"].pop(
            "automountServiceAccountToken"
        ),
    ),
    ("resources-are-set", "limit of memory", lambda a: _container(a)["resources"].pop("limits")),
    ("resources-are-set", "limited to", lambda a: _engine(a)["resources"]["limits"].update({"nvidia.com/gpu": 1})),
    (
        "ends-are-long-enough",
        "is killed after",
        lambda a: _container(a)["lifecycle"]["preStop"]["sleep"].update(seconds=9000),
    ),
    (
        "ends-are-long-enough",
        "for what it does",
        lambda a: _gateway(a)["template"]["spec"].update(terminationGracePeriodSeconds=60),
    ),
    ("images-are-pinned", "another one tomorrow", lambda a: _container(a).update(image="inhouse/gateway:latest")),
    ("images-are-pinned", "another one tomorrow", lambda a: _container(a).update(image="host:5000/inhouse/gateway")),
    ("rollouts-can-move", "never change", lambda a: _gateway(a)["strategy"]["rollingUpdate"].update(maxSurge=0)),
    (
        "rollouts-can-move",
        "cannot all hold",
        lambda a: _one(a, "PersistentVolumeClaim")["spec"].update(accessModes=["ReadWriteOnce"]),
    ),
    ("values-are-known", "NoSchedul", lambda a: _tolerate(a, "NoSchedul")),
    (
        "values-are-known",
        "ReadWriteMost",
        lambda a: _one(a, "PersistentVolumeClaim")["spec"].update(accessModes=["ReadWriteMost"]),
    ),
    ("values-are-known", "no port", lambda a: _container(a)["ports"][0].update(containerPort=70000)),
    ("values-are-known", "at most 15", lambda a: _container(a)["ports"][0].update(name="a-very-long-port-name")),
    ("values-are-known", "no quantity", lambda a: _container(a)["resources"]["requests"].update(memory="4 GiB")),
    ("values-are-known", "no name of Kubernetes", lambda a: _one(a, "ConfigMap")["metadata"].update(name="In_house")),
    (
        "values-are-known",
        "no value of a label",
        lambda a: _gateway(a)["template"]["metadata"]["labels"].update(a="up/x"),
    ),
    ("values-are-known", "no text", lambda a: _gateway(a)["template"]["metadata"]["annotations"].update(a=1)),
    ("certificates-fit", "renewed before", lambda a: _certified(a, "client").update(renewBefore="720h0m0s")),
    ("certificates-fit", "names no Service", lambda a: _certified(a, "chat-engine").update(dnsNames=["a.example"])),
    ("certificates-fit", "not for server auth", lambda a: _certified(a, "chat-engine").update(usages=["client auth"])),
    ("certificates-fit", "not for client auth", lambda a: _certified(a, "client").update(usages=["server auth"])),
    ("certificates-fit", "does not name", lambda a: _certified(a, "client").update(dnsNames=["other.svc"])),
    ("certificates-fit", "no volume with a certificate", lambda a: _without(a, "Certificate")),
    (
        "certificates-fit",
        "beside its door",
        lambda a: _pod(a, "inhouse-chat")["containers"][0]["args"].append("0.0.0.0"),
    ),
    ("certificates-fit", "'chat' without a certificate", lambda a: _told(a, "k8s+https", "k8s")),
    ("certificates-fit", "'chat' without a certificate", lambda a: _told(a, "cert_file", "slots_max")),
    ("namespaces-agree", "not made here", lambda a: _one(a, "ConfigMap")["metadata"].update(namespace="other")),
]


TREES = {"certificates-fit": "certificates"}
"""The stack whose tree a rule's changes are made in, where it is not that of all others."""


def _certified(all_: list[dict[str, Any]], name: str) -> Any:
    return _one(all_, "Certificate", f"inhouse-{name}-tls")["spec"]


def _pod(all_: list[dict[str, Any]], name: str) -> Any:
    return _one(all_, "Deployment", name)["spec"]["template"]["spec"]


def _told(all_: list[dict[str, Any]], word: str, other: str) -> None:
    data = _one(all_, "ConfigMap")["data"]
    data["inhouse.yaml"] = data["inhouse.yaml"].replace(word, other)


def _tolerate(all_: list[dict[str, Any]], effect: str) -> None:
    _gateway(all_)["template"]["spec"]["tolerations"] = [{"key": "a", "operator": "Exists", "effect": effect}]


def _tree(rule: str) -> tuple[list[dict[str, Any]], frozenset[tuple[str, str]]]:
    good = site(TREES.get(rule, "gpu-cluster"))
    return objects(tree(good)), expected(good)


@pytest.mark.parametrize(("rule", "words", "change"), CHANGES)
def test_one_change_is_found_by_its_rule(rule: str, words: str, change: Change) -> None:
    """The finding names the object and says what is wrong with it."""
    all_, outside = _tree(rule)
    assert lint(Inventory(all_, outside)) == []
    change(all_)
    assert any(finding.rule == rule and words in finding.message for finding in lint(Inventory(all_, outside)))


def test_every_rule_has_a_change_that_it_finds() -> None:
    """A rule that nothing can break is none."""
    assert {rule for rule, _, _ in CHANGES} == set(RULES)
