from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.codec import Codec
from connectors.errors import SettingsError
from connectors.quality import quality_code
from connectors.records import (
    NO_CONTEXT,
    Batch,
    ClassLayout,
    Context,
    Decoded,
    Layout,
    Quality,
    RawRecord,
    Reason,
    SensorLayout,
    TimeLayout,
)
from connectors.times import TimeReader
from connectors.units import UnitError, conversion, known
from tests.payloads import GOOD, LAYOUT, ODDITIES, PAYLOADS, Oddity, Payload, ipc

T = 1_795_310_036_123_000_000
"""2026-11-22T01:13:56.123Z in ns, from Python's datetime (see the test of times)."""

ABSENT, GOOD_Q, UNCERTAIN, BAD = (
    int(q) for q in (Quality.ABSENT, Quality.GOOD, Quality.UNCERTAIN, Quality.BAD)
)
NAN = float("nan")


def records(*values: bytes | dict | None, key: bytes | None = None) -> list[RawRecord]:
    raw = [json.dumps(value).encode() if isinstance(value, dict) else value for value in values]
    return [RawRecord(0, offset, key, value) for offset, value in enumerate(raw)]


def decode(*values: bytes | dict | None, layout: Layout = LAYOUT) -> Decoded:
    return Codec(layout).decode(records(*values))


def only(decoded: Decoded) -> Batch:
    assert decoded.rejected == ()
    assert len(decoded.batches) == 1
    return decoded.batches[0]


def frame(values: dict, **rest: object) -> dict:
    return {"asset": "poly2/R-101", "ts": 1795310036123, "values": values} | rest


def single(sensor: str, value: float | None, **rest: object) -> dict:
    return {"asset": "poly2/R-101", "ts": 1795310036123, "sensor": sensor, "value": value} | rest


# frames and single readings


def test_a_frame_becomes_one_row_in_the_order_of_the_sensors() -> None:
    batch = only(decode(frame({"reaction_time": 1810, "temperature": 171.2, "pressure": 5.8})))
    assert batch.asset_class == "reactor"
    assert batch.assets == ("poly2/R-101",)
    np.testing.assert_array_equal(batch.values, [[171.2, 5.8, 1810.0]])
    np.testing.assert_array_equal(batch.quality, [[GOOD_Q] * 3])
    np.testing.assert_array_equal(batch.time, [T])
    assert [batch.values.dtype, batch.quality.dtype, batch.time.dtype] == [np.float64, np.uint8, np.int64]
    assert [batch.asset.dtype, batch.context.dtype, batch.offset.dtype] == [np.int32, np.int32, np.int64]


def test_the_frame_of_the_design_page_is_read_whole() -> None:
    batch = only(
        decode(
            b'{"asset":"poly2/R-101","ts":"2026-11-22T01:13:56.123456Z",'
            b'"values":{"temperature":171.2,"pressure":5.8,"reaction_time":1810.0},'
            b'"quality":{"pressure":"UNCERTAIN"},"batch":{"batch_id":"B-0712","phase":"REACT"}}'
        )
    )
    np.testing.assert_array_equal(batch.time, [T + 456_000])
    np.testing.assert_array_equal(batch.quality, [[GOOD_Q, UNCERTAIN, GOOD_Q]])
    assert batch.contexts == (NO_CONTEXT, Context(batch_id="B-0712", phase="REACT"))
    np.testing.assert_array_equal(batch.context, [1])


def test_a_single_reading_leaves_the_other_sensors_absent() -> None:
    batch = only(decode(single("pressure", 5.8, quality="GOOD", seq=123456)))
    np.testing.assert_array_equal(batch.values, [[NAN, 5.8, NAN]])
    np.testing.assert_array_equal(batch.quality, [[ABSENT, GOOD_Q, ABSENT]])


def test_a_single_reading_may_carry_its_batch_and_its_unit() -> None:
    batch = only(
        decode(
            single("temperature", 300.0, unit="K", batch={"batch_id": 712, "phase_started": 1795310036123})
        )
    )
    np.testing.assert_allclose(batch.values[0, 0], 26.85, rtol=0, atol=1e-12)
    assert batch.contexts[1] == Context(batch_id="712", phase_started=T)


