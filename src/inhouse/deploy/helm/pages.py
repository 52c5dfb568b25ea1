"""What a chart has beside objects: what it is called, helpers, notes, and a page with the steps."""

from __future__ import annotations

from typing import Any

from inhouse.deploy import steps
from inhouse.deploy.site import Site

MADE = "Made by `inhouse render` from inhouse.yaml: change that file, not this one."
TEMPLATE_HEAD = f"{{{{- /* {MADE} */ -}}}}\n"
SCHEMA_HEAD = f'{{\n  "$comment": "{MADE}'
HEADS = (TEMPLATE_HEAD, SCHEMA_HEAD)
"""How files of ours begin that are no YAML and no page."""

TRIAL = "# A trial, one pod of each: helm install … --values values-dev.yaml\n"
IGNORED = "gitops/\nnamespace.yaml\nREADME.md\n.git/\n*.tgz\n"
HELPERS = (
    TEMPLATE_HEAD
    + """
{{- define "inhouse.chart" -}}
{{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "inhouse.image" -}}
{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "inhouse.secretName" -}}
{{ .Values.secretName | default (printf "%s-secrets" .Release.Name) }}
{{- end }}

{{- define "inhouse.config" -}}
{{ .text | replace "$(RELEASE_NAMESPACE)" .release.Namespace | replace "$(RELEASE_NAME)" .release.Name }}
{{- end }}
"""
)


_NAME_MAX = 63


def limit(beside: int) -> str:
    """What refuses a release whose name would make others too long; `beside`: characters that are theirs alone."""
    most = _NAME_MAX - beside
    told = f"the name of this release may have {most} characters at most: names of Services begin with it"
    return f'{{{{- if gt (len .Release.Name) {most} }}}}{{{{ fail "{told}" }}}}{{{{ end -}}}}\n'


def about(site: Site, version: str) -> dict[str, Any]:
    """Chart.yaml. The chart's own version is that of what made it; `helm package --version` gives it yours."""
    return {
        "apiVersion": "v2",
        "name": site.name,
        "description": "Language models behind an API that OpenAI's and Anthropic's clients speak",
        "type": "application",
        "version": version,
        "appVersion": version,
        "kubeVersion": ">=1.34.0-0",
    }


def notes(site: Site) -> str:
    """NOTES.txt: what Helm says after an installation."""
    name, space = "{{ .Release.Name }}", "{{ .Release.Namespace }}"
    rows = [
        TEMPLATE_HEAD + "{{ .Chart.Name }} {{ .Chart.AppVersion }} is being installed as " + f"{name} in {space}.",
        "",
    ]
    if site.stack.deploy.secrets.store == "none":
        rows += [
            'Its pods wait for the Secret {{ include "inhouse.secretName" . }}; if it is not there yet:',
            "",
            f'  kubectl --namespace={space} create secret generic {{{{ include "inhouse.secretName" . }}}} \\',
            *_literals(site, "    "),
            "",
        ]
    rows += [
        "Watch it start (the first time it fetches the weights), try it, and ask:",
        "",
        f"  kubectl --namespace={space} rollout status deployment/{name}",
        f"  helm --namespace={space} test {name}",
        f"  kubectl --namespace={space} port-forward service/{name} 8080:80 &",
        '  curl -s http://127.0.0.1:8080/v1/models -H "Authorization: Bearer $INHOUSE_API_KEY"',
        "",
    ]
    return "\n".join(rows)


def readme(site: Site) -> str:
    """README.md: from the folder to an answer, and back."""
    deploy, name, space = site.stack.deploy, site.name, site.namespace
    rows = [steps.HEAD, f"# {name}, a Helm chart", ""]
    needs = steps.needs(site)
    if needs:
        rows += ["The cluster needs, beside Kubernetes 1.34 or newer:", "", *(f"- {one}" for one in needs), ""]
    if not deploy.own_namespace:
        rows += steps.of_a_namespace(site)
    by_hand = deploy.secrets.store == "none"
    once = [f"kubectl apply -f namespace.yaml  # {space}, whose pods get few rights"] if deploy.own_namespace else []
    if by_hand:
        once += [
            steps.KEY,
            f"kubectl --namespace={space} create secret generic {site.secret} \\",
            *_literals(site, "  "),
        ]
    rows += ["Once:", "", "```sh", *once, "```", ""] if once else []
    if by_hand:
        rows += [
            "`INHOUSE_API_KEY` is the first key: keep it. Gated weights of the Hugging Face hub need `HF_TOKEN` in",
            "the Secret too.",
            "",
        ]
    else:
        rows += [f"The vault holds these secrets, from which the Secret `{site.secret}` is made:", ""]
        rows += [*(f"- {one}" for one in site.secrets), ""]
    rows += [
        "Then, with a file of your own, `mine.yaml`, for what differs from `values.yaml`; it may be empty:",
        "",
        "```sh",
        f"helm install {name} . --namespace={space} --values=mine.yaml   # --values=values-dev.yaml: one pod of each",
        f"helm test {name} --namespace={space}",
        f"helm upgrade {name} . --namespace={space} --values=mine.yaml   # after a change, or with a newer chart",
        f"helm rollback {name} --namespace={space}                       # back to the revision before",
        f"helm uninstall {name} --namespace={space}                      # leaves what holds keys, use and the audit",
        "```",
        "",
    ]
    if deploy.gitops.kind != "none":
        rows += [
            f"Or push this folder to {deploy.gitops.repository}, and once:",
            "",
            "```sh",
            f"kubectl apply -f gitops/{deploy.gitops.kind}.yaml",
            "```",
            "",
        ]
    return "\n".join(rows)


def _literals(site: Site, indent: str) -> list[str]:
    *others, last = (f'{indent}--from-literal={name}="${name}"' for name in site.secrets)
    return [*(f"{one} \\" for one in others), last]
