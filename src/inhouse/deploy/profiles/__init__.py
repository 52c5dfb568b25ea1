"""The first `inhouse.yaml`, for five sizes of installation: a table of profiles, and a commented file for each."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import resources
from string import Template

HOST = "llm.example.com"
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./@-]*(?::[A-Za-z0-9_./@-]+)*")
_GEMMA = "hf://ggml-org/gemma-3-1b-it-GGUF/gemma-3-1b-it-Q4_K_M.gguf"


@dataclass(frozen=True, slots=True)
class Profile:
    """One size of installation."""

    sentence: str
    model: str
    """The source that it begins with."""
    host: bool = False
    """Whether clients call it by a name of its own."""
    cluster: bool = True
    """Whether it is rendered and applied; else it is served here."""


PROFILES: dict[str, Profile] = {
    "laptop": Profile("this machine, for one person", "gemma-3-1b", cluster=False),
    "free-tier": Profile("a cluster's one small ARM64 node, without a GPU", _GEMMA),
    "gpu-team": Profile("a cluster's one GPU, for a small team", "hf://Qwen/Qwen3-8B", host=True),
    "gpu-cluster": Profile("several GPUs, pods that come and go with the load", "hf://Qwen/Qwen3-8B", host=True),
    "enterprise": Profile("tenants, an issuer of tokens, a vault, a canary, GitOps", "hf://Qwen/Qwen3-8B", host=True),
}
"""From small to large."""


def text(name: str, *, model: str | None = None, host: str | None = None) -> str:
    """The file of a profile; what is not given is as the profile has it."""
    written = resources.files(__name__).joinpath(f"{name}.yaml").read_text("utf-8")
    return Template(written).substitute(model=_scalar(model or PROFILES[name].model), host=_scalar(host or HOST))


def _scalar(value: str) -> str:
    """Quoted wherever YAML could take it for something else than text."""
    return value if _PLAIN.fullmatch(value) else json.dumps(value)