def test_a_frame_without_values_is_a_row_of_absent_readings() -> None:
    batch = only(decode(frame({})))
    np.testing.assert_array_equal(batch.quality, [[ABSENT] * 3])


def test_null_is_absent_unless_its_quality_says_bad() -> None:
    batch = only(
        decode(
            frame(
                {"temperature": None, "pressure": None},
                quality={"pressure": "BAD", "temperature": "UNCERTAIN"},
            ),
            frame({}, quality={"pressure": "BAD"}),
        )
    )
    np.testing.assert_array_equal(batch.quality, [[ABSENT, BAD, ABSENT], [ABSENT, BAD, ABSENT]])
    assert np.isnan(batch.values).all()


def test_one_quality_word_speaks_of_every_value_of_a_frame() -> None:
    batch = only(decode(frame({"temperature": 1, "pressure": 2}, quality="Bad")))
    np.testing.assert_array_equal(batch.quality, [[BAD, BAD, ABSENT]])


def test_optional_fields_may_be_null() -> None:
    nulls = {"sensor": None, "quality": None, "unit": None, "units": None, "batch": None}
    batch = only(
        decode(
            frame({"temperature": 1}, **nulls, value=None),
            single("pressure", 2.0) | {name: None for name in nulls if name != "sensor"} | {"values": None},
        )
    )
    np.testing.assert_array_equal(batch.values, [[1.0, NAN, NAN], [NAN, 2.0, NAN]])
    assert batch.contexts == (NO_CONTEXT,)


def test_of_a_repeated_key_the_last_one_counts() -> None:
    batch = only(
        decode(b'{"asset":"poly2/R-101","ts":1795310036123,"values":{"temperature":1,"temperature":2}}')
    )
    assert batch.values[0, 0] == 2.0


def test_a_list_in_one_of_many_frames_rejects_that_frame_alone() -> None:
    decoded = decode(frame({"temperature": 1}), frame({"temperature": [1, 2]}), frame({"temperature": 3}))
    assert [(each.record.offset, each.reason) for each in decoded.rejected] == [(1, Reason.WRONG_TYPE)]
    np.testing.assert_array_equal(decoded.batches[0].values[:, 0], [1.0, 3.0])


def test_lists_of_equal_length_in_every_frame_are_rejected_too() -> None:
    decoded = decode(frame({"temperature": [1, 2]}), frame({"temperature": [1, 2]}))
    assert [each.reason for each in decoded.rejected] == [Reason.WRONG_TYPE] * 2
    assert decoded.batches == ()


def test_values_keep_every_bit() -> None:
    values = [0.1, -0.0, 5e-324, 1.7976931348623157e308, 2**53 - 1, 1 / 3]
    batch = only(decode(*(frame({"temperature": value}) for value in values)))
    assert batch.values[:, 0].tobytes() == np.array(values, dtype=np.float64).tobytes()


# many rows


def test_columns_become_rows_and_say_what_holds_for_all_once() -> None:
    batch = only(
        decode(
            {
                "asset": "poly2/R-101",
                "ts": [1795310036123, "2026-11-22T01:13:57.123Z"],
                "values": {"pressure": [5.8, None], "temperature": [1, 2]},
                "quality": {"temperature": ["GOOD", "UNCERTAIN"], "pressure": "BAD"},
                "units": {"temperature": "Cel"},
                "batch": {"batch_id": "B"},
            }
        )
    )
    np.testing.assert_array_equal(batch.time, [T, T + 1_000_000_000])
    np.testing.assert_array_equal(batch.values, [[1.0, 5.8, NAN], [2.0, NAN, NAN]])
    np.testing.assert_array_equal(batch.quality, [[GOOD_Q, BAD, ABSENT], [UNCERTAIN, BAD, ABSENT]])
    np.testing.assert_array_equal(batch.offset, [0, 0])
    assert [batch.contexts[i].batch_id for i in batch.context] == ["B", "B"]


