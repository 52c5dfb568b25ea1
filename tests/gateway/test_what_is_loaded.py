"""What the process of a running gateway has imported. Each module here costs up to some MiB for as long as it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ONLY_ON_DEMAND = {
    "rich": "tables and errors of commands",
    "jwt": "issuers of tokens",
    "cryptography": "issuers of tokens",
    "huggingface_hub": "hf:// sources",
    "httpx2": "hf:// sources",
    "xllamacpp": "the engine, a process of its own",
    "numpy": "nothing of ours",
    "click": "uvicorn's command line",
    "multiprocessing": "uvicorn's supervisors",
    "inhouse.weights.hub": "hf:// sources",
    "inhouse.engines.kubernetes": "endpoints of Kubernetes",
    "inhouse.wire.openapi": "who asks for /openapi.json",
    "inhouse.plan": "`inhouse plan`",
    "inhouse.fake.engine": "`inhouse fake-engine`",
    "inhouse.tenancy.issuer": "issuers of tokens",
    "inhouse.cli.client": "commands that ask a gateway",
    "inhouse.cli.keys": "another command",
}
"""Module → what alone may import it."""

REPORTER = """
import json, os, signal, sys
from inhouse.cli import announce
from inhouse.cli.main import run
from inhouse.core import GatewayReport

class Reporting(announce.Announcer):
    def __call__(self, what):
        super().__call__(what)
        if isinstance(what, GatewayReport) and what.state == "listening":
            print("modules " + json.dumps(sorted(sys.modules)), flush=True)
            os.kill(os.getpid(), signal.SIGINT)

announce.Announcer = Reporting
sys.argv = ["inhouse", "serve", "--config", sys.argv[1]]
run()
"""
STACKS = {
    "the demo model": "models: {demo: {source: demo, engine_binary: /bin/false}}",
    "endpoints": "models: {far: {engine: vllm, endpoints: ['http://127.0.0.1:9', 'http://127.0.0.1:10']}}",
    "everything on": """
models: {far: {engine: vllm, endpoints: ['http://127.0.0.1:9'], cache: {enabled: true}}}
tenants: {acme: {limits: {requests_per_minute: 10}}}
""",
}


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_a_gateway_without_the_settings_that_need_them(tmp_path: Path, stack: str) -> None:
    """It serves without what only other settings, commands and processes need."""
    loaded = loaded_by(tmp_path, stack)
    assert "inhouse.gateway.server" in loaded
    assert loaded & ONLY_ON_DEMAND.keys() == set()


def test_a_gateway_that_starts_no_engine(tmp_path: Path) -> None:
    """It knows nothing of weights, nor of how an engine is started with them."""
    loaded = loaded_by(tmp_path, STACKS["endpoints"])
    assert {"inhouse.weights.sources", "inhouse.weights.look", "inhouse.engines.replica"} & loaded == set()


def loaded_by(tmp_path: Path, stack: str) -> set[str]:
    file = tmp_path / "inhouse.yaml"
    file.write_text(f"gateway: {{port: 0}}\nstate_dir: {tmp_path / 'state'}\n{stack}\n")
    done = subprocess.run(
        [sys.executable, "-c", REPORTER, str(file)], capture_output=True, text=True, timeout=60, check=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("modules "))
    return set(json.loads(line.removeprefix("modules ")))
