"""The frame of every page: one file and no other resource, in light and dark, readable without its script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files

from monitor.report.markup import Markup, join, tag


def page(title: str, *body: object) -> str:
    """A complete HTML document; its policy lets the browser load nothing, and run no other script."""
    style, script = _resource("page.css"), _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}"/>'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        Markup(f"<style>{style}</style>"),
    )
    content = tag("body", *body, Markup(f"<script>{script}</script>"))
    return f'<!doctype html>\n<html lang="en">{head}{content}</html>\n'


def facts(pairs: Mapping[str, str]) -> Markup:
    """Names and values, one below the other."""
    return tag(
        "dl", join(join((tag("dt", name), tag("dd", value))) for name, value in pairs.items()), class_="facts"
    )


def tiles(pairs: Iterable[tuple[str, str]]) -> Markup:
    """The few figures that are read first: (what, figure)."""
    return tag(
        "div",
        *(tag("div", tag("b", figure), tag("span", what), class_="tile") for what, figure in pairs),
        class_="tiles",
    )


def notes(texts: Iterable[str]) -> Markup:
    """What a reader must know before believing the figures."""
    return join(tag("p", text, class_="note") for text in texts)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], totals: int = 0) -> Markup:
    """A table; a column whose name ends in '>' is of numbers, in '<' of long text; ``totals`` rows are bold."""
    styles = [{">": "n", "<": "wide"}.get(name[-1:]) for name in columns]
    names = [name.rstrip("<>") for name in columns]
    head = tag(
        "tr", *(tag("th", n, class_=s if s == "n" else None) for n, s in zip(names, styles, strict=True))
    )
    body = [
        tag(
            "tr",
            *(tag("td", cell, class_=style) for cell, style in zip(row, styles, strict=True)),
            class_="total" if k < totals else None,
        )
        for k, row in enumerate(rows)
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll")


def _resource(name: str) -> str:
    return files("monitor.report").joinpath(name).read_text("utf-8")