def test_a_bad_row_of_many_is_left_out_and_the_record_reported_once() -> None:
    decoded = decode(
        {
            "asset": ["poly2/R-101", "poly9/R-1", "poly2/R-102", "poly2/R-103"],
            "ts": [1795310036123, 1795310036123, 1795310036123, "never"],
            "values": {"temperature": [1, 2, 3, 4]},
        }
    )
    batch = decoded.batches[0]
    assert [batch.assets[i] for i in batch.asset] == ["poly2/R-101", "poly2/R-102"]
    np.testing.assert_array_equal(batch.values[:, 0], [1.0, 3.0])
    (rejected,) = decoded.rejected
    assert rejected.reason is Reason.UNKNOWN_ASSET
    assert rejected.detail.startswith("2 of 4 rows, the first is row 1:")


def arrow(**changes: pa.Array) -> bytes:
    columns = {
        "asset": pa.array(["poly2/R-101", "poly2/R-102"]),
        "ts": pa.array([1795310036123, 1795310036124], pa.int64()),
        "temperature": pa.array([1.5, None]),
    }
    return ipc(columns | changes)


def test_an_arrow_message_becomes_rows() -> None:
    batch = only(
        decode(
            arrow(
                pressure=pa.array([1, 2], pa.int32()),
                reaction_time=pa.array([np.nan, np.inf], pa.float32()),
                temperature__quality=pa.array(["UNCERTAIN", "BAD"]).dictionary_encode(),
                batch_id=pa.array(["B", None]).dictionary_encode(),
                phase_started=pa.array([1795310036123, None], pa.timestamp("ms", tz="UTC")),
            )
        )
    )
    assert batch.assets == ("poly2/R-101", "poly2/R-102")
    np.testing.assert_array_equal(batch.time, [T, T + 1_000_000])
    np.testing.assert_array_equal(batch.values, [[1.5, 1.0, NAN], [NAN, 2.0, NAN]])
    non_finite = int(Quality.NON_FINITE)
    np.testing.assert_array_equal(batch.quality, [[UNCERTAIN, GOOD_Q, non_finite], [BAD, GOOD_Q, non_finite]])
    assert [batch.contexts[i] for i in batch.context] == [Context(batch_id="B", phase_started=T), NO_CONTEXT]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_arrow_timestamps_of_any_unit_are_exact(unit: str) -> None:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    counts = [1795310036 * per_second, 1795310037 * per_second - (per_second > 1)]
    stamps = pa.array(counts, pa.timestamp(unit, tz="Europe/Berlin"))
    batch = only(decode(arrow(ts=stamps)))
    np.testing.assert_array_equal(batch.time, [count * (10**9 // per_second) for count in counts])


def test_an_arrow_field_may_name_its_unit() -> None:
    table = pa.table({"asset": ["poly2/R-101"], "ts": [1795310036123], "temperature": [212.0]})
    fields = [*list(table.schema)[:2], pa.field("temperature", pa.float64(), metadata={"unit": "[degF]"})]
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, pa.schema(fields)) as writer:
        writer.write_table(table.cast(pa.schema(fields)))
    np.testing.assert_allclose(only(decode(out.getvalue().to_pybytes())).values[0, 0], 100.0, rtol=1e-14)


def test_an_arrow_dictionary_that_repeats_a_name_still_means_one_asset() -> None:
    assets = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["poly2/R-101", "poly2/R-101"]))
    assert only(decode(arrow(asset=assets))).assets == ("poly2/R-101",)


def test_all_forms_of_the_same_readings_make_the_same_rows() -> None:
    frames = only(decode(frame({"temperature": 1.5}), frame({"temperature": None}, asset="poly2/R-102")))
    singles = only(decode(single("temperature", 1.5), single("temperature", None, asset="poly2/R-102")))
    columns = only(
        decode(
            {
                "asset": ["poly2/R-101", "poly2/R-102"],
                "ts": [1795310036123, 1795310036123],
                "values": {"temperature": [1.5, None]},
            }
        )
    )
    messages = only(decode(arrow(ts=pa.array([1795310036123] * 2))))
    for other in (singles, columns, messages):
        assert other.assets == frames.assets
        for name in ("asset", "time", "values", "quality", "context"):
            np.testing.assert_array_equal(getattr(other, name), getattr(frames, name), err_msg=name)


