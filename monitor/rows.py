"""An asset's state as the bytes that checkpoints keep: numbered by its layout, with its class and a checksum.

The number rises when what a row holds, or what a stage of the fold writes into its state, is laid out otherwise; then a
step here takes older rows over. A newer row is refused: half understood, it would be silently wrong.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from monitor.errors import ConfigurationError

LAYOUT = 3
"""1: class, checksum, state, without a number. 2: the number in front of them. 3: what sensors share in the ratio is a
stage of its own, `attribution`, no longer in the smoother's row."""
_SMOOTHER = 32
"""Bytes of a smoother's row: value, slot, segment, age. Up to layout 2 the shares of D sensors stood behind them."""


class Row(msgspec.Struct, frozen=True, array_like=True):
    """An asset's state.

    Attributes:
        layout: see `LAYOUT`.
        asset_class: the asset's class.
        checksum: of ``state``.
        state: from `monitor.fold.Fold.dump`.
    """

    layout: int
    asset_class: str
    checksum: int
    state: bytes


def write_row(asset_class: str, state: bytes) -> bytes:
    """A row of the present layout."""
    return msgspec.msgpack.encode(Row(LAYOUT, asset_class, zlib.crc32(state), state))


def read_row(asset: str, raw: bytes) -> Row:
    """A row of this layout or an older one.

    Raises:
        ConfigurationError: a newer version wrote it.
        ValueError: it is damaged, or no row.
    """
    try:
        parts = cast("list[Any]", msgspec.msgpack.decode(raw, type=list))
        found = parts[0] if parts and isinstance(parts[0], int) else 1
        if found > LAYOUT:
            raise ConfigurationError(
                f"state of {asset!r}: got layout {found}, expected at most {LAYOUT}: a newer nuwatch wrote it; "
                "hint: run that version, or begin anew with an empty state folder, or another changelog and group"
            )
        for number in range(found, LAYOUT):
            parts = _STEPS[number](parts)
        row = msgspec.convert(parts, Row)
    except msgspec.MsgspecError as error:
        raise ValueError(f"state of {asset!r}: {len(raw)} bytes that are no row: {error}") from error
    if zlib.crc32(row.state) != row.checksum:
        raise ValueError(f"state of {asset!r}: the checksum does not fit")
    return row


def _numbered(parts: list[Any]) -> list[Any]:
    return [2, *parts]


def _attribution_apart(parts: list[Any]) -> list[Any]:
    row = msgspec.convert(parts, Row)
    if zlib.crc32(row.state) != row.checksum:
        return [3, *parts[1:]]  # the reader will say so
    stages = msgspec.msgpack.decode(row.state, type=dict[str, bytes])
    smoother, shares = stages["smoother"][:_SMOOTHER], stages["smoother"][_SMOOTHER:]
    of_its_own = shares + bytes(len(shares))  # nothing is off yet
    state = msgspec.msgpack.encode(stages | {"smoother": smoother, "attribution": of_its_own})
    return [3, row.asset_class, zlib.crc32(state), state]


_STEPS: Mapping[int, Callable[[list[Any]], list[Any]]] = {1: _numbered, 2: _attribution_apart}
"""From each layout to the next."""
