"""The JSON Schema agrees with the loader, and the reference page with the types."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from inhouse.config import load, schema
from inhouse.config.catalog import settings
from inhouse.config.reference import page
from inhouse.errors import StackError

ROOT = Path(__file__).parents[2]
ANNOTATIONS = {"$schema", "$defs", "title", "description", "default", "examples", "x-unit", "format"}


def accepts(value: Any, rule: dict[str, Any], root: dict[str, Any]) -> bool:
    """The part of draft 2020-12 that the schema uses; a keyword beyond it fails the test."""
    checks = {
        "$ref": lambda ref: accepts(value, root["$defs"][ref.rsplit("/", 1)[1]], root),
        "anyOf": lambda rules: any(accepts(value, rule, root) for rule in rules),
        "allOf": lambda rules: all(accepts(value, rule, root) for rule in rules),
        "type": lambda name: is_a(value, name),
        "enum": lambda values: value in values,
        "const": lambda only: value == only,
        "minimum": lambda bound: not is_a(value, "number") or value >= bound,
        "maximum": lambda bound: not is_a(value, "number") or value <= bound,
        "exclusiveMinimum": lambda bound: not is_a(value, "number") or value > bound,
        "maxLength": lambda bound: not isinstance(value, str) or len(value) <= bound,
        "minLength": lambda bound: not isinstance(value, str) or len(value) >= bound,
        "pattern": lambda pattern: not isinstance(value, str) or re.search(pattern, value) is not None,
        "items": lambda inner: not isinstance(value, list) or all(accepts(item, inner, root) for item in value),
        "required": lambda keys: not isinstance(value, dict) or set(keys) <= set(value),
        "propertyNames": lambda inner: not isinstance(value, dict) or all(accepts(key, inner, root) for key in value),
        "properties": lambda known: (
            not isinstance(value, dict) or all(accepts(value[key], known[key], root) for key in known if key in value)
        ),
        "additionalProperties": lambda inner: (
            not isinstance(value, dict)
            or all(
                inner is not False and accepts(value[key], inner, root)
                for key in value
                if key not in rule.get("properties", {})
            )
        ),
    }
    return all(checks[keyword](argument) for keyword, argument in rule.items() if keyword not in ANNOTATIONS)


def is_a(value: Any, name: str) -> bool:
    types: dict[str, type | tuple[type, ...]] = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
        "null": type(None),
    }
    return isinstance(value, types[name]) and (name == "boolean" or not isinstance(value, bool))


GOOD = [
    "{}",
    "models: {chat: {source: demo}}",
    "models: {demo: {slots: 2}}",
    "models: {chat: {source: ./m.gguf, load_wait: 30 s, idle_timeout: 1.5, threads: null, engine_args: [-x]}}",
    "gateway: {request_bytes_max: 8 MiB, headers_bytes_max: 65536, port: 0, keep_alive: 1 h 30 min}",
    "log: {level: debug}\nauth: {enabled: false}\nstate_dir: ./s",
    "models: {chat: {endpoints: ['http://h:1', 'unix:/e.sock', 'dns://n:80', 'k8s://a/b:http'], engine: vllm}}",
    "models: {chat: {endpoints: ['https://h/engines/a'], upstream_model: m, api_key: 'env:K', probe: {interval: 1 s}}}",
    "models: {demo: {endpoints: ['http://h:1']}}",
]
BAD = [
    "modles: {}",
    "models: {chat: {}}",
    "models: {a b: {source: demo}}",
    "models: {chat: {source: demo, slots: 0}}",
    "models: {chat: {source: demo, slots: true}}",
    "models: {chat: {source: demo, engine: openai}}",
    "models: {chat: {source: demo, engine_args: [1]}}",
    "gateway: {request_bytes_max: 8 M}",
    "gateway: {keep_alive: soon}",
    "gateway: {port: 70000}",
    "gateway: {host: ''}",
    "log: {level: warn}",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_the_schema_accepts_loads(text: str, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(text)
    assert accepts(yaml.safe_load(text), schema(), schema())
    load(tmp_path / "f.yaml", environ={}, flags={})


@pytest.mark.parametrize("text", BAD)
def test_what_the_schema_refuses_does_not_load(text: str, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(text)
    assert not accepts(yaml.safe_load(text), schema(), schema())
    with pytest.raises(StackError):
        load(tmp_path / "f.yaml", environ={}, flags={})


def test_the_schema_says_which_draft_it_is() -> None:
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("setting", settings(), ids=lambda setting: setting.dotted)
def test_every_setting_explains_itself(setting: Any) -> None:
    """One sentence each, and a unit where the value is a quantity."""
    assert re.fullmatch(r"[A-Z`].*\.", setting.sentence)
    assert setting.sentence.count(". ") == 0
    assert setting.unit or setting.kind not in ("size", "duration")
    assert setting.unit or setting.kind != "number" or setting.path[-1].endswith("port")


def test_the_reference_page_is_fresh() -> None:
    """Else: python -m inhouse.config.reference > docs/reference/config.md"""
    assert (ROOT / "docs/reference/config.md").read_text() == page()
