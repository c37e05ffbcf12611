"""Whether the broker's access rules let us do what we must: asked at the start, so that a missing right is said then.

Later a missing right is retried like an outage, because rights come back; docs/security.md lists those that are needed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

_HINT = "hint: the rules that nuwatch needs are listed in docs/security.md"


def missing(described: Mapping[str, Any], needed: Collection[str]) -> str | None:
    """What we may not do with a topic, for a person; None where all is well, or the broker does not say.

    Args:
        described: the topic, as the administration client describes it.
        needed: operations, such as READ.
    """
    allowed: set[str] = set(described.get("authorized_operations") or ())
    lacking = [operation for operation in needed if operation not in allowed]
    if not allowed or "ALL" in allowed or not lacking:
        return None
    return (
        f"topic '{described['name']}': the access rules allow our user {', '.join(sorted(allowed))}, "
        f"and not {', '.join(lacking)}; {_HINT}"
    )
