"""Canonical JSON: one text for one value, so that equal data are equal bytes in every run."""

from __future__ import annotations

import json
import math
from typing import Any, cast

import msgspec
import numpy as np

SIGNIFICANT_DIGITS = 6


def canonical_json(value: Any) -> bytes:
    """A value as canonical JSON in UTF-8: sorted keys, no spaces, floats to 6 digits, null for NaN.

    Six digits are more than a sensor has, and fewer than the bits in which two right programs may differ.

    Args:
        value: Structs, mappings, sequences, texts, numbers (NumPy's too), booleans, None.

    Raises:
        TypeError: something else is inside.
    """
    text = json.dumps(
        _plain(msgspec.to_builtins(value, str_keys=True, enc_hook=_builtin)),
        ensure_ascii=False,
        allow_nan=False,
        sort_keys=True,
        separators=(",", ":"),
    )
    return text.encode()


def significant(value: float) -> float | None:
    """A float to 6 significant digits; None where it is not finite, and 0.0 for -0.0."""
    if not math.isfinite(value):
        return None
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}") + 0.0


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return significant(value)
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {_encodable(name): _plain(member) for name, member in items}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in cast("list[Any]", value)]
    return value


def _encodable(text: str) -> str:
    """The text without lone surrogates, which have no form in UTF-8."""
    return text.encode(errors="replace").decode()


def _builtin(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, int):  # Duration and Instant are integers with a text form of their own
        return int(value)
    raise TypeError(
        f"canonical JSON: expected text, numbers, mappings or sequences, got {type(value).__name__}"
    )
