"""What `scorers: auto` chose and the numbers that it rests on, as a section of the training's page and as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from monitor.report.markup import Markup, join, number, percent, tag
from monitor.report.page import notes, table

if TYPE_CHECKING:  # training imports JAX, which a page needs not
    from monitor.training.candidates import Candidate
    from monitor.training.choice import Choice
    from monitor.training.sensitivity import Sensitivity


def choice_section(choice: Choice | None) -> Markup:
    """The section; nothing where the configuration named the scorers."""
    if choice is None:
        return Markup("")
    return join(
        (
            tag("h2", "Why these scorers"),
            tag("p", f"Chosen of {len(choice.candidates)}: {', '.join(choice.scorers)}."),
            *(tag("p", reason) for reason in choice.reasons),
            tag("p", _how(choice), class_="muted"),
            _seen(choice),
            _honest(choice),
            notes(f"{name} cannot be used: {why}" for name, why in choice.refused.items()),
        )
    )


def choice_text(choice: Choice) -> Iterator[str]:
    """The same for a terminal, line by line."""
    yield f"auto chose {', '.join(choice.scorers)}"
    yield from (f"  {reason}" for reason in choice.reasons)
    yield f"  {'candidate':<18} {'seen':>5} {'found':>5} {'delay':>5} {'realised':>15} {'fitted in':>9} {'a window':>9}"
    for name, candidate in choice.candidates.items():
        mine = candidate.sensitivity
        realised = ", ".join(f"{100 * rate:.1f} %" for rate in mine.realised)
        yield (
            f"  {name:<18} {mine.overall:>5.2f} {mine.found:>5.2f} {mine.delay:>5.0f} {realised:>15} "
            f"{candidate.fit_seconds:>7.1f} s {candidate.window_us:>6.0f} us"
        )
    yield f"  (seen, found: of {choice.faults} planted faults of {choice.span} windows; limits at nu {choice.nu:.3g})"
    yield from (f"  {name}: cannot be used: {why}" for name, why in choice.refused.items())


def _how(choice: Choice) -> str:
    return (
        f"{choice.faults} faults of {choice.span} windows each were planted into {choice.windows:,} held-out normal "
        f"windows. Seen is the share of a fault's windows over a limit that {percent(choice.nu)} of normal windows "
        "exceed at most, in either held-out part, above what is seen without a fault; found are faults with three "
        "windows in a row over it."
    )


def _seen(choice: Choice) -> Markup:
    kinds = list(choice.together.kinds)
    columns = ("seen of", "all>", *(f"{kind}>" for kind in kinds), "faults found>", "median delay, windows>")
    rows = [_seen_row("chosen", choice.together, kinds)]
    rows += [_seen_row(name, c.sensitivity, kinds) for name, c in choice.candidates.items()]
    return table(columns, rows, totals=1)


def _seen_row(name: str, seen: Sensitivity, kinds: list[str]) -> tuple[object, ...]:
    shares = (number(seen.kinds[kind], 2) for kind in kinds)
    return name, number(seen.overall, 2), *shares, percent(seen.found), f"{seen.delay:.0f}"


def _honest(choice: Choice) -> Markup:
    columns = (
        "candidate",
        "over the other part's limit, scale part>",
        "limit part>",
        "calibration error, log2>",
        "seen by chance>",
        "tau, windows>",
        "distinct scores>",
        "numbers learnt>",
        "fitted in>",
        "per window>",
    )
    return table(columns, [_honest_row(name, c) for name, c in choice.candidates.items()])


def _honest_row(name: str, candidate: Candidate) -> tuple[object, ...]:
    mine = candidate.sensitivity
    return (
        name,
        percent(mine.realised[0]),
        percent(mine.realised[1]),
        number(mine.calibration_error, 2),
        percent(mine.by_chance),
        number(mine.tau, 2),
        percent(candidate.distinct),
        f"{candidate.learnt:,}",
        f"{number(candidate.fit_seconds)} s",
        f"{number(candidate.window_us)} us",
    )
