"""YAML by a safe loader that refuses duplicate keys and remembers the line of every node."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import yaml

Path = tuple[str | int, ...]

_CONTAINERS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_MOST_NODES = 100_000
_DEEPEST = 50
"""An alias may stand for much, or for itself: both bounds end what no person has written."""


class Document(NamedTuple):
    """Plain data, and the 1-based line of each path into it (a mapping's entry is at its key)."""

    data: Any
    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        """The line of a path, or of its nearest ancestor that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class YamlError(ValueError):
    """The text is no YAML that nuwatch accepts; carries the 1-based line."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def load(text: str) -> Document:
    """Parse one YAML document.

    Raises:
        YamlError: bad syntax, a duplicate or non-text key, or a tag beyond YAML's safe core.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        lines: dict[Path, int] = {}
        data = None if node is None else _build(loader, node, (), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(str(error.problem or error.context), mark.line + 1 if mark else 1) from None
    except yaml.YAMLError as error:
        raise YamlError(str(error), 1) from None
    return Document(data, lines)


def _build(loader: yaml.SafeLoader, node: yaml.Node, path: Path, lines: dict[Path, int]) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if len(path) > _DEEPEST or len(lines) > _MOST_NODES:
        raise YamlError(f"nested deeper than {_DEEPEST} levels or more than {_MOST_NODES} values", line)
    if isinstance(node, yaml.CollectionNode) and node.tag not in _CONTAINERS:
        raise YamlError(f"could not determine a constructor for the tag {node.tag!r}", line)
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, path, lines)
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, item, (*path, i), lines) for i, item in enumerate(node.value)]
    value = loader.construct_object(node)
    # YAML turns bare times into datetimes; settings take them as text, with one parser for all
    return node.value if node.tag == "tag:yaml.org,2002:timestamp" else value


def _mapping(
    loader: yaml.SafeLoader, node: yaml.MappingNode, path: Path, lines: dict[Path, int]
) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key: Hashable = loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise YamlError(f"expected a text key, got {key_node.value!r}; hint: put it in quotes", line)
        if key in built:
            raise YamlError(f"duplicate key {key!r}, first given on line {lines[*path, key]}", line)
        lines[*path, key] = line
        built[key] = _build(loader, value_node, (*path, key), lines)
    return built
