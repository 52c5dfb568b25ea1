"""The JSON Schema of `inhouse.yaml` (draft 2020-12) for editors: sizes and durations may be text, as in the file."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from inhouse.config.catalog import sections, settings
from inhouse.config.fields import MODEL_NAME_PATTERN
from inhouse.config.keys import KEY_ID_PATTERN
from inhouse.config.stack import Stack
from inhouse.config.tenants import TENANT_NAME_PATTERN

EXAMPLES = {
    "size": ["8 MiB", "512 KiB", "1 GB"],
    "duration": ["30 s", "500 ms", "2 min", "1 h"],
    "percent": ["10%", "2.5%"],
}


def schema() -> dict[str, Any]:
    """The schema, made anew; the caller may change it."""
    tree = Stack.model_json_schema()
    parts = {**tree["$defs"], "Stack": tree}
    for setting in settings():
        if setting.kind in EXAMPLES:
            properties = parts[sections()[setting.path[:-1]].__name__]["properties"]
            properties[setting.path[-1]] |= {
                "default": setting.render(setting.default),
                "examples": EXAMPLES[setting.kind],
            }
    for part in parts.values():
        part.pop("title", None)
    spec = {"$ref": "#/$defs/ModelSpec"}
    # what is started here is the one engine that comes along, what runs already may be any
    started = {"required": ["source"], "properties": {"engine": {"const": "llamacpp"}}}
    tree["properties"]["models"] |= {
        "propertyNames": {"pattern": MODEL_NAME_PATTERN},
        "properties": {"demo": spec},  # a model called demo needs no source
        "additionalProperties": {"allOf": [spec, {"anyOf": [started, {"required": ["endpoints"]}]}]},
    }
    tree["properties"]["tenants"] |= {"propertyNames": {"pattern": TENANT_NAME_PATTERN}}
    tree["properties"]["routes"] |= {"propertyNames": {"pattern": MODEL_NAME_PATTERN}}
    tree["properties"]["keys"] |= {"propertyNames": {"pattern": KEY_ID_PATTERN}}
    return {"$schema": GenerateJsonSchema.schema_dialect, "title": "inhouse.yaml", **tree}
