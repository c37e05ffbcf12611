"""The access rules that docs/security.md lists, and a small trained plant on a secured broker."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tests.broker import Rule

_ROW = re.compile(r"^\| `(TOPIC|GROUP)` \| `([\w.]+)` \| `(\w+)` \|", re.MULTILINE)
_PAGE = Path(__file__).resolve().parent.parent / "docs" / "security.md"


def documented() -> list[tuple[str, str, str]]:
    """(resource, configuration key, operation) of every row of the table of least privilege."""
    return _ROW.findall(_PAGE.read_text(encoding="utf-8"))


def rules_of(names: Mapping[str, str]) -> list[Rule]:
    """The rules with the names that a configuration gives to the keys of the table."""
    return [Rule(resource, names[key], operation) for resource, key, operation in documented()]
