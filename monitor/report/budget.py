"""A budget in false incidents: what was asked, the nu that came of it, what is expected; as a section and as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from monitor.report.markup import Markup, join, number, percent, tag
from monitor.report.page import tiles

if TYPE_CHECKING:  # training imports JAX, which a page needs not
    from monitor.training.budget import Budget


def budget_section(budget: Budget | None) -> Markup:
    """The section; nothing where the configuration asks for a nu."""
    if budget is None:
        return Markup("")
    verdict = tag("p", _verdict(budget), class_=None if budget.supported else "note")
    return join((tag("h2", "The budget"), verdict, tiles(_headline(budget))))


def budget_text(budget: Budget) -> Iterator[str]:
    """The same for a terminal, line by line."""
    yield f"budget {budget.asked:g} false incidents per asset and week: {_verdict(budget)}"
    yield (
        f"  expected {budget.per_week:.3g} per asset and week: {budget.incidents} incidents in "
        f"{budget.asset_days:.1f} asset days of calibration windows"
    )


def _verdict(budget: Budget) -> str:
    allowed = f"it allows {budget.allowed:.1f} incidents in the time of the calibration windows"
    if budget.supported:
        return f"{allowed} and comes to nu {budget.nu:.3g}."
    return (
        f"{allowed}, too few to set a limit by ({budget.enough:g} are needed): about "
        f"{budget.missing_days:.0f} more days of history of every asset are missing. Until then the limit is that of "
        f"nu {budget.nu:g}, and the threshold is UNCALIBRATED."
    )


def _headline(budget: Budget) -> list[tuple[str, str]]:
    return [
        ("asked false incidents per asset and week", number(budget.asked)),
        ("nu of the limit in force", percent(budget.nu)),
        ("expected incidents per asset and week", number(budget.per_week)),
        ("incidents that the limit gives over the calibration windows", str(budget.incidents)),
        ("asset days of calibration windows", number(budget.asset_days)),
        ("days of history missing, of every asset", number(budget.missing_days)),
    ]
