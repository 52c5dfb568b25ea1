"""The parts of `deploy` that a cluster may have or not: the way in, secrets, who watches, who applies."""

from __future__ import annotations

from typing import Literal

from inhouse.config.fields import Count, Duration, Section, Size, setting
from inhouse.config.units import GIB, MIB

MaybeText = str | None


class TrafficSpec(Section):
    """The way from outside to the gateway."""

    kind: Literal["none", "gateway-api", "ingress"] = setting(
        "none", "What leads in; `none` leaves the Service, for use inside the cluster or by port-forward."
    )
    host: MaybeText = setting(None, "The name that clients call.", example="llm.example.com", max_length=253)
    gateway_class: str = setting("eg", "The GatewayClass, such as that of Envoy Gateway or Istio.", max_length=63)
    gateway: MaybeText = setting(
        None, "A Gateway that exists, as namespace/name, in place of one of its own.", example="infra/public"
    )
    ingress_class: str = setting("nginx", "The IngressClass.", max_length=63)
    issuer: MaybeText = setting(
        None, "A ClusterIssuer of cert-manager that makes the certificate.", example="letsencrypt", max_length=253
    )
    tls_secret: MaybeText = setting(
        None, "A Secret with the certificate, in place of `issuer`.", example="llm-tls", max_length=253
    )
    session_affinity: bool = setting(
        False,
        "Whether a client stays with one gateway, by address, or ingress nginx's cookie; no function needs it.",
    )
    canary_service: MaybeText = setting(
        None, "The Service of another installation that gets a part of the traffic.", example="inhouse-next"
    )
    canary_percent: Count = setting(5, "That part.", unit="percent", ge=0, le=100)
    inference_pool: bool = setting(
        False, "Whether each model is an InferencePool too, for an endpoint picker of the cluster."
    )


class SecretsSpec(Section):
    """Where the Secret comes from that holds keys and passwords."""

    store: Literal["none", "oci", "aws", "gcp", "azure", "vault"] = setting(
        "none", "A vault that the External Secrets operator reads; `none`: you make the Secret by hand."
    )
    vault: MaybeText = setting(
        None, "The vault: its OCID (oci), its address (azure, vault), its project (gcp).",
        example="https://vault.example.com:8200", max_length=512,
    )  # fmt: skip
    region: MaybeText = setting(None, "The region (oci, aws).", example="eu-frankfurt-1", max_length=63)
    prefix: str = setting("inhouse-", "What a secret's name in the vault begins with; the variable's name follows.")
    role: MaybeText = setting(
        None, "The role to take (aws: its ARN; vault: its name).", example="inhouse", max_length=512
    )
    path: str = setting("secret", "The mount of the key-value engine (vault).", max_length=253)
    service_account: MaybeText = setting(
        None, "A ServiceAccount with the identity that may read; without one, the node's.", example="inhouse-secrets"
    )
    refresh: Duration = setting(3600.0, "How often the vault is read again.", unit="seconds", ge=60)


class ObserveSpec(Section):
    """Who reads the metrics."""

    metrics: Literal["none", "annotations", "monitors"] = setting(
        "annotations", "`annotations` for a Prometheus that looks for them, `monitors` for the Prometheus operator."
    )
    interval: Duration = setting(15.0, "Pause between two readings.", unit="seconds", ge=1)
    release: MaybeText = setting(
        None, "The label `release` that the Prometheus chooses monitors by.", example="kube-prometheus-stack"
    )
    dcgm: bool = setting(False, "Whether the GPUs' DCGM exporter is read too; it must be installed.")
    namespace: str = setting(
        "monitoring", "The namespace of the Prometheus that reads: its pods may reach those of engines.", max_length=63
    )
    dcgm_namespace: str = setting("gpu-operator", "The namespace of the DCGM exporter.", max_length=63)


class GitopsSpec(Section):
    """Who applies the tree."""

    kind: Literal["none", "argocd", "flux"] = setting("none", "What brings the tree from a repository to the cluster.")
    repository: MaybeText = setting(
        None, "The repository that holds the rendered tree.", example="https://git.example.com/platform/llm.git"
    )
    revision: str = setting("main", "Its branch or tag.", max_length=250)
    path: str = setting("overlays/prod", "The folder of the overlay in it.", max_length=250)
    namespace: MaybeText = setting(
        None, "Where Argo CD or Flux lives; without it, `argocd` or `flux-system`.", example="argocd", max_length=63
    )


class StateSpec(Section):
    """Redis and PostgreSQL that are made beside the gateways; those that exist are named in `store`."""

    redis: Literal["none", "trial"] = setting("none", "`trial`: one small pod that keeps its data on a volume.")
    postgres: Literal["none", "trial", "cloudnative-pg"] = setting(
        "none", "`trial`: one small pod; `cloudnative-pg`: three copies by that operator."
    )
    volume_size: Size = setting(
        5 * GIB, "Size of each of their volumes, or of a single gateway's.", unit="bytes", ge=MIB
    )


class MeshSpec(Section):
    """Encryption inside the cluster."""

    mtls: Literal["none", "istio", "linkerd", "cert-manager"] = setting(
        "none",
        "What encrypts between gateway and engines, and checks who they are: a mesh, or certificates of their own.",
    )
    issuer: MaybeText = setting(
        None, "The ClusterIssuer that signs those certificates; without one, an authority of the installation.",
        example="company-ca", max_length=253,
    )  # fmt: skip
    certificate_life: Duration = setting(
        90 * 86400.0, "How long such a certificate is valid; after two thirds of it the next one comes.",
        unit="seconds", ge=3600,
    )  # fmt: skip
