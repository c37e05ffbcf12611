"""Why a record or a row cannot be used: a bounded reason with a sentence for a person."""

from __future__ import annotations

from typing import NamedTuple

from connectors.records import Reason

MAX_DETAIL = 500
_MAX_SHOWN = 80


class Problem(NamedTuple):
    """A reason and what was got and expected."""

    reason: Reason
    detail: str


class Refused(Exception):  # noqa: N818 - says what happened to the record
    """A whole record is refused; decoders catch it and go on with the next record."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(reason, detail)


def shown(value: object) -> str:
    """A value from outside as short printable text: hostile input must not flood or break a message."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value[:_MAX_SHOWN] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def clipped(detail: str) -> str:
    """A detail cut to what `Rejected` allows, without control characters or lone surrogates."""
    printable = "".join(c if c.isprintable() else "\ufffd" for c in detail[:MAX_DETAIL])
    return printable if len(detail) <= MAX_DETAIL else printable[: MAX_DETAIL - 3] + "..."
