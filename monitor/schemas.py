"""The published schemas, generated from the code's own types: JSON Schema of every record and AsyncAPI 3.

``python -m monitor.schemas`` writes them into the checkout; a test fails when the files there are older than
the types.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Union, cast

import msgspec
from msgspec import Struct

from monitor.alerting.alert_data import (
    AlertEvent,
    AnswerEvent,
    DecisionEvent,
    RecentringEvent,
    ThresholdEvent,
)
from monitor.control import Command
from monitor.input_data import Columns, DeadLetterHeaders, Frame, Reading
from monitor.quantities import Duration, Instant
from monitor.settings import Settings

DIALECT = "https://json-schema.org/draft/2020-12/schema"
CONFIGURATION = "config/nuwatch.schema.json"
FOLDER = "docs/schemas"

Schema = dict[str, Any]

_REFS = "#/$defs/{name}"
_DURATION = typing.Annotated[
    str,
    msgspec.Meta(
        title="Duration",
        description="A duration: a number with ns, us, ms, s, min, h, d or w, or several of them.",
        pattern=r"^\s*(\d+(\.\d+)?\s*(ns|us|ms|s|min|m|h|d|w)\s*)+$",
        examples=["500ms", "10s", "1h30min"],
    ),
]
_INSTANT = typing.Annotated[
    str,
    msgspec.Meta(
        title="Instant",
        description="An ISO 8601 time with an offset from UTC.",
        examples=["2026-11-22T01:13:56Z"],
        extra_json_schema={"format": "date-time"},
    ),
]
_ENTRY = re.compile(r"^    (?P<name>\w+): (?P<text>.+(?:\n {5,}.+)*)", re.MULTILINE)
_ATTRIBUTES = re.compile(r"\n\s*Attributes:\n(?P<entries>.*)\Z", re.DOTALL)


def documents() -> dict[str, Schema]:
    """Every published schema by its path in the checkout."""
    return {
        f"{FOLDER}/alert.v1.json": _schema("alert.v1.json", "An alert of nuwatch", AlertEvent),
        f"{FOLDER}/threshold.v1.json": _schema(
            "threshold.v1.json", "A threshold version of nuwatch", ThresholdEvent
        ),
        f"{FOLDER}/decision.v1.json": _schema(
            "decision.v1.json", "A decision that nuwatch wants or refused", DecisionEvent
        ),
        f"{FOLDER}/recentring.v1.json": _schema(
            "recentring.v1.json", "Centres of sensors that nuwatch has moved", RecentringEvent
        ),
        f"{FOLDER}/answer.v1.json": _schema("answer.v1.json", "What became of a command", AnswerEvent),
        f"{FOLDER}/control.v1.json": _schema("control.v1.json", "A command for nuwatch", Command),
        f"{FOLDER}/dead-letter.v1.json": _schema(
            "dead-letter.v1.json", "Headers of a dead letter of nuwatch", DeadLetterHeaders
        ),
        f"{FOLDER}/input.v1.json": _schema(
            "input.v1.json", "A message that nuwatch reads", Frame, Reading, Columns
        ),
        f"{FOLDER}/asyncapi.json": asyncapi(),
        CONFIGURATION: settings_schema(),
    }


def settings_schema() -> Schema:
    """JSON Schema of the configuration file, for editors."""
    from models.registry import built_in_names  # here, because it brings JAX, which no other schema needs

    schema = _schema("nuwatch.schema.json", "Configuration of nuwatch", _plain_struct(Settings))
    options = {name: _scorer_options(name) for name in built_in_names()}
    schema["$defs"] |= {f"scorer_{name}": each for name, each in options.items()}
    known = {name: {"$ref": _REFS.format(name=f"scorer_{name}")} for name in options}
    by_name = [
        *schema["$defs"]["Scoring"]["properties"]["scorers"]["anyOf"],
        schema["$defs"]["Auto"]["properties"]["candidates"],
    ]
    for members in by_name:
        if members.get("type") == "object":
            members["properties"] = known
    return schema


def _scorer_options(name: str) -> Schema:
    """What may be set of a built-in scorer, with ranges and meanings."""
    from models.registry import get_scorer

    spec = get_scorer(name).spec
    texts = texts_of(spec)
    _, components = msgspec.json.schema_components((spec,), ref_template=_REFS)
    (schema,) = components.values()
    properties = {
        key: members | ({"description": texts[key]} if key in texts else {})
        for key, members in schema["properties"].items()
    }
    return {"title": name, "type": "object", "additionalProperties": False, "properties": properties}


def asyncapi() -> Schema:
    """AsyncAPI 3 document of the channels; their addresses are the default topics."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "nuwatch",
            "version": "1",
            "description": "Reads sensor records of process plants and commands of persons, publishes alerts, "
            "threshold versions, answers and dead letters. Consumers read committed.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "sensors": _channel(
                "sensors", "Sensor records of the plant", ("frame", "reading", "columns", "arrow")
            ),
            "control": _channel("nuwatch-control", "Commands, in one partition", ("command",)),
            "alerts": _channel("nuwatch-alerts", "Events of incidents", ("alert",)),
            "thresholds": _channel(
                "nuwatch-thresholds",
                "Versions of thresholds, decisions about them, centres of sensors that moved, answers to commands",
                ("threshold", "decision", "recentring", "answer"),
            ),
            "deadLetters": _channel(
                "nuwatch-dead-letters", "Records that were not accepted", ("deadLetter",)
            ),
        },
        "operations": {
            "readSensors": _operation("receive", "sensors"),
            "readCommands": _operation("receive", "control"),
            "publishAlerts": _operation("send", "alerts"),
            "publishThresholds": _operation("send", "thresholds"),
            "publishDeadLetters": _operation("send", "deadLetters"),
        },
        "components": {
            "messages": {
                "frame": _message("All readings of one asset at one time", "input.v1.json#/$defs/Frame"),
                "reading": _message("One reading of one sensor", "input.v1.json#/$defs/Reading"),
                "columns": _message("Many rows as columns", "input.v1.json#/$defs/Columns"),
                "arrow": {
                    "summary": "Many rows as an Arrow IPC stream with the columns asset, ts and the sensors",
                    "contentType": "application/vnd.apache.arrow.stream",
                },
                "alert": _message("An event of an incident", "alert.v1.json", "application/cloudevents+json"),
                "threshold": _message(
                    "A version of a threshold", "threshold.v1.json", "application/cloudevents+json"
                ),
                "decision": _message(
                    "A decision that is wanted or was refused",
                    "decision.v1.json",
                    "application/cloudevents+json",
                ),
                "recentring": _message(
                    "Centres of sensors that have moved",
                    "recentring.v1.json",
                    "application/cloudevents+json",
                ),
                "answer": _message(
                    "What became of a command", "answer.v1.json", "application/cloudevents+json"
                ),
                "command": _message("A decision or a configuration", "control.v1.json"),
                "deadLetter": {
                    "summary": "The original key, value and headers, and why it was not accepted",
                    "contentType": "application/octet-stream",
                    "headers": {"$ref": "./dead-letter.v1.json"},
                },
            }
        },
    }