def test_rows_stay_in_stream_order_whatever_their_form() -> None:
    columns = {"asset": "poly2/R-1", "ts": [1795310036123] * 2, "values": {"temperature": [2, 3]}}
    batch = only(
        decode(
            frame({"temperature": 1}), columns, single("temperature", 4), arrow(), frame({"temperature": 6})
        )
    )
    np.testing.assert_array_equal(batch.values[:, 0], [1.0, 2.0, 3.0, 4.0, 1.5, NAN, 6.0])
    np.testing.assert_array_equal(batch.offset, [0, 1, 1, 2, 3, 3, 4])


# assets, classes, sensors, keys


TWO_CLASSES = Layout(
    (
        ClassLayout("pump", ("*/P-*", "special"), (SensorLayout("flow", "FI", "L/min"),)),
        ClassLayout("tank", ("*",), (SensorLayout("level", "LI", "%"), SensorLayout("flow", "FI", "m3/h"))),
    )
)


def test_the_first_class_with_a_fitting_pattern_takes_an_asset() -> None:
    decoded = decode(
        {"asset": "a/T-1", "ts": 1, "values": {"FI": 1}},
        {"asset": "a/P-1", "ts": 1, "values": {"FI": 2}},
        {"asset": "special", "ts": 1, "values": {"FI": 3}},
        layout=TWO_CLASSES,
    )
    by_class = {batch.asset_class: batch for batch in decoded.batches}
    assert by_class["pump"].assets == ("a/P-1", "special")
    np.testing.assert_array_equal(by_class["pump"].values, [[2.0], [3.0]])
    np.testing.assert_array_equal(by_class["tank"].values, [[NAN, 1.0]])


def test_one_arrow_message_may_hold_assets_of_several_classes() -> None:
    message = ipc(
        {
            "asset": pa.array(["a/P-1", "a/T-1"]),
            "ts": pa.array([1, 2]),
            "FI": pa.array([7.0, 8.0]),
            "LI": pa.array([None, 50.0]),
        }
    )
    decoded = decode(message, layout=TWO_CLASSES)
    assert decoded.rejected == ()
    by_class = {batch.asset_class: batch for batch in decoded.batches}
    np.testing.assert_array_equal(by_class["pump"].values, [[7.0]])
    np.testing.assert_array_equal(by_class["tank"].values, [[50.0, 8.0]])


@pytest.mark.parametrize(
    "message",
    [
        frame({"temperature": 1, "humidity": 2}),
        frame({"temperature": 1}, quality={"humidity": "BAD"}),
        {"asset": "poly2/R-101", "ts": [1795310036123], "values": {"temperature": [1], "humidity": [2]}},
    ],
)
def test_unknown_sensors_are_skipped_where_the_layout_says_so(message: dict) -> None:
    batch = only(decode(message, layout=LAYOUT._replace(ignore_unknown_sensors=True)))
    np.testing.assert_array_equal(batch.values, [[1.0, NAN, NAN]])


def test_skipped_sensors_are_counted() -> None:
    layout = LAYOUT._replace(ignore_unknown_sensors=True)
    columns = {"asset": "poly2/R-101", "ts": [1795310036123] * 3, "values": {"humidity": [1, 2, None]}}
    decoded = decode(frame({"humidity": 1, "x": 2}), single("humidity", 1), columns, layout=layout)
    assert dict(decoded.counts) == {"UNKNOWN_SENSOR": 5}


def test_a_key_that_is_not_the_asset_is_counted_and_the_record_kept() -> None:
    codec = Codec(LAYOUT)
    decoded = codec.decode(records(GOOD, arrow(), key=b"poly2/R-999"))
    assert dict(decoded.counts) == {"KEY_MISMATCH": 2}
    assert decoded.rejected == ()
    assert codec.decode(records(GOOD, key=b"poly2/R-101")).counts == ()
    assert codec.decode(records(GOOD, key=None)).counts == ()


