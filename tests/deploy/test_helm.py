"""The chart: the same objects as the tree, refused where a value is wrong, and as Helm wants it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import inhouse.deploy.helm.chart
from charted import Objects, by_name, run, template, without_helm
from inhouse.config import Stack
from inhouse.deploy.helm.chart import chart
from inhouse.deploy.inventory import Inventory, templates
from inhouse.deploy.lint import lint
from inhouse.deploy.site import Site
from inhouse.deploy.tree import File, expected, tree
from inhouse.deploy.write import diff, write
from rendered import HERE, objects, site
from serving import serving

CHARTS = sorted(path.name for path in (HERE / "golden" / "helm").iterdir())
CUSTOM = {"Certificate", "Cluster", "ExternalSecret", "Gateway", "HTTPRoute", "InferencePool", "InferenceService"} | {
    *("LeaderWorkerSet", "LLMInferenceService", "PeerAuthentication", "PodMonitor", "ScaledObject", "SecretStore"),
}


def of_tree(files: tuple[File, ...]) -> Objects:
    """The tree's objects; a namespace is no part of a release, and lies beside the chart."""
    found = {f"{one['kind']}/{one['metadata']['name']}": one for one in objects(files)}
    return {name: one for name, one in found.items() if one["kind"] != "Namespace"}


def written(here: Site, folder: Path) -> Path:
    write(chart(here), folder)
    return folder


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_as_on_file(name: str) -> None:
    """Else, once the difference is wanted: make golden"""
    folder = HERE / "golden" / "helm" / name
    kept = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert {file.path: file.text for file in chart(site(name))} == kept


def test_a_chart_gives_the_tree_again(stack: str, files: tuple[File, ...], helm: str, tmp_path: Path) -> None:
    """With its default values, object for object; and the namespace lies beside it. Helm's own checks are content."""
    here = site(stack)
    folder = written(here, tmp_path)
    made = without_helm(template(helm, folder, name=here.name, space=here.namespace))
    assert made == of_tree(files)
    space = [one for one in objects(files) if one["kind"] == "Namespace"]
    beside = folder / "namespace.yaml"
    assert (list(yaml.safe_load_all(beside.read_text())) if beside.exists() else []) == space
    told = run(helm, "lint", "--strict", folder)
    assert told.returncode == 0, told.stdout
    assert not [row for row in told.stdout.splitlines() if row.startswith(("[WARNING]", "[ERROR]"))]
    assert {one["kind"] for one in made.values()} & CUSTOM == {one["kind"] for one in objects(files)} & CUSTOM


@pytest.mark.parametrize("name", ["enterprise", "kserve", "knative", "gpu-cluster"])
def test_values_of_a_trial_give_the_overlay_of_a_trial(name: str, helm: str, kubectl: str, tmp_path: Path) -> None:
    """values-dev.yaml and overlays/dev are the same installation."""
    here = site(name)
    folder = written(here, tmp_path / "chart")
    write(tree(here), tmp_path / "tree")
    done = subprocess.run([kubectl, "kustomize", str(tmp_path / "tree/overlays/dev")], capture_output=True, text=True)
    want = {key: one for key, one in by_name(done.stdout).items() if one["kind"] != "Namespace"}
    assert without_helm(template(helm, folder, "--values", folder / "values-dev.yaml")) == want


def test_the_same_stack_makes_the_same_chart(stack: str, tmp_path: Path) -> None:
    """The same bytes; a second writing changes nothing, and a tree that lay there before is cleared away."""
    here = site(stack)
    write(tree(here), tmp_path)
    first, gone = write(chart(here), tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in first} <= {file.path for file in chart(here)}
    assert {path.relative_to(tmp_path).parts[0] for path in gone} <= {"base", "overlays", "gitops"}
    assert write(chart(here), tmp_path) == ([], [])
    assert list(diff(chart(here), tmp_path)) == []


def test_text_that_looks_like_a_template_comes_out_as_it_is(helm: str, tmp_path: Path) -> None:
    """Chat templates, names and settings may hold anything: nothing of it is run."""
    odd = ["{{ .Values.config }}", "{{- end }}", "}}{{{{", "{{/* gone */}}", "`{{`", "${{ secrets.x }}", "{%- if x %}"]
    spec = {"source": "hf://org/repo", "engine": "vllm", "engine_args": ["--chat-template", *odd], "gpus": 1}
    placed = {"placement": {"regions": odd}}
    here = Site(Stack(models={"chat": spec | {"deploy": placed}}, deploy={"gateway": {"replicas": 1}}))  # type: ignore
    made = without_helm(template(helm, written(here, tmp_path)))
    assert made == of_tree(tree(here))
    (args,) = (
        container["args"]
        for one in made.values()
        for pod in templates(one)
        for container in pod["spec"]["containers"]
        if container["name"] == "engine"
    )
    assert [word for word in args if word in odd] == odd