def render(document: Schema) -> str:
    """A document as the text of its file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write(root: Path) -> list[Path]:
    """Write every document below the checkout ``root``; returns the files."""
    written: list[Path] = []
    for name, document in documents().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(document), encoding="utf-8")
        written.append(path)
    return written


def _channel(address: str, description: str, messages: tuple[str, ...]) -> Schema:
    return {
        "address": address,
        "description": f"{description}, keyed by asset; the topic's name is configurable.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def _operation(action: str, channel: str) -> Schema:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}


def _message(summary: str, schema: str, content_type: str = "application/json") -> Schema:
    return {
        "summary": summary,
        "contentType": content_type,
        "payload": {"$ref": f"./{schema}"},
        "bindings": {
            "kafka": {"key": {"type": "string", "description": "the asset"}, "bindingVersion": "0.5.0"}
        },
    }


def _schema(name: str, title: str, *kinds: Any) -> Schema:
    """JSON Schema of one type, or of a value that fits any one of several."""
    references, components = msgspec.json.schema_components(kinds, ref_template=_REFS)
    described = {each.__name__: each for kind in kinds for each in _structs(kind)}
    for component, schema in components.items():
        if component in described:
            _describe(schema, described[component])
    root = references[0] if len(references) == 1 else {"anyOf": list(references)}
    return {"$schema": DIALECT, "$id": name, "title": title, **root, "$defs": components}


def _describe(schema: Schema, kind: type[Struct]) -> None:
    """Put a docstring's first part at the object, and the attributes' texts, inherited ones too, below."""
    schema["description"] = _one_line(_ATTRIBUTES.split(kind.__doc__ or "")[0])
    texts = texts_of(kind)
    for field in msgspec.structs.fields(kind):
        if field.name in texts:
            members = schema["properties"][field.encode_name]
            schema["properties"][field.encode_name] = members | {"description": texts[field.name]}


def texts_of(kind: type[Any]) -> Mapping[str, str]:
    """What the docstrings of a type and its bases say of its fields."""
    return {
        name: text
        for base in reversed(kind.__mro__)
        for name, text in attribute_texts(base.__doc__ or "").items()
    }


def attribute_texts(docstring: str) -> Mapping[str, str]:
    """The Attributes section of a Google-style docstring: text by name."""
    section = _ATTRIBUTES.search(docstring)
    if section is None:
        return {}
    lines = section["entries"].splitlines()
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    entries = "\n".join("    " + line[indent:] for line in lines if line.strip())
    return {match["name"]: _one_line(match["text"]) for match in _ENTRY.finditer(entries)}


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _structs(kind: Any) -> Iterator[type[Struct]]:
    """The Struct types that a type is made of."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield kind
        for hint in typing.get_type_hints(kind).values():
            yield from _structs(hint)
    for argument in typing.get_args(kind):
        yield from _structs(argument)