def test_names_of_rejected_rows_leave_no_trace_in_a_batch() -> None:
    batch = decode(
        frame({"temperature": 1}, asset="poly2/R-1", ts="never", batch={"batch_id": "X"}),
        frame({"temperature": 1}, asset="poly2/R-2", batch={"batch_id": "Y"}),
    ).batches[0]
    assert batch.assets == ("poly2/R-2",)
    assert batch.contexts == (NO_CONTEXT, Context(batch_id="Y"))


# hostile payloads


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.name)
def test_a_hostile_payload_is_rejected_with_its_reason(payload: Payload) -> None:
    decoded = decode(GOOD, payload.value, GOOD)
    (rejected,) = decoded.rejected
    assert (rejected.record.offset, rejected.reason) == (1, payload.reason)
    assert rejected.record.value is payload.value
    assert rejected.detail
    assert len(rejected.detail) <= 500
    assert rejected.detail.isprintable()
    np.testing.assert_array_equal(decoded.batches[0].offset, [0, 2])


@pytest.mark.parametrize("oddity", ODDITIES, ids=lambda oddity: oddity.name)
def test_what_only_looks_bad_is_taken(oddity: Oddity) -> None:
    batch = only(decode(oddity.value))
    value = batch.values[0, 0]
    expected = NAN if oddity.temperature is None else oddity.temperature
    assert np.float64(value).tobytes() == np.float64(expected).tobytes() or (
        value != value and expected != expected
    )
    assert batch.quality[0, 0] == (ABSENT if oddity.temperature is None else GOOD_Q)


def test_the_whole_corpus_at_once_leaves_the_good_records_as_they_are() -> None:
    values = [value for payload in PAYLOADS for value in (payload.value, GOOD)]
    decoded = decode(*values)
    assert [each.reason for each in decoded.rejected] == [payload.reason for payload in PAYLOADS]
    clean = only(decode(GOOD))
    batch = decoded.batches[0]
    np.testing.assert_array_equal(batch.offset, np.arange(1, len(values), 2))
    assert (batch.values == clean.values).all()
    assert (batch.time == clean.time).all()


def test_every_reason_that_a_codec_can_give_is_in_the_corpus() -> None:
    later = {Reason.FUTURE_TIME, Reason.LATE, Reason.CROWDED, Reason.CORRUPT}  # of the grid and of the broker
    assert {payload.reason for payload in PAYLOADS} == set(Reason) - later


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([GOOD, arrow(batch_id=pa.array(["B", None]))]), st.data())
def test_no_damage_to_a_record_raises_or_harms_its_neighbour(message: bytes, data: st.DataObject) -> None:
    damaged = bytearray(message)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    decoded = decode(bytes(damaged), GOOD)
    assert any(1 in batch.offset for batch in decoded.batches)
    assert [each.record.offset for each in decoded.rejected] in ([], [0])


# quality


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("GOOD", Quality.GOOD),
        ("good", Quality.GOOD),
        (" Uncertain ", Quality.UNCERTAIN),
        ("bad", Quality.BAD),
        ("Bad_SensorFailure", Quality.BAD),
        ("UncertainLastUsableValue", Quality.UNCERTAIN),
        (None, Quality.GOOD),
        (0, Quality.GOOD),
        (0x00960000, Quality.GOOD),  # GoodLocalOverride
        (0x40900000, Quality.UNCERTAIN),  # UncertainLastUsableValue
        (0x808C0000, Quality.BAD),  # BadSensorFailure
        (0xC0000000, Quality.BAD),  # reserved severity
    ],
)
def test_words_and_status_codes_of_opc_ua_are_understood(word: str | int | None, expected: Quality) -> None:
    assert quality_code(word) == expected


@pytest.mark.parametrize("word", ["", "FINE", "NOT GOOD", "GOODBYE 1", "G" * 1000, 1, 64, 192, -1, 2**32])
def test_other_words_and_opc_classic_codes_are_refused(word: str | int) -> None:
    assert quality_code(word) is None


# times


