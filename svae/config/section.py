"""The JSON schema of a section of config.yaml, made from the dataclass that declares its settings.

See `svae.settings.fields.setting` for how they are declared.
"""

import dataclasses
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

TYPES = {
    int: "integer",
    float: "number",
    bool: "boolean",
    str: "string",
    types.NoneType: "null",
}


def section_schema(cls: type, description: str) -> dict[str, Any]:
    """The schema of a mapping with one key for each setting of the dataclass `cls`, and no other.

    Fields with `resolved` in their metadata are no settings: svae.config.resolve computes them.

    The mapping may be omitted unless one of its settings is required. TypeError for a field that
    was not declared by `setting`, or whose type has no counterpart in JSON.
    """
    hints = get_type_hints(cls, include_extras=True)
    fields = [each for each in dataclasses.fields(cls) if not each.metadata.get("resolved")]
    required = [field.name for field in fields if field.default is dataclasses.MISSING]
    return {
        "description": description,
        "type": "object",
        "additionalProperties": False,
        **({"required": required} if required else {"default": {}}),
        "properties": {field.name: setting_schema(field, hints[field.name]) for field in fields},
    }


def setting_schema(field: dataclasses.Field, hint: Any) -> dict[str, Any]:
    """The schema of one setting; `hint` is the annotation of its field."""
    if "description" not in field.metadata:
        raise TypeError(f"field {field.name} is not declared by setting(...)")
    try:
        schema = _schema(hint, field.metadata)
    except TypeError as error:
        raise TypeError(f"field {field.name}: {error}") from None
    schema = {"description": field.metadata["description"], **schema, **field.metadata["also"]}
    if field.default is not dataclasses.MISSING:
        default = field.default
        schema["default"] = list(default) if isinstance(default, tuple) else default
    return schema


def _schema(hint: Any, metadata: Any) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(argument, metadata) for argument in arguments]}
    if origin is Annotated:
        return {"description": arguments[1], **_schema(arguments[0], metadata)}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple and arguments[1:] == (...,):
        return {"type": "array", "items": _schema(arguments[0], metadata)}
    if hint is str and metadata["choices"]:
        return {"enum": list(metadata["choices"])}
    if hint in (int, float):
        return {"type": TYPES[hint], **metadata["bounds"]}
    if hint in TYPES:
        return {"type": TYPES[hint]}
    raise TypeError(f"{hint} has no counterpart in JSON")
