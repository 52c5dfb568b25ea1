"""The Terraform module: formatted, documented, and fit for what is rendered. Its own tests run where providers are."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

from inhouse.config import Stack
from inhouse.deploy.site import Site
from inhouse.deploy.tree import tree
from rendered import objects

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "terraform" / "oci-vault-key"
FILES = sorted(path for end in ("*.tf", "*.hcl") for path in (ROOT / "terraform").rglob(end))
FORMAT = """
const {format} = require(process.argv[1]);
const fs = require("fs");
(async () => {
  for (const file of process.argv.slice(2)) {
    const text = fs.readFileSync(file, "utf8");
    if ((await format(text)) !== text) console.log(file);
  }
})();
"""


def parsed(name: str) -> dict[str, Any]:
    with (MODULE / name).open(encoding="utf-8") as file:
        found: dict[str, Any] = hcl2.load(file)
    return found


def blocks(name: str, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Blocks of a kind by their label."""
    for block in parsed(name)[kind]:
        for label, inside in block.items():
            if label.startswith('"'):
                yield label.strip('"'), inside


def test_files_are_as_terraform_would_format_them() -> None:
    """By the formatter of the language itself; `terraform fmt` is asked too where there is a Terraform."""
    program = ROOT / "build/tools/hcl/node_modules/@cdktf/hcl-tools"
    if not program.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("the formatter is not there; .ci/tools brings it")
    done = subprocess.run(["node", "-e", FORMAT, program, *FILES], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    terraform = shutil.which("terraform")
    if terraform is not None:
        told = subprocess.run([terraform, f"-chdir={ROOT}", "fmt", "-check", "-recursive", "terraform"],
                              capture_output=True, text=True)  # fmt: skip
        assert told.returncode == 0, told.stdout


def test_every_input_and_output_says_what_it_is() -> None:
    """A description for each; a type for inputs; those that are easily mistaken are checked."""
    inputs = dict(blocks("variables.tf", "variable"))
    for name, block in inputs.items():
        assert block["description"].strip('"').endswith("."), name
        assert block["type"], name
    assert {name for name, block in inputs.items() if "validation" not in block} == {"api_key", "freeform_tags"}
    assert all(block["description"] for _, block in blocks("outputs.tf", "output"))
    readme = (MODULE / "README.md").read_text()
    assert {name for name in [*inputs, *dict(blocks("outputs.tf", "output"))] if f"`{name}`" not in readme} == set()


def test_a_key_is_told_to_nobody() -> None:
    """It is sensitive, in no output, and in no validation: one that fails would print it."""
    inputs = dict(blocks("variables.tf", "variable"))
    assert [name for name, block in inputs.items() if block.get("sensitive")] == ["api_key"]
    assert inputs["api_key"]["default"] in (None, "null")
    assert "var.api_key" not in json.dumps(inputs)
    assert "api_key" not in re.sub(r"oci_vault_secret\.api_key\.", "", json.dumps(dict(blocks("outputs.tf", "output"))))


def test_the_secret_is_the_one_that_the_cluster_asks_for() -> None:
    """The output goes into inhouse.yaml as it is; what is rendered of it asks the vault for the module's secret."""
    (local,) = parsed("main.tf")["locals"]
    told = dict(blocks("outputs.tf", "output"))["inhouse_yaml"]["value"]
    (inside,) = re.findall(r"secrets = \{(.*?)\}", told)
    pairs = dict(pair.split(" = ") for pair in inside.split(", "))
    values = {
        "var.vault_id": "ocid1.vault.oc1.eu-frankfurt-1.b",
        "var.region": "eu-frankfurt-1",
        "var.prefix": "team-a-",
    }
    secrets = {name: values.get(value, value.strip('"')) for name, value in pairs.items()}
    name = local["secret_name"].strip('"').replace("${var.prefix}", values["var.prefix"])

    here = Site(
        Stack(
            models={"chat": {"source": "hf://org/repo/m.gguf"}},  # type: ignore[dict-item]
            deploy={"gateway": {"replicas": 1}, "secrets": secrets},  # type: ignore[arg-type]
        )
    )
    made = {one["kind"]: one for one in objects(tree(here))}
    (read,) = made["ExternalSecret"]["spec"]["data"]
    assert read == {"secretKey": "INHOUSE_API_KEY", "remoteRef": {"key": name}}
    oracle = made["SecretStore"]["spec"]["provider"]["oracle"]
    assert (oracle["vault"], oracle["region"]) == (values["var.vault_id"], values["var.region"])


def test_the_prefix_is_the_same_where_nobody_names_one() -> None:
    """The module's default is that of the stack."""
    default = dict(blocks("variables.tf", "variable"))["prefix"]["default"].strip('"')
    assert default == Stack(models={}).deploy.secrets.prefix


def test_its_own_tests_ask_for_the_same_name() -> None:
    """What `terraform test` holds the module to is what a cluster with no prefix of its own asks for."""
    here = Site(
        Stack(
            models={"chat": {"source": "hf://org/repo/m.gguf"}},  # type: ignore[dict-item]
            deploy={"gateway": {"replicas": 1}, "secrets": {"store": "oci", "vault": "v", "region": "r"}},  # type: ignore[arg-type]
        )
    )
    (read,) = next(one for one in objects(tree(here)) if one["kind"] == "ExternalSecret")["spec"]["data"]
    assert f'output.secret_name == "{read["remoteRef"]["key"]}"' in (MODULE / "tests" / "key.tftest.hcl").read_text()


def test_the_page_shows_what_is_rendered() -> None:
    """docs/terraform.md has the lines of inhouse.yaml and the object that they become."""
    page = (ROOT / "docs" / "terraform.md").read_text()
    stack, external = (yaml.safe_load(text) for text in re.findall(r"```ya?ml\n(.*?)```", page, re.DOTALL))
    here = Site(Stack(models={"chat": {"source": "hf://org/repo/m.gguf"}}, **stack))  # type: ignore[dict-item]
    (made,) = (one for one in objects(tree(here)) if one["kind"] == "ExternalSecret")
    assert external["spec"] == {key: made["spec"][key] for key in external["spec"]}
