"""Windows as each scorer sees them, in two dimensions and in several colourings, as a section of the training's page.

Points of one style are one path, so that thousands of them stay a small page. Colour is never alone: names differ in
shape too, windows over the limit are crosses, and below each picture stands what is in it, as figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.evaluation.labels import HELD_OUT, WORDS, Label
from monitor.quantities import iso_time
from monitor.report.markup import Markup, join, percent, tag
from monitor.report.scales import Linear, padded

if TYPE_CHECKING:  # training imports JAX, which a page needs not
    from monitor.training.embedding import Embedding
    from monitor.training.layout import Layout

_SIZE = 280
_HEADING = 18
_SHADES = 6
_NAMES = 6
"""Names with a style of their own at most; where there are more, the rarest share the last."""
_RATIOS = (0.0, 0.5, 1.0, 2.0)
_RATIO_NAMES = ("below the median", "to half the limit", "to the limit", "to twice the limit", "beyond")
_CALM = {HELD_OUT: 0, WORDS[Label.NORMAL]: 5, WORDS[Label.UNKNOWN]: 4}
"""Styles of labels that are no fault; faults take the others."""
_OUTSIDE = 0.01
"""Share of the points at either end that may lie outside a picture, where they lie far off."""
_FAR = 3.0

_DOT, _SQUARE, _TRIANGLE, _CROSS, _PLUS, _DIAMOND = (
    "h0",
    "m-2.2-2.2h4.4v4.4h-4.4z",
    "m0-3.4l3 5.2h-6z",
    "m-2.2-2.2l4.4 4.4m0-4.4l-4.4 4.4",
    "m-2.8 0h5.6m-2.8-2.8v5.6",
    "m0-3.4l2.6 3.4l-2.6 3.4l-2.6-3.4z",
)
_NAME_SHAPES = (_DOT, _SQUARE, _TRIANGLE, _CROSS, _DIAMOND, _PLUS)

_HOW = (
    "What each scorer makes of a window before it judges it, its features, laid out in two dimensions. Principal "
    "components show the two directions in which the features differ most, true to scale, save that windows very far "
    "off stand at the edge; what lies in all the other directions is not seen. t-SNE puts windows beside each other "
    "that are neighbours among the features; distances between groups, their size and density mean nothing in it, and "
    "chance alone makes groups.",
    "The figures beside the names are not of the pictures: they say how many of a window's 10 nearest among all the "
    "features are of its own kind, and how many would be by chance. A time, recipe or asset well above chance is a "
    "normal of its own to the scorer. A fault near chance is not told from normal by where its windows lie; what the "
    "score makes of the same features may still tell it.",
)


class _Colouring(NamedTuple):
    """What points are coloured by.

    Attributes:
        title: of it.
        style: [n] number of each point's style.
        names: of the styles, in the order in which they are drawn.
        classes: of the styles, in CSS.
        shapes: of the styles.
        ends: for a scale from the first style to the last: what stands at either end.
    """

    title: str
    style: NDArray[np.int64]
    names: Sequence[str]
    classes: Sequence[str]
    shapes: Sequence[str]
    ends: tuple[str, str] | None = None


def embedding_section(embedding: Embedding | None) -> Markup:
    """The section; nothing where nobody asked, or there are too few windows."""
    if embedding is None:
        return Markup("")
    colourings = _colourings(embedding)
    return join(
        (
            tag("h2", "A look inside"),
            *(tag("p", text, class_="muted") for text in (*_HOW, _shown(embedding))),
            *(_scorer(layout, colourings) for layout in embedding.layouts),
        )
    )


def _shown(embedding: Embedding) -> str:
    held, beside = embedding.held_out, len(embedding.end) - embedding.held_out
    text = f"Shown are {held:,} of {embedding.of[0]:,} held-out windows of the history, evenly spaced"
    if not beside:
        return f"{text}."
    more = f"{beside:,} of {embedding.of[1]:,} windows of the recordings beside it, which taught nothing"
    halves = "; where there are both, half of these are of labelled faults, however short those are"
    return f"{text}, and {more}{halves if _faults(embedding) else ''}."


def _faults(embedding: Embedding) -> bool:
    return bool(set(embedding.label) - {*_CALM, ""})


def _scorer(layout: Layout, colourings: Sequence[_Colouring]) -> Markup:
    what = "features of its own" if layout.own else "sensors' contributions: it has no features of its own"
    held = f"the two principal components hold {percent(layout.explained)} of their variance"
    return join(
        (
            tag("h3", layout.scorer),
            tag("p", f"{layout.features} {what}; {held}.", class_="muted"),
            tag("div", *(_figure(layout, colouring) for colouring in colourings), class_="looks"),
        )
    )


def _colourings(embedding: Embedding) -> list[_Colouring]:
    found = [_by_time(embedding.end), _by_ratio(embedding.ratio)]
    for title, names in (
        ("label", embedding.label),
        ("recipe", embedding.recipe),
        ("phase", embedding.phase),
        ("asset", embedding.asset),
    ):
        if len(set(names)) > 1:
            found.append(_by_name(title, names))
    return found


def _by_time(end: NDArray[np.int64]) -> _Colouring:
    first, last = int(end.min()), int(end.max())
    shade = np.minimum((end - first) * _SHADES // max(last - first, 1), _SHADES - 1).astype(np.int64)
    names = tuple(f"sixth {number + 1}" for number in range(_SHADES))
    classes = tuple(f"shade-{number}" for number in range(_SHADES))
    return _Colouring("time", shade, names, classes, (_DOT,) * _SHADES, (_minute(first), _minute(last)))


def _minute(time: int) -> str:
    return iso_time(time)[:16].replace("T", " ")


def _by_ratio(ratio: NDArray[np.float64]) -> _Colouring:
    style = np.searchsorted(_RATIOS, ratio, side="left").astype(np.int64)
    classes = tuple(f"ratio-{number}" for number in range(len(_RATIO_NAMES)))
    return _Colouring("ratio", style, _RATIO_NAMES, classes, (_DOT, _DOT, _DOT, _CROSS, _CROSS))


def _by_name(title: str, names: Sequence[str]) -> _Colouring:
    """Calm ones first, so that faults are drawn over them; else the most frequent first."""
    calm = [name for name in _CALM if name in names]
    others = sorted({*names} - {*calm}, key=lambda name: (-names.count(name), name))
    ordered = [*calm, *others]
    free = [number for number in range(_NAMES) if number not in {_CALM[name] for name in calm}]
    palette = [*(_CALM[name] for name in calm), *free]
    own = {name: min(place, _NAMES - 1) for place, name in enumerate(ordered)}
    shown = [name or "none" for name in ordered[:_NAMES]]
    if len(ordered) > _NAMES:
        shown[-1] = f"{len(ordered) - _NAMES + 1} others"
    style = np.array([own[name] for name in names], np.int64)
    classes = [f"name-{palette[place]}" for place in range(len(shown))]
    return _Colouring(title, style, shown, classes, [_NAME_SHAPES[palette[p]] for p in range(len(shown))])


def _figure(layout: Layout, colouring: _Colouring) -> Markup:
    count = np.bincount(colouring.style, minlength=len(colouring.names)).tolist()
    text = ", ".join(f"{n:,} {name}" for name, n in zip(colouring.names, count, strict=True) if n)
    return tag(
        "figure",
        tag("figcaption", f"by {colouring.title}"),
        _picture("Principal components", layout.components, colouring, text),
        _picture("t-SNE", layout.neighbours, colouring, text),
        _legend(colouring, count, layout.nearest),
    )


def kinship(nearest: NDArray[np.int64], own: NDArray[np.bool_]) -> tuple[float, float]:
    """Of the nearest [n, K] of a kind's windows, the share that is of it, and that by chance; own [n]: are of it."""
    count = int(np.count_nonzero(own))
    return float(np.mean(own[nearest[own]])), (count - 1) / max(len(own) - 1, 1)


