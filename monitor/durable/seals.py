"""Checksums that find flipped bits, lost rows, and rows of another time.

A seal covers a row's key as well as its content: a row that turns up under another name does not pass. The seals of a
set of rows are summed modulo 2^64; since a sum is brought up to date by what changed alone, a commit that touches ten
of a thousand rows still says what all thousand must come to. A missing row, an old one among new ones, or one too many
changes the sum (two faults cancel with probability 2^-64).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_MODULUS = 2**64


def seal(*parts: int | str | bytes) -> int:
    """64 bits over the parts, each with its length: ('a', 'bc') and ('ab', 'c') differ."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return int.from_bytes(digest.digest(), "little")


def changed(total: int, gone: Iterable[int], come: Iterable[int]) -> int:
    """The sum of a set of seals after some have gone and others have come."""
    return (total - sum(gone) + sum(come)) % _MODULUS
