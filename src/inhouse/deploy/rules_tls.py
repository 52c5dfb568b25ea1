"""Rules about certificates: whom they name, what they are for, that they are renewed in time, who shows which."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import yaml

from inhouse.deploy.inventory import Inventory, Pod, named

_GO = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def certificates_fit(all_: Inventory) -> Iterator[str]:
    for one in all_.of("Certificate"):
        life_s, left_s = (_seconds(one["spec"].get(key)) for key in ("duration", "renewBefore"))
        if life_s is not None and left_s is not None and left_s >= life_s:
            yield f"{named(one)}: is renewed before it is made: renewBefore is not below duration"
    doors = [(pod, container) for pod in all_.pods for container in pod.containers if _is_door(container)]
    for pod, _ in doors:
        yield from _shown(all_, pod, "server auth")
        hosts = {
            f"{service['metadata']['name']}.{service['metadata'].get('namespace')}.svc"
            for service in all_.of("Service")
            if pod in all_.chosen(service["spec"].get("selector"))
        }
        certificate = _certificate(all_, pod)
        if certificate is not None and not hosts & set(certificate["spec"].get("dnsNames", ())):
            yield f"{named(certificate)}: names no Service of {pod.where}, which shows it"
        for container in pod.spec.get("containers", []):
            if any(str(word) == "0.0.0.0" for word in container.get("args", [])):  # noqa: S104
                yield f"{pod.where}: {container['name']} listens beside its door, where nobody asks for a certificate"
    for pod, models in _gateways(all_):
        secured = {name for name, model in models.items() if model.get("cert_file")}
        if secured:
            yield from _shown(all_, pod, "client auth")
        plain = [
            name
            for name, model in models.items()
            if doors
            and any(_leads_to(place, door) for place in model.get("endpoints", ()) for door, _ in doors)
            and (name not in secured or not all("https://" in place for place in model["endpoints"]))
        ]
        for name in plain:
            yield f"{pod.where}: speaks to the engines of {name!r} without a certificate, and they ask for one"
        certificate = _certificate(all_, pod)
        if certificate is None:
            continue
        for door, container in doors:
            wanted = {value for flag, value in pairwise(container["args"]) if flag == "--client"}
            if wanted and not wanted & set(certificate["spec"].get("dnsNames", ())):
                yield f"{door.where}: lets in {', '.join(sorted(wanted))}, which {named(certificate)} does not name"


def _is_door(container: dict[str, Any]) -> bool:
    return list(container.get("args", ()))[:1] == ["door"]


def _shown(all_: Inventory, pod: Pod, usage: str) -> Iterator[str]:
    certificate = _certificate(all_, pod)
    if certificate is None:
        yield f"{pod.where}: has no volume with a certificate"
    elif usage not in certificate["spec"].get("usages", ()):
        yield f"{named(certificate)}: is not for {usage}, and {pod.where} shows it so"


def _certificate(all_: Inventory, pod: Pod) -> dict[str, Any] | None:
    secrets = {volume["secret"]["secretName"] for volume in pod.spec.get("volumes", ()) if "secret" in volume}
    return next((one for one in all_.of("Certificate") if one["spec"]["secretName"] in secrets), None)


def _gateways(all_: Inventory) -> Iterator[tuple[Pod, dict[str, Any]]]:
    """Each pod with a stack of its own in a ConfigMap, and the models of it."""
    files = {one["metadata"]["name"]: one.get("data", {}).get("inhouse.yaml") for one in all_.of("ConfigMap")}
    for pod in all_.pods:
        for volume in pod.spec.get("volumes", ()):
            text = files.get(volume.get("configMap", {}).get("name", ""))
            if text is not None:
                yield pod, yaml.safe_load(text).get("models", {})


def _leads_to(place: str, door: Pod) -> bool:
    """Whether an endpoint of a stack is the Service of these pods."""
    host = re.split(r"[/:.]+", place.partition("://")[2])
    return door.owner["metadata"]["name"] in host or f"{door.owner['metadata']['name']}-pods" in host


def _seconds(duration: object) -> int | None:
    match = _GO.fullmatch(str(duration)) if duration else None
    if match is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds
