"""Rows of an asset's state: numbered layouts, older ones taken over, newer ones refused."""

from __future__ import annotations

import struct
import zlib

import msgspec
import pytest

from connectors.memory import MemorySink, MemorySource
from monitor.checkpoint import Marker, MemoryCheckpoint
from monitor.engine import Engine
from monitor.errors import ConfigurationError
from monitor.rows import LAYOUT, Row, read_row, write_row
from tests.worlds import World, autoregressive, batch_of, configuration_text, polled, world

STATE = b"some state"
SMOOTHER = struct.pack("<dqqq", 0.5, 7, 3, 9)
"""Value, slot, segment, age."""
SHARES = struct.pack("<dd", 0.25, 1.5)


def stages(raw: bytes) -> dict[str, bytes]:
    """Of a row of the second layout or of this one."""
    return msgspec.msgpack.decode(msgspec.msgpack.decode(raw)[3], type=dict[str, bytes])


def before(raw: bytes, layout: int) -> bytes:
    """A row as an earlier layout had it: shares behind the smoother's row; in the first without a number."""
    _, asset_class, _, state = msgspec.msgpack.decode(raw)
    parts = msgspec.msgpack.decode(state, type=dict[str, bytes])
    attribution = parts.pop("attribution")
    parts["smoother"] += attribution[: len(attribution) // 2]
    state = msgspec.msgpack.encode(parts)
    return msgspec.msgpack.encode([layout, asset_class, zlib.crc32(state), state][2 - layout :])


@pytest.fixture(scope="module")
def trained() -> World:
    text = configuration_text(2, 8, "{pca: {}}")
    return world(text, [batch_of({"plant/0": autoregressive(1, 600, 2)})])


def test_a_row_is_read_as_it_was_written() -> None:
    assert read_row("a", write_row("unit", STATE)) == Row(LAYOUT, "unit", zlib.crc32(STATE), STATE)


def test_shares_leave_the_smoothers_row_with_the_third_layout() -> None:
    state = msgspec.msgpack.encode({"grid": b"as it is", "smoother": SMOOTHER + SHARES})
    for parts in (["unit", zlib.crc32(state), state], [2, "unit", zlib.crc32(state), state]):
        found = read_row("a", msgspec.msgpack.encode(parts))
        assert (found.layout, found.asset_class, found.checksum) == (3, "unit", zlib.crc32(found.state))
        assert msgspec.msgpack.decode(found.state) == {
            "grid": b"as it is",
            "smoother": SMOOTHER,
            "attribution": struct.pack("<dddd", 0.25, 1.5, 0.0, 0.0),  # shares, and nothing is off
        }


def test_a_row_of_a_newer_layout_is_refused_with_exit_78_whatever_is_in_it() -> None:
    with pytest.raises(
        ConfigurationError, match=rf"layout {LAYOUT + 1}, expected at most {LAYOUT}"
    ) as caught:
        read_row("plant/0", msgspec.msgpack.encode([LAYOUT + 1, {"anything": 1}]))
    assert caught.value.exit_code == 78
    assert "'plant/0'" in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "no row"),
        (b"\xc1", "no row"),
        (msgspec.msgpack.encode({"a": 1}), "no row"),
        (msgspec.msgpack.encode([]), "no row"),
        (msgspec.msgpack.encode([LAYOUT, "unit", 5]), "no row"),
        (msgspec.msgpack.encode([LAYOUT, "unit", 5, STATE]), "checksum"),
        (msgspec.msgpack.encode(["unit", 5, STATE]), "checksum"),
        (msgspec.msgpack.encode([2, "unit", 5, STATE]), "checksum"),
    ],
)
def test_what_is_no_row_or_damaged_is_a_value_error(raw: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_row("a", raw)


@pytest.mark.parametrize("layout", [1, 2])
def test_a_pipeline_goes_on_from_rows_of_earlier_layouts(trained: World, layout: int) -> None:
    first = trained.pipeline()
    first.push(polled(batch_of({"plant/0": autoregressive(5, 60, 2)})))
    rows = first.dump()
    after = trained.pipeline()
    after.load({asset: before(row, layout) for asset, row in rows.items()})
    known, taken = stages(rows["plant/0"]), stages(after.handed_over()["plant/0"])
    half = len(known["attribution"]) // 2  # what the sensors were off by is not known, and begins anew
    assert taken.pop("attribution") == known.pop("attribution")[:half] + bytes(half)
    assert taken == known


def test_an_engine_refuses_a_newer_row_and_leaves_it_where_it_is(trained: World) -> None:
    checkpoint = MemoryCheckpoint(MemorySink())
    newer = msgspec.msgpack.encode([LAYOUT + 1])
    bundles = {"unit": trained.model.bundle_id}
    checkpoint.commit(0, {"plant/0": newer}, Marker(4, bundles))
    running = Engine(MemorySource([]), checkpoint, trained.pipeline, bundles)
    with pytest.raises(ConfigurationError, match="a newer nuwatch wrote it; hint: run that version"):
        running.open("earliest")
    assert checkpoint.restore(0).rows == {"plant/0": newer}  # type: ignore[union-attr]
