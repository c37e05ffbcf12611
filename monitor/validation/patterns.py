"""Whether two asset name patterns can name the same asset."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import cache

_TOKEN = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)


def overlap(a: str, b: str) -> bool:
    """Whether some name fits both patterns; two character classes are taken to share a character."""
    left, right = _tokens(a), _tokens(b)

    @cache
    def meet(i: int, j: int) -> bool:
        if i == len(left):
            return all(token == "*" for token in right[j:])
        if j == len(right):
            return all(token == "*" for token in left[i:])
        if left[i] == "*":
            return meet(i + 1, j) or meet(i, j + 1)
        if right[j] == "*":
            return meet(i, j + 1) or meet(i + 1, j)
        return _share(left[i], right[j]) and meet(i + 1, j + 1)

    return meet(0, 0)


def covers(a: str, b: str) -> bool:
    """Whether ``a`` surely fits every name that ``b`` fits."""
    plain = not any(token == "?" or len(token) > 1 for token in _tokens(a))
    fixed = not any(token in "*?" or len(token) > 1 for token in _tokens(b))
    return a == b or ((plain or fixed) and fnmatchcase(b, a))


def _tokens(pattern: str) -> list[str]:
    return _TOKEN.findall(pattern)


def _share(a: str, b: str) -> bool:
    """Whether one character fits both tokens."""
    if "?" in (a, b) or (len(a) > 1 and len(b) > 1):
        return True
    return fnmatchcase(a, b) or fnmatchcase(b, a)
