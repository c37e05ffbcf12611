"""The access rules that the documentation lists for one daemon and for several, read from its own tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tests.broker import Rule

ALONE, SHARED = "security.md", "several-daemons.md"
"""The pages with a table: of a daemon that has the topic to itself, and of those that share one."""
_ROW = re.compile(r"^\| `(TOPIC|GROUP|TRANSACTIONAL_ID)` \| `([\w.]+)` \| `(\w+)` \|", re.MULTILINE)
_DOCS = Path(__file__).resolve().parent.parent / "docs"


def documented(page: str = ALONE) -> list[tuple[str, str, str]]:
    """(resource, configuration key, operation) of every row of a page's table of least privilege."""
    return _ROW.findall((_DOCS / page).read_text(encoding="utf-8"))


def rules_of(names: Mapping[str, str], page: str = ALONE) -> list[Rule]:
    """The rules with the names that a configuration gives to the keys of the table.

    A transactional id is a beginning that a daemon adds to.
    """
    return [
        Rule(resource, names[key], operation, prefix=resource == "TRANSACTIONAL_ID")
        for resource, key, operation in documented(page)
    ]
