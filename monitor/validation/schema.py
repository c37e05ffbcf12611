"""Every value of a document that does not fit a type: not only the first one, as a decoder says.

A decoder stops at the first misfit. Here the offending value is taken out and the rest decoded again, so that
a person reads all mistakes at once. What is taken out is replaced by its default, or by a stand-in where it has
none; the caller blames neither.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

from monitor.configuration import Misfit, convert
from monitor.validation.finding import Findings
from monitor.yaml_lines import Document
from monitor.yaml_lines import Path as Steps

_MOST = 100
_MISSING = "object missing required field `"
_STAND_INS: dict[str, Any] = {
    "site": "?",
    "source": {},
    "asset_classes": {},
    "assets": [],
    "sampling": "1s",
    "sensors": {},
    "unit": "1",
}
"""What required settings are replaced by, so that the others can be checked."""


class Fitted(NamedTuple):
    """What could be decoded.

    Attributes:
        value: the decoded value, or None where too much was missing.
        removed: paths of the values that were taken out or put in.
    """

    value: Any
    removed: tuple[Steps, ...]


def fit(
    document: Document,
    kind: Any,
    file: Path,
    findings: Findings,
    at: Steps = (),
    without: tuple[str, ...] = (),
) -> Fitted:
    """Decode what stands ``at`` a path as ``kind``, and report every misfit.

    Args:
        document: the whole file.
        kind: the type to decode.
        file: the file's name.
        findings: take the misfits.
        at: where in the document the data stands.
        without: keys there that belong to someone else.
    """
    data = copy.deepcopy(document.data)
    for key in without:
        _at(data, at).pop(key, None)
    removed: list[Steps] = []
    for _ in range(_MOST):
        try:
            value = convert(_at(data, at), kind, file, Document(data, document.lines), at)
            return Fitted(value, tuple(removed))
        except Misfit as misfit:
            step = _remove(data, misfit, removed, findings, at)
            if step is None:
                break
            removed.append(step)
    return Fitted(None, tuple(removed))


def _at(data: Any, steps: Steps) -> Any:
    for step in steps:
        data = data[step]
    return data


def _remove(data: Any, misfit: Misfit, removed: list[Steps], findings: Findings, at: Steps) -> Steps | None:
    """Report a misfit and take out what is to blame; None where nothing would be left."""
    missing = _missing_field(misfit)
    if missing is None or (*misfit.steps, missing) not in removed:
        message, _, expected = misfit.problem.partition("; ")
        findings.error(misfit.steps, message, expected.removeprefix("hint: "))
    if missing in _STAND_INS and not at:
        _at(data, misfit.steps)[missing] = copy.deepcopy(_STAND_INS[missing])
        return (*misfit.steps, missing)
    return _pop(data, misfit.steps, len(at))


def _missing_field(misfit: Misfit) -> str | None:
    if not misfit.problem.startswith(_MISSING):
        return None
    return misfit.problem.removeprefix(_MISSING).partition("`")[0]


def _pop(data: Any, steps: Steps, least: int) -> Steps | None:
    """Take out the innermost entry of a mapping on the way to ``steps``; an item of a list goes with its list."""
    while len(steps) > least:
        parent = data
        for step in steps[:-1]:
            parent = parent[step] if isinstance(parent, dict) and step in parent else None
        if isinstance(parent, dict) and steps[-1] in parent:
            del parent[steps[-1]]
            return steps
        steps = steps[:-1]
    return None
