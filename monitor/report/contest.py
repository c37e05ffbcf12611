"""What `nuwatch models compare` found, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from monitor.report.markup import duration

if TYPE_CHECKING:  # training imports JAX, which a text needs not
    from monitor.training.contest import Contest, Contestant

_NONE = "-"


def contest_text(found: Contest) -> Iterator[str]:
    """Tables of what was seen without labels, what it cost, what labels say, and what was tuned; line by line."""
    usable = [one for one in found.contestants if one.quality is not None]
    yield (
        f"held-out normal data: {found.faults} planted faults of {found.span} windows in {found.windows:,} windows, "
        f"limits at nu {found.nu:.3g}, fitted to {found.fit_windows:,} windows, seed {found.seed}"
    )
    yield from _table(
        ("scorer", "seen", "found", "delay", "calibration error", "realised", "distinct"),
        [_quality(one) for one in usable],
    )
    yield "  (seen: share of the planted faults' windows over the limit, above chance; delay in windows;"
    yield "   calibration error: log2 of realised over asked, 1 is twice or half)"
    yield ""
    yield from _table(
        ("scorer", "fitted in", "a window", "numbers learnt", "bundle"), [_cost(one) for one in usable]
    )
    yield from _against_labels(usable)
    yield from _tuned(usable)
    for one in found.contestants:
        if one.refused:
            yield f"{one.scorer}: cannot be used: {one.refused}"


def _quality(one: Contestant) -> tuple[str, ...]:
    assert one.quality is not None
    seen = one.quality.sensitivity
    realised = ", ".join(f"{100 * rate:.1f} %" for rate in seen.realised)
    return (
        one.scorer,
        f"{seen.overall:.2f}",
        f"{seen.found:.2f}",
        f"{seen.delay:.0f}",
        f"{seen.calibration_error:.2f}",
        realised,
        f"{100 * one.quality.distinct:.0f} %",
    )


def _cost(one: Contestant) -> tuple[str, ...]:
    assert one.quality is not None
    return (
        one.scorer,
        f"{one.quality.fit_seconds:.1f} s",
        f"{one.quality.window_us:.0f} us",
        f"{one.quality.learnt:,}",
        f"{one.bundle_bytes / 1024:,.0f} KiB",
    )


def _against_labels(usable: Sequence[Contestant]) -> Iterator[str]:
    judged = [one for one in usable if one.detection is not None]
    if not judged:
        return
    first = judged[0].detection
    assert first is not None
    yield ""
    yield (
        f"against labels: {first.windows:,} windows that nothing was learnt from, {first.anomalous:,} of them "
        "anomalous"
    )
    columns = (
        "scorer",
        "ROC",
        "PR",
        "VUS-PR",
        "F1",
        "FAR before",
        "after",
        "delay",
        "missed",
        "trained in",
    )
    yield from _table(columns, [_detection(one) for one in judged])


def _detection(one: Contestant) -> tuple[str, ...]:
    seen = one.detection
    assert seen is not None
    return (
        one.scorer,
        *(_figure(value) for value in (seen.roc, seen.pr, seen.vus_pr, seen.f1)),
        _share(seen.far_before),
        _share(seen.far_after),
        _NONE if seen.delay_s is None else duration(seen.delay_s).replace("\u00a0", " "),
        f"{seen.undetected} of {seen.faults}",
        _NONE if one.trained_seconds is None else f"{one.trained_seconds:.1f} s",
    )


def _tuned(usable: Sequence[Contestant]) -> Iterator[str]:
    tuned = [one.tuned for one in usable if one.tuned is not None]
    if not tuned:
        return
    yield ""
    yield f"tuned by held-out normal data alone, no label was read; seed {tuned[0].seed}:"
    for one in tuned:
        before = _figure(one.seen_before)
        options = ", ".join(f"{name}: {value}" for name, value in one.options.items())
        yield f"  {one.scorer:<26} seen {before} -> {_figure(one.seen)}  {options or 'defaults'}"
    yield "  (of the best of many tries a part is luck: on other windows it will see less than this)"


def _table(columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Aligned columns; the first to the left, the others to the right."""
    every = [tuple(columns), *rows]
    widths = [max(len(row[place]) for row in every) for place in range(len(columns))]
    for row in every:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  " + "  ".join(cells)


def _figure(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.2f} %"
