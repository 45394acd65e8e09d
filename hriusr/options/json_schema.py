"""The JSON schema of option files, for editors that complete and check YAML while one writes.

In VS Code (YAML extension): `# yaml-language-server: $schema=../schema.json` as the first line of an option file.
"""

from typing import Any

from hriusr.options.schema import Options


def option_file_schema() -> dict[str, Any]:
    """Return the schema; no key is required in it, since a file may inherit every key by `base:`."""
    schema = Options.model_json_schema()
    _drop_required(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _drop_required(node: Any) -> None:
    if isinstance(node, dict):
        if isinstance(node.get("required"), list):
            del node["required"]
        for item in node.values():
            _drop_required(item)
    elif isinstance(node, list):
        for item in node:
            _drop_required(item)