def test_a_release_has_its_own_names(helm: str, tmp_path: Path) -> None:
    """Release and namespace are wherever the tree has those of the stack, in text inside of values too."""
    folder = written(site("enterprise"), tmp_path)
    one = site("enterprise").stack
    deploy = one.deploy.model_copy(update={"name": "other", "namespace": "elsewhere"})
    want = of_tree(tree(Site(one.model_copy(update={"deploy": deploy}))))
    assert without_helm(template(helm, folder, name="other", space="elsewhere")) == want


def test_addresses_of_its_own_services_follow_a_release(helm: str, tmp_path: Path) -> None:
    """Those that the stack spells out too; a name that only begins alike is somebody else's."""
    own, other = "http://inhouse-extra.inhouse.svc:8000", "http://my-inhouse.inhouse.svc:8000"
    here = Site(Stack(models={"chat": {"endpoints": [own, other]}}, deploy={"gateway": {"replicas": 1}}))  # type: ignore
    folder = written(here, tmp_path)
    assert without_helm(template(helm, folder)) == of_tree(tree(here))
    made = template(helm, folder, name="llm", space="ai")
    told = yaml.safe_load(made["ConfigMap/llm-config"]["data"]["inhouse.yaml"])
    assert told["models"]["chat"]["endpoints"] == ["http://llm-extra.ai.svc:8000", other]


