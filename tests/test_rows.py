"""Rows of an asset's state: numbered layouts, older ones taken over, newer ones refused."""

from __future__ import annotations

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
FIRST = msgspec.msgpack.encode(["unit", zlib.crc32(STATE), STATE])
"""As the first layout had it."""


@pytest.fixture(scope="module")
def trained() -> World:
    text = configuration_text(2, 8, "{pca: {}}")
    return world(text, [batch_of({"plant/0": autoregressive(1, 600, 2)})])


def test_a_row_is_read_as_it_was_written() -> None:
    assert read_row("a", write_row("unit", STATE)) == Row(LAYOUT, "unit", zlib.crc32(STATE), STATE)


def test_a_row_of_the_first_layout_is_taken_over() -> None:
    assert read_row("a", FIRST) == Row(LAYOUT, "unit", zlib.crc32(STATE), STATE)


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
    ],
)
def test_what_is_no_row_or_damaged_is_a_value_error(raw: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_row("a", raw)


def test_a_pipeline_goes_on_from_rows_of_the_first_layout(trained: World) -> None:
    stream = batch_of({"plant/0": autoregressive(5, 60, 2)})
    before = trained.pipeline()
    before.push(polled(stream))
    rows = before.dump()
    old = {asset: msgspec.msgpack.encode(msgspec.msgpack.decode(row)[1:]) for asset, row in rows.items()}
    assert msgspec.msgpack.decode(old["plant/0"])[0] == "unit"
    after = trained.pipeline()
    after.load(old)
    assert after.handed_over() == rows


def test_an_engine_refuses_a_newer_row_and_leaves_it_where_it_is(trained: World) -> None:
    checkpoint = MemoryCheckpoint(MemorySink())
    newer = msgspec.msgpack.encode([LAYOUT + 1])
    bundles = {"unit": trained.model.bundle_id}
    checkpoint.commit(0, {"plant/0": newer}, Marker(4, bundles))
    running = Engine(MemorySource([]), checkpoint, trained.pipeline, bundles)
    with pytest.raises(ConfigurationError, match="a newer nuwatch wrote it; hint: run that version"):
        running.open("earliest")
    assert checkpoint.restore(0).rows == {"plant/0": newer}  # type: ignore[union-attr]