def exact_ns(text: str) -> int:
    """By Python's datetime to the second, and by exact fractions below it."""
    body, _, fraction = text[:-1].partition(".")
    seconds = (
        datetime.fromisoformat(body).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    ) // timedelta(seconds=1)
    return int(seconds * 10**9 + Fraction(f"0.{fraction or 0}") * 10**9)


READER = TimeReader(TimeLayout(earliest=-(2**62)))


@given(
    st.lists(
        st.tuples(
            st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),
            st.integers(0, 9),
            st.integers(0, 10**9 - 1),
        )
    )
)
def test_texts_are_read_exactly_to_the_nanosecond(parts: list[tuple[datetime, int, int]]) -> None:
    texts = [
        moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
        + (f".{nanos:09d}"[: 1 + digits] if digits else "")
        + "Z"
        for moment, digits, nanos in parts
    ]
    ns, bad = READER.read(texts)
    assert bad == {}
    assert ns.tolist() == [exact_ns(text) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T01:13:56.123Z",
        "2026-11-22 01:13:56.123z",
        "2026-11-22t01:13:56,123Z",
        "2026-11-22T01:13:56.123000000Z",
        "2026-11-22T01:13:56.123+00:00",
        "2026-11-22T03:13:56.123+02:00",
        "2026-11-21T19:43:56.123-05:30",
        "2026-11-22T03:13:56.123+0200",
        "2026-11-22T03:13:56.123+02",
        "2026-11-22T01:13:56.123-00:00",
    ],
)
def test_all_spellings_of_a_time_mean_the_same(text: str) -> None:
    ns, bad = READER.read([text])
    assert bad == {}
    assert ns.tolist() == [T]


def test_spellings_of_one_length_may_be_mixed_and_each_row_keeps_its_own() -> None:
    texts = [
        "2026-11-22T01:13:56.12345Z",
        "2026-11-22T03:13:56+02:00",
        "2026-11-22T01:13:56.1234ZZ",
        "2026-11-22T01:13Z",
    ]
    ns, bad = READER.read([*texts, 1795310036123])
    assert sorted(bad) == [2]
    assert ns.tolist() == [T + 450_000, T - 123_000_000, 0, T - 56_123_000_000, T]


@pytest.mark.parametrize(
    ("unit", "count"), [("s", 1795310036), ("us", 1795310036123456), ("ns", 1795310036123456789)]
)
def test_integers_count_the_layouts_unit(unit: str, count: int) -> None:
    ns, bad = TimeReader(TimeLayout(unit=unit)).read([count])
    assert bad == {}
    assert ns.tolist() == [count * {"s": 10**9, "us": 10**3, "ns": 1}[unit]]


def test_the_accepted_range_includes_its_ends() -> None:
    reader = TimeReader(TimeLayout(unit="ns", earliest=10, latest=20))
    ns, bad = reader.read([9, 10, 20, 21])
    assert {row: problem.reason for row, problem in bad.items()} == {
        0: Reason.TIME_RANGE,
        3: Reason.TIME_RANGE,
    }
    assert ns.tolist() == [0, 10, 20, 0]


def test_a_zone_reads_wall_clock_times_as_zoneinfo_does() -> None:
    reader = TimeReader(TimeLayout(zone="Europe/Berlin", earliest=-(2**62)))
    texts = ["2026-07-01T12:00:00", "2026-12-01T12:00:00.5", "2026-10-25T02:30:00", "1975-03-01T00:00:00"]
    ns, bad = reader.read(texts)
    assert bad == {}
    berlin = ZoneInfo("Europe/Berlin")
    assert ns.tolist() == [
        int(datetime.fromisoformat(text).replace(tzinfo=berlin).timestamp() * 2) * 500_000_000
        for text in texts
    ]


def test_an_hour_that_a_clock_change_leaves_out_is_refused() -> None:
    _, bad = TimeReader(TimeLayout(zone="Europe/Berlin")).read(["2026-03-29T02:30:00", "2026-03-29T03:00:00"])
    assert [(row, problem.reason) for row, problem in bad.items()] == [(0, Reason.BAD_TIME)]


