"""From a YAML file to `Settings`: errors carry file, line, path, what was got and expected, and a hint."""

from __future__ import annotations

import difflib
import re
import typing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from monitor.errors import ConfigurationError
from monitor.quantities import Duration, Instant
from monitor.settings import Settings
from monitor.yaml_lines import Document, YamlError, load

_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`")
_PATH = re.compile(r" - at `(?:key in )?(?P<path>\$[^`]*)`$")


class Misfit(ConfigurationError):  # noqa: N818 - names what is wrong
    """A value does not fit the schema.

    Attributes:
        where: 'file:line'.
        steps: the path into the file.
        problem: what is wrong there, without the place.
    """

    def __init__(self, where: str, steps: tuple[str | int, ...], problem: str) -> None:
        super().__init__(f"{where}: {'.'.join(map(str, steps)) or 'the file'}: {problem}")
        self.where, self.steps, self.problem = where, steps, problem


class Configuration(NamedTuple):
    """Settings with where they came from; relative paths are relative to ``folder``."""

    settings: Settings
    path: Path
    document: Document
    text: str

    @property
    def folder(self) -> Path:
        """The folder of the configuration file."""
        return self.path.parent

    def bundle_path(self, asset_class: str) -> Path:
        """Folder of a class's bundle."""
        return self.folder / self.settings.asset_classes[asset_class].bundle

    def where(self, *path: str | int) -> str:
        """'file:line' of a path into the configuration."""
        return f"{self.path}:{self.document.line(path)}"


def read(path: Path) -> Configuration:
    """Read and type-check a configuration file.

    Raises:
        ConfigurationError: the file cannot be read, is no accepted YAML, or does not fit the schema.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot read the configuration: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: expected UTF-8 text") from None
    return parse(text, path)


def parse(text: str, path: Path) -> Configuration:
    """`read` for text that is already there; ``path`` names it in errors and anchors relative paths."""
    try:
        document = load(text)
    except YamlError as error:
        raise ConfigurationError(f"{path}:{error.line}: {error}") from None
    settings = convert(document.data, Settings, path, document)
    return Configuration(settings, path, document, text)


def convert(data: Any, kind: Any, path: Path, document: Document, prefix: tuple[str | int, ...] = ()) -> Any:
    """Plain data as ``kind``; ``prefix`` is where in the document the data stands.

    Raises:
        Misfit: the data does not fit; the first place that does not.
    """
    try:
        return msgspec.convert(data, kind, strict=True, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        raise _misfit(str(error), kind, path, document, prefix) from None


def decode_hook(kind: type[Any], value: Any) -> Any:
    """Read our own scalar types, as msgspec asks for them."""
    if kind in (Duration, Instant):
        if not isinstance(value, str):
            raise ValueError(f"expected text with a unit such as {_EXAMPLES[kind]!r}, got {value!r}")
        return kind.parse(value)
    raise NotImplementedError(kind)


_EXAMPLES: dict[type[Any], str] = {Duration: "10s", Instant: "2026-11-22T01:13:56Z"}


def _misfit(message: str, kind: Any, path: Path, document: Document, prefix: tuple[str | int, ...]) -> Misfit:
    found = _PATH.search(message)
    data = _at(document.data, prefix)
    steps = _steps(found["path"], kind, data) if found else ()
    body = _PATH.sub("", message)
    unknown = _UNKNOWN_FIELD.search(body)
    if unknown:
        steps = (*steps, unknown["field"])
        body = _did_you_mean(unknown["field"], _fields(_kind_at(kind, steps[:-1])))
    elif body.startswith("Invalid enum value"):
        choices = ", ".join(repr(c) for c in typing.get_args(_kind_at(kind, steps)))
        body = f"{body}; expected one of {choices}"
    full = (*prefix, *steps)
    return Misfit(f"{path}:{document.line(full)}", full, f"{body[:1].lower()}{body[1:]}")


def _at(data: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        data = data[step]
    return data


def _steps(text: str, kind: Any, data: Any) -> tuple[str | int, ...]:
    """The path in '$.a[...].b[1]'; '[...]' (some key of a mapping) becomes the first key that fails."""
    steps: list[str | int] = []
    for name, index in re.findall(r"\.([^.\[\]]+)|\[([^\]]*)\]", text):
        step: str | int = name or (int(index) if index.isdigit() else _failing_key(kind, data))
        steps.append(step)
        kind = _kind_at(kind, (step,))
        data = data[step] if not isinstance(data, dict) or step in data else None
    return tuple(steps)


def _failing_key(kind: Any, mapping: dict[str, Any]) -> str:
    value_kind = _kind_at(kind, ("",))
    for key, value in mapping.items():
        try:
            msgspec.convert(value, value_kind, strict=True, dec_hook=decode_hook)
        except msgspec.ValidationError:
            return key
    return next(iter(mapping), "")


def _kind_at(kind: Any, path: tuple[str | int, ...]) -> Any:
    """The declared type at a path below ``kind``."""
    for step in path:
        kind = _without_none(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            kind = typing.get_type_hints(kind).get(str(step), Any)
        else:
            arguments: tuple[Any, ...] = typing.get_args(kind)
            fixed = typing.get_origin(kind) is tuple and isinstance(step, int) and Ellipsis not in arguments
            kind = arguments[int(step)] if fixed else (_element(arguments) if arguments else Any)
    return _without_none(kind)


def _element(arguments: tuple[Any, ...]) -> Any:
    return [a for a in arguments if a is not Ellipsis][-1]


def _without_none(kind: Any) -> Any:
    options = [a for a in typing.get_args(kind) if a is not type(None)]
    is_optional = type(None) in typing.get_args(kind)
    return options[0] if is_optional and len(options) == 1 else kind


def _fields(kind: Any) -> list[str]:
    return (
        list(kind.__struct_encode_fields__)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
        else []
    )


def _did_you_mean(field: str, known: list[str]) -> str:
    close = difflib.get_close_matches(field, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
    return f"unknown key {field!r}; hint: {hint}"
