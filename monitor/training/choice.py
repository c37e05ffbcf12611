"""`scoring.scorers: auto`: candidates are compared on the user's own normal data alone, and the best are taken.

Every candidate is fitted to the FIT part. On the two held-out parts its limit is set and checked, and faults of
graded sizes are planted (`monitor.training.planting`); what counts is the share of their windows that it
puts over a limit that holds in both parts (`monitor.training.sensitivity`). The most sensitive one is taken, then
one by one what sees more together with it. A difference below the margin is a tie, and a tie goes to the scorer
that has learnt the fewest numbers.

A log-likelihood would be the textbook's criterion, but those of scorers are not comparable: some rate one sample
given its past, some given itself, some a whole window, and some have no density at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from models.scorer import FitRefused
from monitor.settings import AssetClass
from monitor.training.candidates import Candidate, Comparison, compare
from monitor.training.history import Rows
from monitor.training.progress import TrainingProgress
from monitor.training.sensitivity import Sensitivity

Judge = Callable[[Collection[str]], Sensitivity]
"""What scorers see together."""


class Choice(Struct, frozen=True):
    """What was chosen, and the numbers that it rests on.

    Attributes:
        scorers: chosen, in the candidates' order.
        reasons: why, in plain sentences.
        candidates: by name, in the order of their sensitivity.
        refused: candidates that cannot be used, and why.
        together: of what was chosen, combined.
        additions: sensitivity of combinations that were tried, by their names joined with '+'.
        nu: that they were compared at.
        windows: held-out windows that were looked at.
        faults: that were planted, of all kinds and sizes.
        span: windows that a fault lasts.
    """

    scorers: tuple[str, ...]
    reasons: tuple[str, ...]
    candidates: Mapping[str, Candidate]
    refused: Mapping[str, str]
    together: Sensitivity
    additions: Mapping[str, float]
    nu: float
    windows: int
    faults: int
    span: int

    def to_json(self) -> dict[str, Any]:
        """For the bundle: without the times, which differ from run to run, and in six digits."""
        plain = msgspec.to_builtins(self)
        for candidate in plain["candidates"].values():
            del candidate["fit_seconds"], candidate["window_us"]
        return _rounded(plain)


def resolve(asset_class: AssetClass, rows: Rows, told: TrainingProgress) -> tuple[AssetClass, Choice | None]:
    """Settings that name their scorers: the given ones, or, with 'auto', those with what was chosen.

    Args:
        asset_class: its settings.
        rows: the history.
        told: of stages.

    Raises:
        FitRefused: no candidate can be used, or none sees more than chance does.
        ThresholdRefused: the held-out parts are too short.
    """
    if asset_class.scoring.scorers != "auto":
        return asset_class, None
    compared = compare(asset_class, rows, told)
    choice = _choice(compared, asset_class.scoring.auto.margin)
    options = {name: compared.options[name] for name in choice.scorers}
    scoring = msgspec.structs.replace(asset_class.scoring, scorers=options)
    return msgspec.structs.replace(asset_class, scoring=scoring), choice


def _choice(compared: Comparison, margin: float) -> Choice:
    candidates = dict(
        sorted(compared.candidates.items(), key=lambda item: (-item[1].sensitivity.overall, item[0]))
    )
    if not candidates:
        why = "; ".join(f"{name}: {reason}" for name, reason in compared.refused.items())
        raise FitRefused(f"auto: none of the candidates can be used: {why}")
    _refuse_chance(next(iter(candidates)), next(iter(candidates.values())).sensitivity, margin)
    chosen, additions = pick(
        {name: c.learnt for name, c in candidates.items()}, lambda names: compared.judge(tuple(names)), margin
    )
    ordered = tuple(name for name in compared.options if name in chosen)
    together = compared.judge(ordered)
    tried = {"+".join(names): value for names, value in additions.items()}
    reasons = (
        _first_reason(chosen[0], candidates, margin),
        _second_reason(chosen, compared, additions, margin),
    )
    return Choice(
        ordered,
        reasons,
        candidates,
        compared.refused,
        together,
        tried,
        compared.nu,
        compared.windows,
        compared.faults,
        compared.span,
    )


def _refuse_chance(name: str, best: Sensitivity, margin: float) -> None:
    least = max(margin, 2.0 * best.noise)
    if best.overall <= least:
        raise FitRefused(
            f"auto: the best candidate, {name}, has {best.overall:.2f} of the windows with a planted fault over its "
            f"limit above chance, expected more than {least:.2g}; hint: give a longer history, or name the scorers"
        )


def pick(
    learnt: Mapping[str, int], judge: Judge, margin: float
) -> tuple[list[str], dict[tuple[str, ...], float]]:
    """The best candidate, then, one by one, what sees more together with those before it.

    Args:
        learnt: candidates by name, with the numbers that each has learnt: what it costs.
        judge: what some of them see together.
        margin: differences below it are ties.

    Returns:
        What was chosen, in that order, and the overall sensitivity of all combinations that were tried.
    """
    alone = {name: judge((name,)).overall for name in learnt}
    chosen = [_cheapest_of_the_best(alone, learnt, margin)]
    reached = alone[chosen[0]]
    tried: dict[tuple[str, ...], float] = {}
    while True:
        found = {name: judge((*chosen, name)).overall for name in learnt if name not in chosen}
        tried |= {(*chosen, name): value for name, value in found.items()}
        found = {name: value for name, value in found.items() if value > reached + margin}
        if not found:
            return chosen, tried
        chosen.append(_cheapest_of_the_best(found, learnt, margin))
        reached = found[chosen[-1]]


def _cheapest_of_the_best(found: Mapping[str, float], learnt: Mapping[str, int], margin: float) -> str:
    best = max(found.values())
    level = [name for name, value in found.items() if value >= best - margin]
    return min(level, key=lambda name: (learnt[name], -found[name], name))


def _first_reason(first: str, candidates: Mapping[str, Candidate], margin: float) -> str:
    mine = candidates[first].sensitivity.overall
    others = [(name, c.sensitivity.overall) for name, c in candidates.items() if name != first]
    text = f"{first} has {mine:.2f} of the windows with a planted fault over its limit, above chance"
    if not others:
        return f"{text}; no other candidate could be used."
    name, theirs = others[0]
    if theirs > mine:
        return (
            f"{text}, {name} {theirs:.2f}: within the margin of {margin:g} a tie, and {first} has learnt fewer "
            f"numbers ({candidates[first].learnt:,} against {candidates[name].learnt:,})."
        )
    return f"{text}, more than any other; the next is {name} with {theirs:.2f}."


def _second_reason(
    chosen: Sequence[str], compared: Comparison, additions: Mapping[tuple[str, ...], float], margin: float
) -> str:
    if not additions:
        return "Nothing else could be added."
    alone = compared.judge((chosen[0],))
    if len(chosen) == 1:
        names, value = max(additions.items(), key=lambda item: item[1])
        return (
            f"Nothing is added: the best addition, {names[-1]}, would make it {value:.2f}, "
            f"{value - alone.overall:+.2f}, and the margin is {margin:g}."
        )
    both = compared.judge(tuple(chosen))
    kind = max(both.kinds, key=lambda k: both.kinds[k] - alone.kinds[k])
    return (
        f"With {', '.join(chosen[1:])} added it is {both.overall:.2f}, {both.overall - alone.overall:+.2f}, "
        f"most of it in '{kind}' ({alone.kinds[kind]:.2f} to {both.kinds[kind]:.2f}); the margin is {margin:g}."
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {str(k): _rounded(v) for k, v in value.items()}  # pyright: ignore
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]  # pyright: ignore
    return value
