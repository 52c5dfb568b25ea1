"""A folder as published on the hub → what the model in it is: safetensors with `config.json`, or one GGUF model."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec

from inhouse.errors import WeightsError
from inhouse.weights import config_model, gguf, gguf_model, safetensors, splits
from inhouse.weights.choose import choose_gguf
from inhouse.weights.config_model import Beside
from inhouse.weights.folders import Folder
from inhouse.weights.header import Header, Tensor
from inhouse.weights.tally import Tally
from inhouse.weights.text import printable

SHARDS_MAX = 1_000
SHARDS_AT_ONCE = 4
CONFIG_BYTES_MAX = 2 * 2**20
TOKENIZER_BYTES_MAX = 16 * 2**20
TEMPLATE_BYTES_MAX = 2**20

_SHARD = re.compile(r"(.*-)(\d{5,6})-of-(\d{5,6})\.safetensors")
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---", re.DOTALL)


class _Tokenizer(msgspec.Struct):
    tokenizer_class: Any = None
    chat_template: Any = None


def describe(folder: Folder, quant: str | None = None) -> Header:
    """Of several GGUF files that of the quantisation, or the one that would be fetched. Raises `WeightsError`."""
    safetensors = "config.json" in folder.files and any(name.endswith(".safetensors") for name in folder.files)
    if safetensors and quant is None:
        return safetensors_model(folder)
    return gguf_file(folder, choose_gguf(folder.label, list(folder.files), quant)[0])


def gguf_file(folder: Folder, name: str) -> Header:
    """A GGUF model of the folder; if it is split, whichever part is named."""
    parts = splits.parts(name)
    if missing := next((part for part in parts if part not in folder.files), None):
        raise WeightsError(f"{folder.label} has no file '{missing}'", hint=_there(folder))
    headers, tally = [], Tally()
    for part in parts:
        with folder.open(part) as stream:
            label = f"{part} of {folder.label}"
            headers.append(gguf.read_header(stream, folder.files[part], label=label, tally=tally))
    return gguf_model.describe(headers, [folder.files[part] for part in parts], label=f"{name} of {folder.label}")


def safetensors_model(folder: Folder) -> Header:
    config = folder.json("config.json", CONFIG_BYTES_MAX, dict[str, Any])
    if config is None:
        raise WeightsError(
            f"{folder.label} has no config.json of up to {CONFIG_BYTES_MAX} bytes",
            hint="safetensors alone do not say what a model is; its config.json must lie beside them",
        )
    shards, tally = shard_names(folder), Tally()
    with ThreadPoolExecutor(SHARDS_AT_ONCE) as pool:
        tensors: list[Tensor] = []
        ahead: deque[Future[tuple[Tensor, ...]]] = deque()
        for name in shards:
            ahead.append(pool.submit(_read, folder, name, tally))
            if len(ahead) == 2 * SHARDS_AT_ONCE:  # no further: after one that is refused, no other is asked for
                tensors += ahead.popleft().result()
        for shard in ahead:
            tensors += shard.result()
    sizes = [folder.files[name] for name in shards]
    return config_model.describe(config, tensors, _beside(folder), files=len(shards), file_bytes=sum(sizes))


def shard_names(folder: Folder) -> Sequence[str]:
    """The files of the model: one whole set of shards, or a single file. Raises `WeightsError`.

    Copies in another layout that some repositories have beside them (`consolidated.safetensors`, `original/`) are no
    part of it.
    """
    sets: dict[tuple[str, int], list[str]] = defaultdict(list)
    for name in folder.files:
        if "/" not in name and (match := _SHARD.fullmatch(name)):
            sets[match[1], int(match[3])].append(name)
    if "model.safetensors" in folder.files:
        return ["model.safetensors"]
    for (start, count), names in sorted(sets.items(), key=lambda item: not item[0][0].startswith("model")):
        if not 1 <= count <= SHARDS_MAX or len(names) != count:
            raise WeightsError(
                f"{folder.label} has {len(names)} of the {count} files {start}….safetensors",
                hint=f"the others are missing; a model may have up to {SHARDS_MAX}",
            )
        return sorted(names)
    others = [name for name in folder.files if "/" not in name and name.endswith(".safetensors")]
    if len(others) != 1:
        raise WeightsError(f"it is not clear which files of {folder.label} are the model", hint=_there(folder))
    return others


def shards_of(name: str) -> tuple[str, ...]:
    """The names of all shards, whichever is given; of a single file, its own."""
    match = _SHARD.fullmatch(name)
    if match is None or not 1 <= int(match[2]) <= int(match[3]) <= SHARDS_MAX:
        return (name,)
    count, digits = int(match[3]), len(match[2])
    return tuple(f"{match[1]}{at:0{digits}}-of-{match[3]}.safetensors" for at in range(1, count + 1))


def _read(folder: Folder, name: str, tally: Tally) -> tuple[Tensor, ...]:
    with folder.open(name) as stream:
        return safetensors.read_shard(stream, folder.files[name], label=f"{name} of {folder.label}", tally=tally)


def _beside(folder: Folder) -> Beside:
    tokenizer = folder.json("tokenizer_config.json", TOKENIZER_BYTES_MAX, _Tokenizer) or _Tokenizer()
    pooling = folder.json("1_Pooling/config.json", CONFIG_BYTES_MAX, dict[str, Any])
    template = folder.text("chat_template.jinja", TEMPLATE_BYTES_MAX)
    licence, licence_url = _licence(folder)
    return Beside(
        name=printable(folder.name, 200),
        tokenizer={"tokenizer_class": tokenizer.tokenizer_class, "chat_template": tokenizer.chat_template},
        chat_template=template.decode(errors="replace") if template else None,
        pooling=pooling or {},
        licence=licence,
        licence_url=licence_url,
    )


def _licence(folder: Folder) -> tuple[str | None, str | None]:
    """What the model's card says at its beginning: a name, and where it can be read."""
    raw = folder.text("README.md", 2**20)
    match = _FRONT_MATTER.match((raw or b"")[: 2**16].decode(errors="replace"))
    said: dict[str, str] = {}
    for line in match[1].splitlines() if match else ():
        key, found, value = line.partition(":")
        if found and key in ("license", "license_name", "license_link"):
            said.setdefault(key, printable(value.strip().strip("'\""), 200))
    name = said.get("license")
    if name == "other":
        name = said.get("license_name") or name
    return name or None, said.get("license_link") or None


def _there(folder: Folder) -> str:
    names = [name for name in folder.files if name.endswith((".gguf", ".safetensors"))]
    return "there is: " + (", ".join(sorted(names)[:12]) or "no model file at all")
