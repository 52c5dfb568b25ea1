"""Keys and passwords: read from a vault by the External Secrets operator, into the one Secret that pods take them from.

Not here: any secret. The tree holds names only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from inhouse.config.deploy_parts import SecretsSpec
from inhouse.deploy import gateway
from inhouse.deploy.site import Site
from inhouse.errors import StackError


def external(site: Site) -> Iterator[Any]:
    """The vault, and what is read from it."""
    spec = site.stack.deploy.secrets
    if spec.store == "none":
        return
    yield {
        "apiVersion": "external-secrets.io/v1",
        "kind": "SecretStore",
        "metadata": site.meta(f"{site.name}-vault", gateway.COMPONENT),
        "spec": {"provider": _PROVIDERS[spec.store](spec)},
    }
    data = [{"secretKey": name, "remoteRef": _remote(spec, name)} for name in site.secrets]
    yield {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": site.meta(site.secret, gateway.COMPONENT),
        "spec": {
            "refreshInterval": f"{int(spec.refresh)}s",
            "secretStoreRef": {"kind": "SecretStore", "name": f"{site.name}-vault"},
            "target": {"name": site.secret, "creationPolicy": "Owner", "deletionPolicy": "Retain"},
            "data": data,
        },
    }


def _remote(spec: SecretsSpec, name: str) -> dict[str, str]:
    """Vaults of Azure and Google know no underscore or do not like it; the key-value engine has one secret for all."""
    if spec.store == "vault":
        return {"key": spec.prefix.rstrip("-/_"), "property": name}
    return {"key": f"{spec.prefix}{name.lower().replace('_', '-')}"}


def _oci(spec: SecretsSpec) -> dict[str, Any]:
    found = {"vault": _needed(spec, "vault"), "region": _needed(spec, "region")}
    if spec.service_account:
        return {"oracle": found | {"principalType": "Workload", "serviceAccountRef": {"name": spec.service_account}}}
    return {"oracle": found | {"principalType": "InstancePrincipal"}}


def _aws(spec: SecretsSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"service": "SecretsManager", "region": _needed(spec, "region")}
    if spec.role:
        found["role"] = spec.role
    if spec.service_account:
        found["auth"] = {"jwt": {"serviceAccountRef": {"name": spec.service_account}}}
    return {"aws": found}


def _gcp(spec: SecretsSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"projectID": _needed(spec, "vault")}
    if spec.service_account:
        found["auth"] = {"workloadIdentity": {"serviceAccountRef": {"name": spec.service_account}}}
    return {"gcpsm": found}


def _azure(spec: SecretsSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"vaultUrl": _needed(spec, "vault"), "authType": "ManagedIdentity"}
    if spec.service_account:
        found |= {"authType": "WorkloadIdentity", "serviceAccountRef": {"name": spec.service_account}}
    return {"azurekv": found}


def _vault(spec: SecretsSpec) -> dict[str, Any]:
    login: dict[str, Any] = {"mountPath": "kubernetes", "role": _needed(spec, "role")}
    if spec.service_account:
        login["serviceAccountRef"] = {"name": spec.service_account}
    where = {"server": _needed(spec, "vault"), "path": spec.path, "version": "v2"}
    return {"vault": where | {"auth": {"kubernetes": login}}}


_PROVIDERS: dict[str, Callable[[SecretsSpec], dict[str, Any]]] = {
    "oci": _oci,
    "aws": _aws,
    "gcp": _gcp,
    "azure": _azure,
    "vault": _vault,
}


def _needed(spec: SecretsSpec, name: str) -> str:
    value = getattr(spec, name)
    if value is None:
        raise StackError(
            f"`deploy.secrets.store: {spec.store}` needs `{name}`",
            where="deploy.secrets.store",
            hint=f"add `deploy.secrets.{name}`",
        )
    return str(value)
