"""The JSON Schema (2020-12) of a queue document as a user writes it, for editors and other tools.

It is made from the models of ``pydantic_models``, and says all that a schema can say of one value.
What concerns several jobs (unique ids, existing dependencies, cycles), sizes in bytes and duplicate
keys is only checked by ``parser``. A test holds its fields against the parser's tables.
"""

from __future__ import annotations

import json
from typing import Any

_NAMES = {"BatchOptions": "batch", "InputPath": "input", "ResultPath": "result"}
"""What models are called in the schema, if not as they are with a small letter."""


def json_schema() -> dict[str, Any]:
    """The schema, made anew: the caller may change it."""
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    from runner.model.pydantic_models import Queue

    class DocumentSchema(GenerateJsonSchema):
        """Without null: what a model may hold None for is left out of a document."""

        def nullable_schema(self, schema: Any) -> dict[str, Any]:
            return self.generate_inner(schema["schema"])

        def default_schema(self, schema: Any) -> dict[str, Any]:
            default = schema["default"] if "default" in schema else schema["default_factory"]()
            inner = self.generate_inner(schema["schema"])
            return inner if default is None else {**inner, "default": default}

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    made = TypeAdapter(Queue).json_schema(schema_generator=DocumentSchema)
    text = json.dumps(made)
    for name in made["$defs"]:
        new = _NAMES.get(name, name[0].lower() + name[1:])
        text = text.replace(f'"{name}": {{', f'"{new}": {{').replace(
            f'/$defs/{name}"', f'/$defs/{new}"'
        )
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **_with_expressions(json.loads(text)),
        "title": "Queue document",
    }


def _with_expressions(schema: Any, name: str = "") -> Any:
    """The same, for strings as they are before ``${{…}}`` in them is replaced; ids hold none."""
    if isinstance(schema, list):
        return [_with_expressions(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _with_expressions(each, key) for key, each in schema.items()}
    if made.get("type") == "string" and "pattern" in made and name != "id":
        made["pattern"] += r"|\$\{\{"
    return made
