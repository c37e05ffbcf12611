"""A small JSON Schema checker for the keywords that our schemas use; it fails on any other keyword."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

NOTES = {"$schema", "$id", "$defs", "title", "description", "default", "examples", "format"}
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}


def violations(
    value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None, at: str = "$"
) -> list[str]:
    """Where and why a JSON value does not fit a schema (RFC: JSON Schema 2020-12, validation vocabulary)."""
    root = schema if root is None else root
    return [f"{at}: {each}" if each[0] != "$" else each for each in _check(value, schema, root, at)]


def _check(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    for keyword, wanted in schema.items():
        if keyword in NOTES:
            continue
        if keyword == "$ref":
            yield from violations(value, resolve(wanted, root), root, at)
        elif keyword == "anyOf":
            if all(violations(value, option, root, at) for option in wanted):
                yield f"{value!r} fits none of anyOf"
        elif keyword == "type":
            fits = isinstance(value, TYPES[wanted]) and (wanted == "boolean" or not isinstance(value, bool))
            if not fits:
                yield f"{value!r} is no {wanted}"
        elif keyword == "enum":
            if value not in wanted:
                yield f"{value!r} is not in {wanted}"
        elif keyword in BY_TYPE:
            kind, check = BY_TYPE[keyword]
            if isinstance(value, kind) and not isinstance(value, bool):
                yield from check(value, wanted, schema, root, at)
        else:
            raise NotImplementedError(keyword)


def resolve(reference: str, root: dict[str, Any]) -> dict[str, Any]:
    """What '#/a/b' points to.

    Raises:
        KeyError: it points to nothing.
    """
    found: Any = root
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def _properties(value: Any, wanted: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    del schema
    for name in value.keys() & wanted.keys():
        yield from violations(value[name], wanted[name], root, f"{at}.{name}")


def _required(value: Any, wanted: Any, *_: Any) -> Iterator[str]:
    yield from (f"{name} is missing" for name in wanted if name not in value)


def _additional(value: Any, wanted: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    for name in value.keys() - schema.get("properties", {}).keys():
        if wanted is False:
            yield f"{name} is unknown"
        else:
            yield from violations(value[name], wanted, root, f"{at}.{name}")


def _items(value: Any, wanted: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    first = len(schema.get("prefixItems", ()))
    for i, item in enumerate(value[first:], first):
        if wanted is False:
            yield f"{at}[{i}] is one too many"
        else:
            yield from violations(item, wanted, root, f"{at}[{i}]")


def _prefix(value: Any, wanted: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    del schema
    for i, (item, each) in enumerate(zip(value, wanted, strict=False)):
        yield from violations(item, each, root, f"{at}[{i}]")


def _limit(fits: Any) -> Any:
    def check(value: Any, wanted: Any, *_: Any) -> Iterator[str]:
        if not fits(value, wanted):
            yield f"{value!r} against {wanted!r}"

    return check


BY_TYPE: dict[str, tuple[Any, Any]] = {
    "properties": (dict, _properties),
    "required": (dict, _required),
    "additionalProperties": (dict, _additional),
    "items": (list, _items),
    "prefixItems": (list, _prefix),
    "minItems": (list, _limit(lambda value, n: len(value) >= n)),
    "maxItems": (list, _limit(lambda value, n: len(value) <= n)),
    "maxLength": (str, _limit(lambda value, n: len(value) <= n)),
    "pattern": (str, _limit(lambda value, pattern: re.search(pattern, value))),
    "minimum": ((int, float), _limit(lambda value, n: value >= n)),
    "exclusiveMinimum": ((int, float), _limit(lambda value, n: value > n)),
    "exclusiveMaximum": ((int, float), _limit(lambda value, n: value < n)),
    "maximum": ((int, float), _limit(lambda value, n: value <= n)),
}
