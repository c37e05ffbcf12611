"""HTML that cannot be injected into: plain text is escaped, and only `Markup` goes through as it is."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable
from typing import Any

_VOID = frozenset({"meta", "br", "hr", "line", "rect", "path", "circle"})


class Markup(str):
    """Text that is HTML already; everything else is escaped where it enters."""

    __slots__ = ()


def escape(text: object) -> Markup:
    """Any text as HTML, safe in elements and in attributes; `Markup` is left as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(str(text), quote=True))


def join(parts: Iterable[object]) -> Markup:
    """Parts one after the other, each escaped unless it is `Markup`; None is nothing."""
    return Markup("".join(escape(part) for part in parts if part is not None))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element; ``class_`` is class, other underscores become hyphens, an attribute of None is left out."""
    written = "".join(
        f' {_attribute(key)}="{escape(_text(v))}"' for key, v in attributes.items() if v is not None
    )
    if name in _VOID and not children:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def data_block(identity: str, data: Any) -> Markup:
    """A JSON block for the page's script; cannot end its element early, whatever text it holds."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(f'<script type="application/json" id="{escape(identity)}">{text}</script>')


def number(value: float | None, digits: int = 3) -> str:
    """A figure for people: that many significant digits, an em dash where there is none."""
    if value is None or not math.isfinite(value):
        return "\u2014"
    magnitude = abs(value)
    if magnitude != 0 and not 1e-4 <= magnitude < 1e7:
        return f"{value:.{digits - 1}e}"
    decimals = digits - 1 - (math.floor(math.log10(magnitude)) if magnitude else 0)
    return f"{value:,.{max(0, min(decimals, 6))}f}"


def whole(count: int | None) -> str:
    """A count for people, an em dash where there is none."""
    return "\u2014" if count is None else f"{count:,}"


def percent(value: float | None) -> str:
    """A share as per cent, an em dash where there is none."""
    if value is None:
        return "\u2014"
    return f"{number(100 * value)}\u00a0%" if value else "0\u00a0%"


def duration(seconds: float | None) -> str:
    """Seconds for people, in two units at most."""
    if seconds is None:
        return "\u2014"
    if seconds < 60:
        return f"{seconds:.3g}\u00a0s"
    rounded = round(seconds)
    for size, name, small, small_name in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if rounded >= size:
            rest = rounded % size // small
            return f"{rounded // size}\u00a0{name}" + (f" {rest}\u00a0{small_name}" if rest else "")
    return f"{rounded}\u00a0s"


def _attribute(name: str) -> str:
    return "class" if name == "class_" else name if name in _CAMEL else name.replace("_", "-")


_CAMEL = frozenset({"viewBox", "preserveAspectRatio"})


def _text(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
