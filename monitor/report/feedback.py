"""What verdicts have changed, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # training imports JAX, which a text needs not
    from monitor.training.verdicts import Feedback, Judged

_SHOWN = 12


def feedback_text(found: Feedback) -> Iterator[str]:
    """Before and after, by what was learnt from and what was held out; then the weights; line by line."""
    limits = f"{found.limit_before:.4g} -> {found.limit_after:.4g}"
    yield f"{found.used} verdicts learnt from, {found.held_out} held out; limit {limits}"
    yield f"  (of {found.normal_windows:,} windows of known-good history, and the windows of 'false')"
    yield f"  {'verdicts':<14} {'ROC':>14} {'PR':>14} {'real over the limit':>22} {'false over it':>16}"
    yield from _row("learnt from", found.used_before, found.used_after)
    if found.held_out:
        yield from _row("held out", found.held_before, found.held_after)
    if not found.weights:
        yield (
            "  no weight has changed" if found.limit_before != found.limit_after else "  nothing has changed"
        )
    for one in found.weights[:_SHOWN]:
        yield f"  {one.sensor} in {one.scorer} counts {one.weight:.2f}"
    if len(found.weights) > _SHOWN:
        yield f"  and {len(found.weights) - _SHOWN} more by less"
    for text in found.unseen:
        yield f"  no scored window: {text}"


def _row(name: str, before: Judged, after: Judged) -> Iterator[str]:
    yield (
        f"  {name:<14} {_change(before.roc, after.roc):>14} {_change(before.pr, after.pr):>14} "
        f"{_change(before.real_over, after.real_over):>22} {_change(before.false_over, after.false_over):>16}"
    )


def _change(before: float | None, after: float | None) -> str:
    return "-" if before is None or after is None else f"{before:.3f} -> {after:.3f}"