def _legend(colouring: _Colouring, count: Sequence[int], nearest: NDArray[np.int64]) -> Markup:
    if colouring.ends is not None:
        scale = [_swatch(colouring, place) for place in range(len(count))]
        alike = [kinship(nearest, colouring.style == k) for k, n in enumerate(count) if n]
        own, chance = np.average(alike, axis=0, weights=[n for n in count if n]).tolist()
        first, last = colouring.ends
        return tag(
            "div",
            tag("span", tag("span", *scale, class_="scale"), tag("b", _figures(own, chance))),
            tag("span", first, " to"),
            tag("span", last),
            class_="legend-row",
        )
    entries = [
        tag(
            "span",
            tag("span", _swatch(colouring, place), f"{name} ({count[place]:,})"),
            tag("b", _figures(*kinship(nearest, colouring.style == place))),
        )
        for place, name in enumerate(colouring.names)
        if count[place]
    ]
    return tag("div", *entries, class_="legend-row")


def _figures(own: float, chance: float) -> str:
    return f"{100 * own:.0f} % / {100 * chance:.0f} %"


def _picture(name: str, points: NDArray[np.float64], colouring: _Colouring, text: str) -> Markup:
    across, up = _placed(points[:, 0], (0, _SIZE)), _placed(points[:, 1], (_SIZE, _HEADING))
    paths = [
        tag(
            "path", class_=_style(colouring, style), d=_marks(across[mine], up[mine], colouring.shapes[style])
        )
        for style in map(int, np.unique(colouring.style))
        for mine in [colouring.style == style]
    ]
    frame = tag("rect", class_="frame", x=0.5, y=0.5, width=_SIZE - 1, height=_SIZE - 1)
    title = tag("text", name, class_="tick", x=6, y=14)
    described = f"{name} by {colouring.title}: {text}"
    size = f"0 0 {_SIZE} {_SIZE}"
    return tag(
        "svg", frame, *paths, title, class_="chart look", viewBox=size, role="img", aria_label=described
    )


def _placed(values: NDArray[np.float64], pixels: tuple[int, int]) -> NDArray[np.float64]:
    """Pixels of values; a few that lie very far off stand at the edge, so that the others can be told apart."""
    low, high = np.quantile(values, [_OUTSIDE, 1.0 - _OUTSIDE])
    width = float(high - low)
    low, high = max(float(values.min()), low - _FAR * width), min(float(values.max()), high + _FAR * width)
    return Linear(*padded(low, high), *pixels)(np.clip(values, low, high))


def _style(colouring: _Colouring, style: int) -> str:
    solid = " solid" if colouring.shapes[style].endswith("z") else ""
    dot = " dot-mark" if colouring.shapes[style] == _DOT else ""
    return f"point{dot}{solid} {colouring.classes[style]}"


def _marks(across: NDArray[np.float64], up: NDArray[np.float64], shape: str) -> str:
    return "".join(f"M{x:.1f} {y:.1f}{shape}" for x, y in zip(across, up, strict=True))


def _swatch(colouring: _Colouring, style: int) -> Markup:
    shape = tag("path", class_=_style(colouring, style), d=f"M6 6{colouring.shapes[style]}")
    return tag("svg", shape, width=12, height=12, class_="swatch")
