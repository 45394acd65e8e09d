"""The JSON schema of option files, for editors that complete and check YAML while one writes.

In VS Code (YAML extension): `# yaml-language-server: $schema=../schema.json` as the first line of an option file.
"""

from typing import Any

from hriusr.options.foreign import IGNORED, RENAMED
from hriusr.options.schema import Options


def option_file_schema() -> dict[str, Any]:
    """Return the schema: what a file may hold, also by itself, without its bases.

    No key is required in it, since a file may inherit every key by `base:`; any may be unset (`~`); keys of BasicSR and
    HAT that are read as others or ignored are there, as deprecated.
    """
    schema = Options.model_json_schema()
    _drop_required(schema)
    for pattern, reason in IGNORED.items():
        *section, key = pattern.split(".")
        _properties_at(schema, section)[key] = {"description": f"Ignored: {reason}.", "deprecated": True}
    for pattern, new_key in RENAMED.items():
        *section, key = pattern.split(".")
        properties = _properties_at(schema, section)
        old_key = {"description": f"Old name of {new_key}.", "deprecated": True}
        properties[key] = {**properties[new_key], **old_key}
    for section in (schema, *schema["$defs"].values()):
        for field in section["properties"].values():
            for mapping in (field, *field.get("anyOf", ())):
                if isinstance(mapping.get("additionalProperties"), dict):
                    _let_unset(mapping["additionalProperties"])
            _let_unset(field)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _properties_at(schema: dict[str, Any], section: list[str]) -> dict[str, Any]:
    """Return the keys of a section; * stands for every entry of a mapping."""
    node = schema
    for name in section:
        node = node["additionalProperties"] if name == "*" else node["properties"][name]
        node = next((choice for choice in node.get("anyOf", ()) if "$ref" in choice), node)
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node["properties"]


def _let_unset(field: dict[str, Any]) -> None:
    """Let a field be null, in place."""
    kinds = {key: field[key] for key in field.keys() - {"title", "description", "default", "deprecated"}}
    if kinds and {"type": "null"} not in kinds.get("anyOf", ()):
        for key in kinds:
            del field[key]
        field["anyOf"] = [kinds, {"type": "null"}]


def _drop_required(node: Any) -> None:
    if isinstance(node, dict):
        if isinstance(node.get("required"), list):
            del node["required"]
        for item in node.values():
            _drop_required(item)
    elif isinstance(node, list):
        for item in node:
            _drop_required(item)
