"""What Compose would not refuse, and which would not work or not be safe all the same: a table of rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from inhouse.deploy.lint import Finding

Document = dict[str, Any]
Rule = Callable[[Document], Iterator[str]]
_OPEN = {"caddy"}
"""Services whose ports everybody may reach: TLS is theirs."""
_ROOTS = {"caddy": {"NET_BIND_SERVICE"}, "alloy": set[str]()}
"""Services that run as root, and the rights that they keep."""


def rights_are_few(whole: Document) -> Iterator[str]:
    for name, one in whole["services"].items():
        if one.get("privileged") or "docker.sock" in str(one.get("volumes", "")):
            yield f"{name} is lord of the machine"
        if one.get("cap_drop") != ["ALL"] or not set(one.get("cap_add", [])) <= _ROOTS.get(name, set()):
            yield f"{name} keeps capabilities"
        if "no-new-privileges:true" not in one.get("security_opt", []):
            yield f"{name} may get more rights"
        if one.get("read_only") is not True:
            yield f"{name} may write to its image"
        if not re.fullmatch(r"[1-9]\d*:\d+", str(one.get("user"))) and name not in _ROOTS:
            yield f"{name} runs as root, or as a name whose number nobody knows"


def images_are_pinned(whole: Document) -> Iterator[str]:
    for name, one in whole["services"].items():
        image = one["image"].rpartition("/")[2]
        if "@" not in image and (":" not in image or image.endswith(":latest")):
            yield f"{name}: {one['image']} is another image tomorrow"


def bounds_are_set(whole: Document) -> Iterator[str]:
    for name, one in whole["services"].items():
        if "mem_limit" not in one:
            yield f"{name} may take all memory"
        if "max-size" not in one.get("logging", {}).get("options", {}):
            yield f"{name}: its log may fill the disk"


def references_exist(whole: Document) -> Iterator[str]:
    """And what is declared is used."""
    used: dict[str, set[str]] = {"networks": set(), "volumes": set(), "configs": set(), "secrets": set()}
    for name, one in whole["services"].items():
        used["networks"] |= set(one.get("networks", []))
        used["secrets"] |= set(one.get("secrets", []))
        used["configs"] |= {config["source"] for config in one.get("configs", [])}
        used["volumes"] |= {volume["source"] for volume in one.get("volumes", []) if volume["type"] == "volume"}
        for other in one.get("depends_on", {}):
            if other not in whole["services"]:
                yield f"{name} waits for {other}, which is not there"
    for kind, names in used.items():
        declared = set(whole.get(kind, {}))
        for lacking in sorted(names - declared):
            yield f"{kind}: {lacking} is used and not declared"
        for idle in sorted(declared - names):
            yield f"{kind}: {idle} is declared and not used"


def waits_can_end(whole: Document) -> Iterator[str]:
    for name, one in whole["services"].items():
        for other, how in one.get("depends_on", {}).items():
            awaited = whole["services"].get(other, {})
            check = awaited.get("healthcheck", {})
            if how["condition"] == "service_healthy" and ("test" not in check or check.get("disable")):
                yield f"{name} waits for the health of {other}, which has no check"
            if how["condition"] == "service_completed_successfully" and awaited.get("restart") in (
                "always",
                "unless-stopped",
            ):
                yield f"{name} waits for the end of {other}, which is started again and again"
            if awaited.get("profiles", []) not in ([], one.get("profiles", [])):
                yield f"{name} waits for {other}, which is in a profile that may be left out"


def ports_are_meant(whole: Document) -> Iterator[str]:
    taken: dict[str, str] = {}
    for name, one in whole["services"].items():
        for port in one.get("ports", []):
            outer = port.rpartition(":")[0]
            if name not in _OPEN and ":" not in outer:
                yield f"{name}: port {port} is open to every network of the machine"
            place = outer + ("/udp" if port.endswith("/udp") else "")
            if place in taken:
                yield f"{name} and {taken[place]} both want port {outer}"
            taken[place] = name


def ends_are_long_enough(whole: Document) -> Iterator[str]:
    """Who stands in front of the gateway goes on for as long as it does."""
    gateway = _seconds(whole["services"]["gateway"].get("stop_grace_period", "10s"))
    for name in _OPEN & set(whole["services"]):
        if _seconds(whole["services"][name].get("stop_grace_period", "10s")) < gateway:
            yield f"{name} ends before the gateway has finished its answers"


def _seconds(text: str) -> int:
    return int(text.removesuffix("s"))


RULES: dict[str, Rule] = {
    "rights-are-few": rights_are_few,
    "images-are-pinned": images_are_pinned,
    "bounds-are-set": bounds_are_set,
    "references-exist": references_exist,
    "waits-can-end": waits_can_end,
    "ports-are-meant": ports_are_meant,
    "ends-are-long-enough": ends_are_long_enough,
}
"""By name; each tells its findings as sentences that begin with the service."""


def lint(whole: Document) -> list[Finding]:
    """All findings, in the order of the rules."""
    return [Finding(name, message) for name, rule in RULES.items() for message in rule(whole)]