def test_a_release_whose_name_is_too_long_is_refused(helm: str, tmp_path: Path) -> None:
    """A name of a Service has 63 characters at most, and those of models stand behind the release's."""
    folder = written(site("gpu-cluster"), tmp_path)
    longest = max(len(lane.name) - len("inhouse") for lane in site("gpu-cluster").lanes)
    fits = "r" * (63 - longest)
    assert max(len(name.partition("/")[2]) for name in template(helm, folder, name=fits) if "Service/" in name) == 63
    done = run(helm, "template", f"{fits}r", folder)
    assert done.returncode == 1
    assert f"may have {len(fits)} characters at most" in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("enterprise", "gateway.image.tag=2", ("image/tag", "want string")),
        ("enterprise", "gateway.replicaCount=2", ("replicaCount", "not allowed")),
        ("enterprise", "gateway.autoscaling.maxReplicas=0", ("maxReplicas", "minimum")),
        ("enterprise", "gateway.resources.limits.memory=lots", ("memory", "pattern")),
        ("enterprise", "gateway.image.digest=sha256:abc", ("digest", "pattern")),
        ("enterprise", "models.chat.tolerations[0].effect=Never", ("effect", "must be one of")),
        ("enterprise", "traffic.host=a b", ("host", "pattern")),
        ("enterprise", "monitors.enabled=perhaps", ("monitors/enabled", "want boolean")),
        ("enterprise", "secretName=Not_A_Name", ("secretName", "pattern")),
        ("sidecar", "gateway.replicas=2", ("gateway/replicas", "maximum")),
        ("sidecar", "models.gemma.source=hf://org/repo", ("source", "pattern")),
        ("sidecar", "config=", ("config", "minLength")),
        ("sidecar", "gateway=null", ("gateway", "missing")),
    ],
)
def test_a_wrong_value_is_refused(name: str, value: str, words: tuple[str, ...], helm: str, tmp_path: Path) -> None:
    """Before anything is sent, with the place and what was expected."""
    done = run(helm, "template", "inhouse", written(site(name), tmp_path), "--set", value)
    assert done.returncode == 1
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.parametrize("name", CHARTS)
def test_what_selects_never_changes(name: str, helm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version changes no selector and no claim of a set: a cluster would refuse the upgrade."""
    here = site(name)
    fixed = _fixed(template(helm, written(here, tmp_path / "one"), name=here.name))
    monkeypatch.setattr(inhouse.deploy.helm.chart, "__version__", "9.9.9+next")
    later = template(helm, written(here, tmp_path / "two"), name=here.name)
    assert _fixed(later) == fixed
    assert {one["metadata"]["labels"]["helm.sh/chart"] for one in later.values()} == {f"{here.name}-9.9.9_next"}


def _fixed(made: Objects) -> dict[str, Any]:
    """What a cluster lets nobody change, and the labels of pods, which selectors are compared with."""
    found: dict[str, Any] = {}
    for name, one in made.items():
        spec = one.get("spec", {})
        keys = ("selector", "volumeClaimTemplates", "serviceName", "podManagementPolicy", "clusterIP")
        found[name] = [{key: spec[key] for key in keys if key in spec}]
        found[name] += [pod.get("metadata", {}).get("labels") for pod in templates(one)]
    return found


def test_the_test_of_a_release_is_as_safe_as_its_pods(
    helm: str, tmp_path: Path, crd_errors: Callable[[dict[str, Any]], Iterator[str]]
) -> None:
    """Its pod passes the rules for all pods, reaches the gateway through the closed network, and is a hook."""
    here = site("gpu-cluster")
    folder = written(here, tmp_path)
    done = run(
        helm, "template", "inhouse", folder, "--namespace", "inhouse", "--show-only", "templates/tests/ready.yaml"
    )
    test = by_name(done.stdout)
    assert set(test) == {"Pod/inhouse-test", "NetworkPolicy/inhouse-test"}
    for one in test.values():
        kubernetes_validate.validate(one, "1.37", strict=True)
        assert one["metadata"]["annotations"]["helm.sh/hook"] == "test"
    all_ = [*objects(tree(here)), *test.values()]
    assert lint(Inventory(all_, expected(here))) == []
    pod, way = test["Pod/inhouse-test"], test["NetworkPolicy/inhouse-test"]
    assert way["spec"]["podSelector"]["matchLabels"] == {
        key: value
        for key, value in pod["metadata"]["labels"].items()
        if key in way["spec"]["podSelector"]["matchLabels"]
    }
    (rule,) = way["spec"]["egress"]
    gateway = next(one for one in all_ if one["kind"] == "Deployment" and one["metadata"]["name"] == "inhouse")
    assert rule["to"][0]["podSelector"]["matchLabels"] == gateway["spec"]["selector"]["matchLabels"]


def test_what_helm_says_afterwards_names_the_release(helm: str, tmp_path: Path) -> None:
    """The notes have commands that can be copied, with the names of release, namespace and Secret."""
    folder = written(site("sidecar"), tmp_path)
    done = run(helm, "install", "llm", folder, "--namespace", "ai", "--dry-run=client", "--set", "secretName=mine")
    notes = done.stdout.partition("NOTES:")[2]
    assert "helm --namespace=ai test llm" in notes
    assert "create secret generic mine" in notes
    assert '--from-literal=INHOUSE_API_KEY="$INHOUSE_API_KEY"' in notes


def test_what_holds_keys_stays_when_a_release_goes(helm: str, tmp_path: Path) -> None:
    """Helm leaves the volume of a single gateway and the database; weights can be fetched again."""
    for name, kept in (
        ("sidecar", {"PersistentVolumeClaim/inhouse-state"}),
        ("enterprise", {"Cluster/inhouse-postgres"}),
    ):
        made = template(helm, written(site(name), tmp_path / name))
        policies = {
            key: one["metadata"].get("annotations", {}).get("helm.sh/resource-policy") for key, one in made.items()
        }
        assert {key for key, policy in policies.items() if policy == "keep"} == kept


def test_custom_kinds_of_a_chart_have_no_unknown_field(
    crd_errors: Callable[[dict[str, Any]], Iterator[str]], tmp_path: Path
) -> None:
    """What applies the chart from a repository is checked against its schemas too."""
    (file,) = (file for file in chart(site("enterprise")) if file.path.startswith("gitops/"))
    applied = list(yaml.safe_load_all(file.text))
    assert [error for one in applied for error in crd_errors(one)] == []
    (one,) = (one for one in applied if one["kind"] == "Application")
    assert one["spec"]["source"]["helm"] == {"releaseName": "inhouse"}


def test_flux_has_a_release_in_place_of_a_kustomization() -> None:
    """From the same repository, under the release's own name."""
    one = site("enterprise").stack
    gitops = one.deploy.gitops.model_copy(update={"kind": "flux"})
    here = Site(one.model_copy(update={"deploy": one.deploy.model_copy(update={"gitops": gitops})}))
    (file,) = (file for file in chart(here) if file.path.startswith("gitops/"))
    source, release = yaml.safe_load_all(file.text)
    assert (source["kind"], release["kind"]) == ("GitRepository", "HelmRelease")
    assert release["spec"]["chart"]["spec"]["sourceRef"]["name"] == source["metadata"]["name"]
    assert release["spec"]["releaseName"] == "inhouse"


def test_the_test_of_a_release_asks_a_gateway(helm: str, tmp_path: Path) -> None:
    """What its pod runs ends well at a gateway that is ready, and says so; at a closed port it does not."""
    folder = written(site("sidecar"), tmp_path / "chart")
    made = run(helm, "template", "inhouse", folder, "--show-only", "templates/tests/ready.yaml")
    pod = by_name(made.stdout)["Pod/inhouse-test"]
    (container,) = pod["spec"]["containers"]
    *program, address = container["command"]
    assert address == "http://inhouse/health/ready"
    program[0] = sys.executable
    home = tmp_path / "home"
    home.mkdir()
    with serving(home) as door:
        done = subprocess.run([*program, f"{door.url}/health/ready"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ready" in done.stdout
    program[-1] = program[-1].replace("range(30, -1, -1)", "range(0, -1, -1)")  # as at its last try
    closed = subprocess.run([*program, f"{door.url}/health/ready"], capture_output=True, text=True)
    assert closed.returncode == 1
    assert "not ready" in closed.stderr
