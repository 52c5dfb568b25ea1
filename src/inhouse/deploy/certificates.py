"""Certificates of the installation's own between gateways and engines, made and renewed by cert-manager.

The gateway shows its one to engines; in front of each engine stands `inhouse door`, which shows the engine's and lets
nobody else in. Both read their files again when cert-manager has renewed them. Not here: the certificate that clients
see (`traffic`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inhouse.deploy import pods
from inhouse.deploy.launch import engine_of
from inhouse.deploy.site import BEHIND_PORT, ENGINE_PORT, OPEN_PORT, TLS_FOLDER, Lane, Site
from inhouse.deploy.text import why
from inhouse.errors import StackError

_AUTHORITY_S = 10 * 365 * 86400
_COMPONENT = "network"
CA, CERT, KEY = (f"{TLS_FOLDER}/{name}" for name in ("ca.crt", "tls.crt", "tls.key"))


def issued(site: Site) -> Iterator[Any]:
    """The authority, where there is none yet, and what it signs."""
    if not site.certified:
        return
    if site.stack.deploy.mesh.issuer is None:
        yield from _authority(site)
    if not site.reached:
        return
    yield _certificate(site, of_gateway(site), [name_of_gateway(site)], "client auth")
    for lane in site.reached:
        host = f"{site.service(lane)}.{site.namespace}.svc"
        yield _certificate(site, of_engine(lane), [host, f"{host}.cluster.local"], "server auth", lane)


def of_gateway(site: Site) -> str:
    """The Secret with the certificate that gateways show to engines."""
    return f"{site.name}-client-tls"


def of_engine(lane: Lane) -> str:
    """The Secret with the certificate that the engines of a model show."""
    return f"{lane.name}-engine-tls"


def name_of_gateway(site: Site) -> str:
    """Whom a door lets in."""
    return f"{site.name}.{site.namespace}.svc"


def settings(site: Site) -> dict[str, Any]:
    """Of a model, as the gateway in the cluster reads them."""
    return {"ca_file": CA, "cert_file": CERT, "key_file": KEY} if site.certified else {}


def volume(secret: str) -> dict[str, Any]:
    return {"name": "tls", "secret": {"secretName": secret, "defaultMode": why(0o440, "0440: for the pod's own group")}}


def mount() -> dict[str, Any]:
    return {"name": "tls", "mountPath": TLS_FOLDER, "readOnly": True}


def door(site: Site, lane: Lane) -> Any:
    """What stands in front of an engine. It starts before it and ends after it."""
    engine = engine_of(lane)
    shown = [path.decode() for path in dict.fromkeys((engine.health, *engine.metrics))]
    args = ["door", "--listen", f"0.0.0.0:{ENGINE_PORT}", "--engine", f"127.0.0.1:{BEHIND_PORT}"]
    args += ["--cert", CERT, "--key", KEY, "--ca", CA, "--client", name_of_gateway(site)]
    args += ["--open-port", str(OPEN_PORT), *(word for path in shown for word in ("--open", path))]
    container = {
        "name": "door",
        "image": site.image("gateway"),
        "restartPolicy": why("Always", "a sidecar: it ends after the engine has finished its streams"),
        "args": args,
        "ports": [
            {"name": "http", "containerPort": ENGINE_PORT},
            {"name": "open", "containerPort": OPEN_PORT},
        ],
        "startupProbe": {"tcpSocket": {"port": "open"}, "periodSeconds": 1, "failureThreshold": 60},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": pods.container_security(),
        "volumeMounts": [mount(), {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
    return why(container, "TLS for the engine: only the gateway's certificate opens it; probes and scrapers see pages.")


def check(site: Site) -> None:
    """Raises StackError where nothing can stand in front of engines."""
    if site.stack.deploy.mesh.mtls == "cert-manager" and site.target == "knative":
        raise StackError(
            "`deploy.mesh.mtls` is cert-manager, and on Knative a proxy of its own stands in front of engines",
            where="deploy.mesh.mtls",
            hint="take Knative's own encryption (`system-internal-tls`), a mesh, or another target",
        )


def _authority(site: Site) -> Iterator[Any]:
    """Signs itself, and then the others. It keeps its key, so that what it has signed stays good when it is renewed."""
    name = f"{site.name}-authority"
    yield why(
        {
            "apiVersion": "cert-manager.io/v1",
            "kind": "Issuer",
            "metadata": site.meta(f"{name}-root", _COMPONENT),
            "spec": {"selfSigned": {}},
        },
        "An authority of this installation's own: nobody outside has a certificate of it.",
    )
    yield {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": site.meta(name, _COMPONENT),
        "spec": {
            "isCA": True,
            "commonName": f"{site.name} in {site.namespace}"[:64],
            "secretName": name,
            "duration": _hours(_AUTHORITY_S),
            "renewBefore": _hours(_AUTHORITY_S / 3),
            "privateKey": {
                "algorithm": "ECDSA",
                "size": 256,
                "rotationPolicy": why("Never", "what it has signed stays good when it is renewed"),
            },
            "usages": ["cert sign", "crl sign", "digital signature"],
            "issuerRef": {"kind": "Issuer", "name": f"{name}-root"},
        },
    }
    yield {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Issuer",
        "metadata": site.meta(name, _COMPONENT),
        "spec": {"ca": {"secretName": name}},
    }


def _certificate(site: Site, secret: str, names: list[str], usage: str, lane: Lane | None = None) -> dict[str, Any]:
    spec = site.stack.deploy.mesh
    own = {"kind": "Issuer", "name": f"{site.name}-authority"}
    return {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": site.meta(secret, _COMPONENT, lane),
        "spec": {
            "secretName": secret,
            "duration": _hours(spec.certificate_life),
            "renewBefore": _hours(spec.certificate_life / 3),
            "dnsNames": names,
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "usages": ["digital signature", why(usage, "and for nothing else")],
            "issuerRef": own if spec.issuer is None else {"kind": "ClusterIssuer", "name": spec.issuer},
        },
    }


def _hours(seconds: float) -> str:
    """As Go writes a duration."""
    minutes, left = divmod(int(seconds), 60)
    return f"{minutes // 60}h{minutes % 60}m{left}s"
