"""What a person does with the tree, in order: what must be there, what to make by hand, how to apply it."""

from __future__ import annotations

from inhouse.deploy import kserve
from inhouse.deploy.mesh import of_namespace
from inhouse.deploy.security import enforced
from inhouse.deploy.site import Site

HEAD = "<!-- Made by `inhouse render` from inhouse.yaml: change that file, not this one. -->\n"


KEY = "export INHOUSE_API_KEY=$(openssl rand -hex 32)"
"""How the first key is made."""


def steps(site: Site) -> str:
    """A page in Markdown."""
    deploy = site.stack.deploy
    rows = [HEAD, f"# {site.name} on Kubernetes", ""]
    required = needs(site)
    if required:
        rows += ["The cluster needs, beside Kubernetes 1.34 or newer:", "", *(f"- {one}" for one in required), ""]
    if not deploy.own_namespace:
        rows += of_a_namespace(site)
    if deploy.secrets.store == "none":
        rows += [
            f"The Secret `{site.secret}` is made by hand, once; its values stay out of files and of this repository:",
            "",
            "```sh",
            KEY,
            *(["kubectl apply -f base/namespace.yaml"] if deploy.own_namespace else []),
            f"kubectl -n {site.namespace} create secret generic {site.secret} \\",
            *(f'  --from-literal={name}="${name}" \\' for name in site.secrets[:-1]),
            f'  --from-literal={site.secrets[-1]}="${site.secrets[-1]}"',
            "```",
            "",
            "`INHOUSE_API_KEY` is the first key: keep it. Gated weights of the Hugging Face hub need `HF_TOKEN` in",
            "the Secret too.",
            "",
        ]
    else:
        rows += [f"The vault holds these secrets, from which the Secret `{site.secret}` is made:", ""]
        rows += [*(f"- {name}" for name in site.secrets), ""]
    if deploy.gitops.kind == "none":
        rows += ["Then:", "", "```sh", "kubectl apply -k overlays/prod", "```", ""]
    else:
        rows += [
            f"Push this folder to {deploy.gitops.repository}, then once:",
            "",
            "```sh",
            f"kubectl apply -f gitops/{deploy.gitops.kind}.yaml",
            "```",
            "",
        ]
    rows += [
        "Watch it start, and ask:",
        "",
        "```sh",
        f"kubectl -n {site.namespace} rollout status deployment/{site.name}",
        f"kubectl -n {site.namespace} port-forward service/{site.name} 8080:80 &",
        'curl -s http://127.0.0.1:8080/v1/models -H "Authorization: Bearer $INHOUSE_API_KEY"',
        "```",
        "",
    ]
    return "\n".join(rows)


def of_a_namespace(site: Site) -> list[str]:
    """What a namespace that is somebody else's must have for the pods to be as safe in it, and in their mesh."""
    mesh = of_namespace(site)
    told = " ".join(f"{key}={value}" for key, value in (enforced() | mesh["labels"]).items())
    notes = " ".join(f"{key}={value}" for key, value in mesh["annotations"].items())
    return [
        f"The namespace `{site.namespace}` is there already and stays when the installation goes. It must have these",
        "labels, or be held to them otherwise; all pods of this tree are within them:",
        "",
        "```sh",
        f"kubectl label namespace {site.namespace} {told}",
        *([f"kubectl annotate namespace {site.namespace} {notes}"] if notes else []),
        "```",
        "",
    ]


def needs(site: Site) -> list[str]:
    """What must be in the cluster before the objects are."""
    deploy = site.stack.deploy
    found = []
    specs = [lane.spec.deploy for lane in site.lanes]
    if deploy.network_policies:
        found.append("a network that enforces NetworkPolicy")
    if site.target != "kubernetes" and site.reached:
        mode = "Knative" if site.target == "knative" else "Standard"
        found.append(f"KServe 0.16 or newer, in the mode `{mode}`" + (" with LLMInferenceService" if site.llm else ""))
    if site.target == "knative":
        found.append(f"Knative with these on in `config-features`: {', '.join(kserve.flags(site))}")
    if any(spec.volume == "shared" and not spec.weights_image for spec in specs):
        found.append("a StorageClass that gives ReadWriteMany volumes")
    if any(spec.nodes > 1 for spec in specs):
        found.append("LeaderWorkerSet")
    if any(spec.device_class for spec in specs):
        found.append("a DRA driver for its GPUs")
    if deploy.traffic.kind == "gateway-api":
        found.append(f"an implementation of Gateway API, with the GatewayClass `{deploy.traffic.gateway_class}`")
    if deploy.traffic.inference_pool:
        found.append("the Gateway API Inference Extension")
    issuers = [deploy.traffic.issuer, deploy.mesh.issuer if site.certified else None]
    named = " and ".join(f"`{one}`" for one in dict.fromkeys(issuers) if one)
    if named or site.certified:
        found.append("cert-manager" + (f", with the ClusterIssuer {named}" if named else ""))
    if deploy.secrets.store != "none":
        found.append("the External Secrets operator")
    if any(spec.scaling.by == "keda" for spec in specs):
        found.append("KEDA 2.18 or newer")
    if any(spec.scaling.by == "hpa" for spec in specs):
        found.append("a metrics adapter that serves `inhouse_requests` (the scalers say what it is)")
    if deploy.state.postgres == "cloudnative-pg":
        found.append("CloudNativePG")
    if deploy.observe.metrics == "monitors":
        found.append("the Prometheus operator")
    if deploy.mesh.mtls in ("istio", "linkerd"):
        found.append({"istio": "Istio", "linkerd": "Linkerd"}[deploy.mesh.mtls])
    return found