@cache
def _plain_struct(kind: type[Struct]) -> type[Struct]:
    """The type as it is written in YAML: durations and instants are texts, their defaults too."""
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = [
        (field.name, _plain_type(hints[field.name]), *_plain_default(field))
        for field in msgspec.structs.fields(kind)
    ]
    strict = kind.__struct_config__.forbid_unknown_fields
    plain = msgspec.defstruct(kind.__name__, cast("Any", fields), kw_only=True, forbid_unknown_fields=strict)
    plain.__doc__ = kind.__doc__
    return plain


def _plain_type(kind: Any) -> Any:
    if kind in (Duration, Instant):
        return _DURATION if kind is Duration else _INSTANT
    if isinstance(kind, type) and issubclass(kind, Struct):
        return _plain_struct(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is None or origin is typing.Literal:
        return kind
    plain = tuple(_plain_type(argument) for argument in arguments)
    return Union[plain] if origin in (Union, types.UnionType) else origin[plain]  # noqa: UP007 - built at run time


def _plain_default(field: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    if field.default_factory is not msgspec.NODEFAULT:
        return (msgspec.field(default_factory=field.default_factory),)
    return () if field.default is msgspec.NODEFAULT else (_plain_value(field.default),)


def _plain_value(value: Any) -> Any:
    if isinstance(value, Duration | Instant):
        return str(value)
    if isinstance(value, tuple):
        return tuple(_plain_value(each) for each in cast("tuple[Any, ...]", value))
    return value


if __name__ == "__main__":
    for path in write(Path(__file__).resolve().parent.parent):
        print(path)