def test_an_unknown_unit_or_zone_of_time_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="Europe/Berlin"):
        TimeReader(TimeLayout(zone="Berlin"))
    with pytest.raises(SettingsError, match="expected one of s, ms, us, ns"):
        TimeReader(TimeLayout(unit="min"))


# units


@pytest.mark.parametrize(
    ("source", "value", "target", "expected"),
    [
        ("K", 0.0, "Cel", -273.15),
        ("[degF]", 212.0, "Cel", 100.0),
        ("Cel", -40.0, "[degF]", -40.0),
        ("[degR]", 491.67, "K", 273.15),
        ("bar", 1.0, "kPa", 100.0),
        ("MPa", 1.0, "bar", 10.0),
        ("atm", 1.0, "mm[Hg]", 101325 / 133.322),  # as UCUM defines mm[Hg]
        ("[psi]", 1.0, "Pa", 6894.757293168361),  # NIST SP 811
        ("bar{gauge}", 2.0, "kPa{g}", 200.0),
        ("[psi]{a}", 14.503773773020923, "bar{absolute}", 1.0),
        ("%", 50.0, "1", 0.5),
        ("[ppm]", 1e4, "%", 1.0),
        ("h", 1.0, "s", 3600.0),
        ("ms", 1.0, "min", 1 / 60000),
        ("m3/h", 6.0, "L/min", 100.0),
        ("l/h", 60.0, "L/min", 1.0),
        ("t/h", 3.6, "kg/s", 1.0),
        ("[gal_us]/min", 1.0, "L/min", 3.785411784),  # NIST SP 811
        ("[lb_av]", 1.0, "g", 453.59237),
        ("r/min", 60.0, "r/s", 1.0),
        ("[rpm]", 5.0, "{rev}/min", 5.0),
        ("1/min", 60.0, "Hz", 1.0),
        ("kW.h", 1.0, "MJ", 3.6),
        ("cP", 1.0, "mPa.s", 1.0),
        ("[in_i]", 1.0, "mm", 25.4),
        ("uS/cm", 1000.0, "mS/m", 100.0),
        ("mg/L", 1.0, "g/m3", 1.0),
    ],
)
def test_units_convert(source: str, value: float, target: str, expected: float) -> None:
    factor, offset = conversion(source, target)
    assert value * factor + offset == pytest.approx(expected, rel=1e-9, abs=1e-12)
    back, back_offset = conversion(target, source)
    assert expected * back + back_offset == pytest.approx(value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("bar", "bar{gauge}"),
        ("bar{absolute}", "bar{gauge}"),
        ("bar{absolute}", "bar"),
        ("Cel", "bar"),
        ("r/min", "Hz"),
        ("%{vol}", "%{mass}"),
        ("m3/h", "kg/h"),
        ("W", "V.A"),
        ("mS", "S"),
    ],
)
def test_different_quantities_do_not_convert(source: str, target: str) -> None:
    with pytest.raises(UnitError):
        conversion(source, target)


def test_an_unknown_unit_says_what_was_probably_meant() -> None:
    with pytest.raises(UnitError, match="did you mean 'Cel'"):
        conversion("degC", "K")
    assert not known("degC")
    assert known("bar{gauge}")


def test_a_conversion_to_the_same_unit_is_the_identity_even_for_unknown_codes() -> None:
    assert conversion("furlong", "furlong") == (1.0, 0.0)


def test_units_of_a_frame_convert_their_sensor_alone() -> None:
    batch = only(
        decode(frame({"temperature": 300, "pressure": 200, "reaction_time": 2}, units={"pressure": "kPa{g}"}))
    )
    np.testing.assert_array_equal(batch.values, [[300.0, 2.0, 2.0]])


def test_a_conversion_that_overflows_is_not_finite_and_raises_nothing() -> None:
    batch = only(decode(single("reaction_time", 1e308, unit="h")))
    np.testing.assert_array_equal(batch.quality, [[ABSENT, ABSENT, int(Quality.NON_FINITE)]])
    assert np.isnan(batch.values).all()
