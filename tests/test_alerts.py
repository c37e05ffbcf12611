"""Alerts: identity, contents, words, and their form as CloudEvents."""

from __future__ import annotations

import json
import math
import re
import uuid
from enum import StrEnum

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.records import Channel, OutRecord, Quality, RawRecord, Reason
from monitor.alerting.alerts import (
    Alert,
    Batch,
    Contribution,
    Drift,
    Facts,
    Fault,
    FirstMoved,
    Model,
    Origin,
    Readings,
    Score,
    ScorerScore,
    Window,
    alert_id,
    build_alert,
    cloudevent,
    contributions_of,
    incident_id,
    parse_alert,
    parse_threshold,
    threshold_event,
)
from monitor.alerting.canonical import canonical_json, significant
from monitor.alerting.dead_letters import dead_letter
from monitor.alerting.incidents import SILENCE, EventName, Kind, Transition
from monitor.alerting.messages import duration_text, quantity
from monitor.alerting.short_form import shorten, size_of

S = 1_000_000_000
START = 1_795_310_036_123_456_000  # 2026-11-22T01:13:56.123456Z
SOURCE, ASSET = "/nuwatch/plant-a", "poly2/R-101"
ORIGIN = Origin("sensors", 3, 9179, False, "0.1.0")

DESIGN_EXAMPLE = """
{"specversion":"1.0","type":"nuwatch.alert.v1","source":"/nuwatch/plant-a","subject":"poly2/R-101","id":"<incident_id>:0001",
 "time":"<event time>","sequence":"0000000001","partitionkey":"poly2/R-101","datacontenttype":"application/json","dataschema":"alert.v1.json",
 "nuwatchtopic":"sensors","nuwatchpartition":3,"nuwatchoffset":9179,"nuwatchreplay":false,"nuwatchversion":"...",
 "data":{"incident_id":"...","event":"RAISED","state":"OPEN","kind":"ANOMALY","severity":640,"message":"...","raised_at":"...","updated_at":"...","cleared_at":null,
  "window":{"start":"...","end":"...","length":64,"coverage":0.98},
  "score":{"ratio":1.43,"threshold":3.02,"threshold_version":3,"p_value":0.0004,"nu":0.01,
           "per_scorer":{"lstm_autoencoder":{"value":4.31,"threshold":3.02,"ratio":1.43,"p_value":0.0004},"ocnn":{"value":0.12,"threshold":0.02,"ratio":1.2,"p_value":0.003}}},
  "contributions":[{"sensor":"temperature","unit":"Cel","share":0.61,"observed":183.4,"expected":171.0,"sigma":5.2,"quality":"GOOD"}],
  "drift":{"state":"STABLE"},"model":{"bundle":"<sha256>","trained_to":"...","config":"<sha256>"},
  "batch":{"batch_id":"B-0712","lot":"L-8812","recipe":"PP-H9","phase":"REACT"}}}
"""  # noqa: E501 - as in the design

TEMPERATURE = Contribution(
    sensor="temperature",
    unit="Cel",
    share=0.61,
    observed=183.4,
    expected=171.0,
    sigma=5.2,
    quality="GOOD",
    low=168.2,
    high=173.9,
)
SCORE = Score(
    ratio=1.43,
    threshold=3.02,
    threshold_version=3,
    p_value=0.0004,
    nu=0.01,
    per_scorer={
        "lstm_autoencoder": ScorerScore(value=4.31, threshold=3.02, ratio=1.43, p_value=0.0004),
        "ocnn": ScorerScore(value=0.12, threshold=0.02, ratio=1.2, p_value=0.003),
    },
)
FACTS = Facts(
    window=Window(start="2026-11-22T01:12:53Z", end="2026-11-22T01:13:56Z", length=64, coverage=0.98),
    score=SCORE,
    contributions=(TEMPERATURE,),
    drift=Drift(state="STABLE"),
    model=Model(bundle="ab" * 32, trained_to="2026-10-01T00:00:00Z", config="cd" * 32),
    batch=Batch(batch_id="B-0712", lot="L-8812", recipe="PP-H9", phase="REACT"),
)


def transition(event: EventName = EventName.RAISED, after_s: int = 0, **changes: object) -> Transition:
    sequence = 1 if event is EventName.RAISED else 2
    usual = Transition(0, 0, 0, event, START + after_s * S, START, START, sequence, 348, 1.43)
    return usual._replace(**changes)


def alert(
    told: Transition | None = None, kind: Kind = Kind.ANOMALY, subject: str = "", facts: Facts = FACTS
) -> Alert:
    return build_alert(
        told or transition(), source=SOURCE, asset=ASSET, kind=kind, subject=subject, facts=facts
    )


def record_of(each: Alert, sequence: int = 1, origin: Origin = ORIGIN) -> OutRecord:
    return cloudevent(each, source=SOURCE, asset=ASSET, time_ns=START, sequence=sequence, origin=origin)


def body_of(record: OutRecord) -> dict[str, object]:
    return json.loads(record.value or b"")


# ---- canonical JSON


class Word(StrEnum):
    GOOD = "good"


def test_canonical_json_sorts_keys_and_writes_no_spaces():
    assert canonical_json({"b": [1, True, None], "a": {"d": "ü", "c": Word.GOOD}}) == (
        '{"a":{"c":"good","d":"ü"},"b":[1,true,null]}'.encode()
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (0.1 + 0.2, "0.3"),
        (np.float32(1.43), "1.43"),
        (np.float64(171.0), "171.0"),
        (123456789.0, "123457000.0"),
        (0.00000012345678, "1.23457e-07"),
        (-0.0, "0.0"),
        (-1e-300, "-1e-300"),
        (math.nan, "null"),
        (math.inf, "null"),
        (np.int64(2**62), "4611686018427387904"),
        (START, "1795310036123456000"),
        ("a\ud800b", '"a?b"'),
    ],
)
def test_numbers_and_texts_have_one_canonical_form(value: object, text: str):
    assert canonical_json(value) == text.encode()


@given(st.floats())
def test_six_digits_are_kept_and_rounding_twice_changes_nothing(value: float):
    rounded = significant(value)
    if not math.isfinite(value):
        assert rounded is None
    else:
        assert rounded is not None
        assert significant(rounded) == rounded
        assert rounded == pytest.approx(value, rel=5.1e-6, abs=1e-300)


def test_what_has_no_canonical_form_is_refused():
    with pytest.raises(TypeError, match="object"):
        canonical_json({"a": object()})


# ---- identity


def test_incident_ids_are_what_they_were_in_every_version():
    assert incident_id(SOURCE, ASSET, Kind.ANOMALY, "", START) == "eeed78e8-862a-5efa-a164-88bb9eef248d"
    assert (
        incident_id(SOURCE, ASSET, Kind.SENSOR_FAULT, "pressure", START)
        == "b5596840-498b-5588-974b-572c1389908c"
    )


def test_an_incident_id_is_the_uuid5_of_canonical_json():
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "urn:nuwatch:incident")
    text = f'["{SOURCE}","{ASSET}","DATA_GAP","silence",{START}]'
    assert incident_id(SOURCE, ASSET, Kind.DATA_GAP, "silence", START) == str(uuid.uuid5(namespace, text))


def test_every_part_of_the_identity_changes_the_id():
    parts = [SOURCE, ASSET, Kind.DRIFT, "ocnn", START]
    others = ["/nuwatch/plant-b", "poly2/R-102", Kind.MODEL_STALE, "pca", START + 1]
    ids = {incident_id(*parts[:i], other, *parts[i + 1 :]) for i, other in enumerate(others)}
    assert len(ids | {incident_id(SOURCE, ASSET, Kind.DRIFT, "ocnn", START)}) == 6


def test_alert_ids_number_the_events_of_an_incident():
    assert [alert_id("x", n) for n in (1, 2, 10_000)] == ["x:0001", "x:0002", "x:10000"]


# ---- the event


def test_the_design_example_is_read_field_by_field():
    event = parse_alert(DESIGN_EXAMPLE.encode())
    assert event.data.score == SCORE
    assert event.data.contributions == (
        msgspec.structs.replace(TEMPERATURE, low=msgspec.UNSET, high=msgspec.UNSET),
    )
    assert event.data.batch == FACTS.batch
    assert json.loads(canonical_json(event)) == json.loads(DESIGN_EXAMPLE)


def test_an_anomaly_has_the_fields_of_the_design_example_and_no_others_but_the_optional_ones():
    ours, example = body_of(record_of(alert())), json.loads(DESIGN_EXAMPLE)
    assert ours.keys() == example.keys()
    data, expected = ours["data"], example["data"]
    assert isinstance(data, dict)
    assert data.keys() - expected.keys() == {"started_at", "worst_ratio"}
    assert expected.keys() - data.keys() == set()
    band = {"low": 168.2, "high": 173.9}
    expected["contributions"] = [part | band for part in expected["contributions"]]
    for part in ("window", "score", "contributions", "drift", "batch"):
        if part != "window":
            assert data[part] == expected[part]


def test_an_alert_is_a_cloudevent_in_structured_mode_keyed_by_asset():
    record = record_of(alert())
    body = body_of(record)
    assert record.channel is Channel.ALERTS
    assert record.key == ASSET.encode()
    assert record.headers == (
        ("content-type", b"application/cloudevents+json"),
        ("nuwatch-id", record.id.encode()),
    )
    assert body["id"] == record.id == f"{incident_id(SOURCE, ASSET, Kind.ANOMALY, '', START)}:0001"
    assert body["specversion"] == "1.0"
    assert body["time"] == "2026-11-22T01:13:56.123456Z"
    assert body["sequence"] == "0000000001"
    assert (body["subject"], body["partitionkey"]) == (ASSET, ASSET)


def test_attributes_follow_the_rules_of_cloudevents():
    body = body_of(record_of(alert()))
    assert {"id", "source", "specversion", "type"} <= body.keys()
    assert all(body[name] for name in ("id", "source", "type"))
    attributes = {name: value for name, value in body.items() if name != "data"}
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in attributes)
    assert all(isinstance(value, str | bool | int) for value in attributes.values())


def test_offsets_beyond_a_cloudevents_integer_are_text():
    def offset(n: int) -> object:
        return body_of(record_of(alert(), origin=ORIGIN._replace(offset=n)))["nuwatchoffset"]

    assert offset(2**31 - 1) == 2**31 - 1
    assert offset(2**31) == "2147483648"


def test_where_it_came_from_changes_neither_id_nor_data():
    live = record_of(alert())
    replayed = record_of(alert(), origin=Origin("file.csv", 0, 1, True, "9.9"))
    assert live.id == replayed.id
    assert body_of(live)["data"] == body_of(replayed)["data"]
    assert live.value != replayed.value


def test_the_bytes_of_an_event_are_canonical_and_read_back():
    record = record_of(alert())
    assert record.value is not None
    assert record.value == canonical_json(json.loads(record.value))
    assert parse_alert(record.value).data == alert()


def test_not_a_number_becomes_null():
    facts = FACTS._replace(
        contributions=(msgspec.structs.replace(TEMPERATURE, observed=math.nan, sigma=math.inf),),
        window=msgspec.structs.replace(FACTS.window, coverage=math.nan),
    )
    record = record_of(alert(facts=facts))
    assert record.value is not None
    event = parse_alert(record.value)
    assert event.data.contributions[0].observed is None
    assert event.data.contributions[0].sigma is None
    assert event.data.window is not None
    assert event.data.window.coverage is None


def test_raised_updated_and_cleared_carry_their_times_and_states():
    raised, updated, cleared = (
        alert(transition(event, after))
        for event, after in ((EventName.RAISED, 0), (EventName.UPDATED, 60), (EventName.CLEARED, 90))
    )
    assert {raised.incident_id} == {updated.incident_id, cleared.incident_id}
    assert [each.state for each in (raised, updated, cleared)] == ["OPEN", "OPEN", "CLOSED"]
    assert [each.updated_at for each in (raised, updated)] == [
        "2026-11-22T01:13:56.123456Z",
        "2026-11-22T01:14:56.123456Z",
    ]
    assert updated.raised_at == raised.raised_at
    assert (raised.cleared_at, updated.cleared_at) == (None, None)
    assert cleared.cleared_at == cleared.updated_at == "2026-11-22T01:15:26.123456Z"


def test_at_most_eight_contributions_the_largest_first_and_none_without_a_share():
    share = np.array([0.02, 0.3, 0.0, 0.3, 0.05, 0.06, 0.07, 0.08, 0.09, 0.01, 0.02])
    parts = contributions_of(
        [f"s{d}" for d in range(11)],
        ["bar"] * 11,
        share,
        Readings(
            observed=np.arange(11.0),
            expected=np.zeros(11),
            low=np.full(11, -6.0),
            high=np.full(11, 7.0),
            sigma=np.full(11, 2.0),
            quality=np.full(11, Quality.UNCERTAIN, np.uint8),
        ),
    )
    assert [part.sensor for part in parts] == ["s1", "s3", "s8", "s7", "s6", "s5", "s4", "s0"]
    assert parts[1] == Contribution(
        sensor="s3",
        unit="bar",
        share=0.3,
        observed=3.0,
        expected=0.0,
        sigma=1.5,
        quality="UNCERTAIN",
        low=-6.0,
        high=7.0,
    )
    readings = Readings(*([np.ones(2)] * 5), np.ones(2, np.uint8))
    only = contributions_of(["a", "b"], ["bar", "bar"], np.array([1.0, 0.0]), readings)
    assert [part.sensor for part in only] == ["a"]


def test_equal_shares_stay_in_sensor_order():
    share, readings = np.tile([0.01, 0.02], 50), Readings(*([np.ones(100)] * 5), np.ones(100, np.uint8))
    names = [f"s{d}" for d in range(100)]
    parts = contributions_of(names, ["bar"] * 100, share, readings)
    assert [part.sensor for part in parts] == [f"s{d}" for d in (1, 3, 5, 7, 9, 11, 13, 15)]


def test_long_texts_are_cut_and_the_event_says_so():
    assert body_of(record_of(alert()))["data"].get("truncated") is None
    facts = FACTS._replace(batch=Batch(batch_id="x" * 501, lot="y" * 500, recipe=None, phase=None))
    data = parse_alert(record_of(alert(facts=facts)).value or b"").data
    assert data.truncated is True
    assert data.batch == Batch(batch_id="x" * 499 + "…", lot="y" * 500, recipe=None, phase=None)


@pytest.mark.parametrize(
    ("part", "wrong"),
    [('"severity":640', '"severity":0'), ('"event":"RAISED"', '"event":"RISEN"'), ('"1.0"', '"0.3"')],
)
def test_what_is_no_alert_is_refused(part: str, wrong: str):
    with pytest.raises(msgspec.ValidationError):
        parse_alert(DESIGN_EXAMPLE.replace(part, wrong).encode())


# ---- plain words


def test_an_anomaly_says_how_much_which_sensors_and_since_when():
    assert alert().message == (
        "poly2/R-101: anomaly, 43 % over its limit, since 2026-11-22T01:13:56.123456Z; "
        "moved most: temperature 183.4 °C (expected 171.0, normal 168.2 to 173.9)"
    )


def test_who_moved_first_is_said_where_another_sensor_moved_later():
    def told(*moved: tuple[str, str]) -> str:
        facts = FACTS._replace(first_moved=tuple(FirstMoved(sensor, at) for sensor, at in moved))
        return alert(facts=facts).message

    pressure, later = ("pressure", "2026-11-22T01:13:16Z"), ("temperature", "2026-11-22T01:13:56Z")
    assert told(pressure, later).endswith("; pressure moved first, 40s before temperature")
    assert "first" not in told(pressure)
    assert "first" not in told(pressure, ("temperature", pressure[1]))
    data = parse_alert(
        record_of(alert(facts=FACTS._replace(first_moved=(FirstMoved(*pressure),)))).value or b""
    ).data
    assert data.first_moved == (FirstMoved(sensor="pressure", at="2026-11-22T01:13:16Z"),)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (4499.9, 4502.25, "4501.2 bar (expected 4500.5, normal 4499.9 to 4502.2)"),
        (0.0, 1200.0, "4501 bar (expected 4500, normal 0 to 1200)"),
        (4500.49, 4500.51, "4501.200 bar (expected 4500.500, normal 4500.490 to 4500.510)"),
    ],
)
def test_numbers_have_the_decimals_that_the_width_of_the_band_asks_for(low: float, high: float, words: str):
    part = msgspec.structs.replace(
        TEMPERATURE, unit="bar", observed=4501.2, expected=4500.5, low=low, high=high
    )
    assert f"temperature {words}" in alert(facts=FACTS._replace(contributions=(part,))).message


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (1.0, "0 % over its limit"),
        (1.996, "100 % over its limit"),
        (2.0, "2 times its limit"),
        (12.34, "12.3 times its limit"),
        (0.5, "now at 50 % of its limit"),
        (math.nan, "over its limit"),
    ],
)
def test_how_much_is_told_in_the_words_that_fit(ratio: float, words: str):
    facts = Facts(score=msgspec.structs.replace(SCORE, ratio=ratio))
    assert alert(facts=facts).message == f"poly2/R-101: anomaly, {words}, since 2026-11-22T01:13:56.123456Z"


def test_the_range_is_told_only_where_it_was_left():
    fault = Fault(code="STUCK", unit="bar", value=5.0, low=0.0, high=10.0)
    assert alert(kind=Kind.SENSOR_FAULT, subject="p", facts=Facts(fault=fault)).message == (
        "poly2/R-101: sensor p does not move, since 2026-11-22T01:13:56.123456Z; value 5 bar"
    )


def test_an_update_says_for_how_long_and_the_worst():
    facts = FACTS._replace(score=msgspec.structs.replace(SCORE, ratio=0.97), contributions=())
    assert alert(transition(EventName.UPDATED, 3725), facts=facts).message == (
        "poly2/R-101: anomaly for 1h2min, now at 97 % of its limit, since 2026-11-22T01:13:56.123456Z; "
        "worst 1.43 times its limit"
    )


def test_a_cleared_anomaly_says_how_long_and_how_bad_it_was():
    assert alert(transition(EventName.CLEARED, 95, worst_ratio=7.0)).message == (
        "poly2/R-101: anomaly cleared after 1min35s (since 2026-11-22T01:13:56.123456Z); "
        "worst 7 times its limit"
    )


def test_a_sensor_fault_says_what_is_wrong_with_its_value():
    fault = Fault(code="OUT_OF_RANGE", unit="Cel", value=812.0, low=0.0, high=200.0)
    raised = alert(transition(worst_ratio=math.nan), Kind.SENSOR_FAULT, "jacket", Facts(fault=fault))
    assert raised.message == (
        "poly2/R-101: sensor jacket is out of range, since 2026-11-22T01:13:56.123456Z; "
        "value 812 °C; allowed 0 °C to 200 °C"
    )
    assert (raised.subject, raised.fault, raised.worst_ratio) == ("jacket", fault, msgspec.UNSET)
    cleared = alert(transition(EventName.CLEARED, 60), Kind.SENSOR_FAULT, "jacket", Facts(fault=fault))
    assert cleared.message == (
        "poly2/R-101: sensor jacket is well again after 1min (since 2026-11-22T01:13:56.123456Z)"
    )


def test_a_data_gap_says_how_long():
    silent = transition(track=SILENCE, raised_ns=START + 300 * S, at_ns=START + 300 * S)
    assert alert(silent, Kind.DATA_GAP, "silence", Facts()).message == (
        "poly2/R-101: no readings for 5min, the last one at 2026-11-22T01:13:56.123456Z"
    )
    back = silent._replace(event=EventName.CLEARED, at_ns=START + 720 * S)
    assert alert(back, Kind.DATA_GAP, "silence", Facts()).message == (
        "poly2/R-101: readings came again after 12min of silence (since 2026-11-22T01:13:56.123456Z)"
    )
    window = msgspec.structs.replace(FACTS.window, coverage=0.4)
    assert alert(None, Kind.DATA_GAP, "coverage", Facts(window=window)).message == (
        "poly2/R-101: too few real readings, 40 % of the window, since 2026-11-22T01:13:56.123456Z; "
        "windows are not scored meanwhile"
    )


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.ANOMALY])
@pytest.mark.parametrize("event", [EventName.RAISED, EventName.UPDATED, EventName.CLEARED])
def test_every_kind_has_words_with_its_asset_and_nothing_unknown(kind: Kind, event: EventName):
    message = alert(transition(event, 10, worst_ratio=math.nan), kind, "ocnn", Facts()).message
    assert message.startswith("poly2/R-101: ")
    assert "nan" not in message
    assert "None" not in message


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.25s"), (59, "59s"), (61, "1min1s"), (3661, "1h1min"), (90_061, "1d1h"), (700_000, "8d2h")],
)
def test_durations_are_told_in_their_largest_units(seconds: float, text: str):
    assert duration_text(round(seconds * S)) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(183.44, "Cel", "183.4 °C"), (5.0, "bar", "5 bar"), (0.5, "1", "0.5"), (math.nan, "bar", "no value")],
)
def test_quantities_carry_their_unit(value: float, unit: str, text: str):
    assert quantity(value, unit) == text


# ---- threshold versions

VERSION = {
    "version": 2,
    "nu": 0.01,
    "n": 5000,
    "n_eff": 1700.0,
    "tau": 2.9,
    "label": "CALIBRATED",
    "low": 2.9,
    "high": 3.2,
    "start_ns": START - 3600 * S,
    "end_ns": START,
    "trigger": "drift",
    "old_limit": 3.0,
    "new_limit": 3.1,
    "step": 1.03,
    "approved_by": "rule",
    "scales": {"ocnn": {"median": 0.1, "limit": 0.2}},
}


def test_a_threshold_version_is_an_event_with_times_in_place_of_nanoseconds():
    record = threshold_event(
        VERSION, source=SOURCE, asset=ASSET, bundle="ab" * 32, time_ns=START, origin=ORIGIN
    )
    event = parse_threshold(record.value or b"")
    assert (record.channel, record.key) == (Channel.THRESHOLDS, ASSET.encode())
    assert (event.type, event.dataschema) == ("nuwatch.threshold.v1", "threshold.v1.json")
    assert event.id == record.id
    assert event.id.endswith(":0002")
    assert (event.data.start, event.data.end) == (
        "2026-11-22T00:13:56.123456Z",
        "2026-11-22T01:13:56.123456Z",
    )
    assert event.data.new_limit == 3.1
    other = threshold_event(
        VERSION, source=SOURCE, asset=ASSET, bundle="cd" * 32, time_ns=START, origin=ORIGIN
    )
    assert other.id != record.id


def test_a_threshold_version_without_a_field_is_refused():
    wrong = {name: value for name, value in VERSION.items() if name != "nu"}
    with pytest.raises(msgspec.ValidationError, match="nu"):
        threshold_event(wrong, source=SOURCE, asset=ASSET, bundle="", time_ns=START, origin=ORIGIN)


# ---- dead letters


def test_a_dead_letter_keeps_bytes_key_and_headers_and_says_why():
    record = RawRecord(3, 9179, b"R-101", b"\xff{", 1_795_310_036_500, (("trace", b"\x00"),))
    letter = dead_letter(record, Reason.MALFORMED, "got 0xff", topic="sensors", version="1.2", time_ns=START)
    assert letter == OutRecord(
        Channel.DEAD_LETTER,
        "dlq:3:9179:1",
        b"R-101",
        b"\xff{",
        (
            ("trace", b"\x00"),
            ("x-error-reason", b"MALFORMED"),
            ("x-error-detail", b"got 0xff"),
            ("x-error-topic", b"sensors"),
            ("x-error-partition", b"3"),
            ("x-error-offset", b"9179"),
            ("x-error-time", b"2026-11-22T01:13:56.123456Z"),
            ("x-error-received", b"2026-11-22T01:13:56.500Z"),
            ("x-error-version", b"1.2"),
            ("nuwatch-id", b"dlq:3:9179:1"),
        ),
    )


def test_a_dead_letter_without_known_time_has_none_and_its_detail_is_bounded():
    letter = dead_letter(
        RawRecord(0, 1, None, None), Reason.EMPTY, "x" * 501, topic="t", version="1.2", number=7
    )
    headers = dict(letter.headers)
    assert "x-error-time" not in headers
    assert headers["x-error-detail"] == b"x" * 500
    assert letter.id == "dlq:0:1:7"
    assert (letter.key, letter.value) == (None, None)


# ---- short forms


def test_what_fits_is_left_alone():
    record = record_of(alert())
    assert shorten(record, size_of(record)) is record


@pytest.mark.parametrize("spare", [1, 200, 400, 600])
def test_a_short_form_fits_says_so_and_keeps_its_identity(spare: int):
    moved = tuple(FirstMoved(f"s{k}", "2026-11-22T01:13:16Z") for k in range(8))
    facts = FACTS._replace(contributions=(TEMPERATURE,) * 8, first_moved=moved)
    record = record_of(alert(facts=facts))
    short = shorten(record, size_of(record) - spare)
    assert size_of(short) <= size_of(record) - spare
    assert (short.id, short.key, short.headers) == (record.id, record.key, record.headers)
    event = parse_alert(short.value or b"")
    assert event.data.truncated is True
    assert event.data.incident_id == alert().incident_id
    assert shorten(record, size_of(record) - spare) == short


def test_parts_are_given_up_in_a_fixed_order():
    moved = tuple(FirstMoved(f"s{k}", "2026-11-22T01:13:16Z") for k in range(8))
    facts = FACTS._replace(contributions=(TEMPERATURE,) * 8, first_moved=moved)
    record = record_of(alert(facts=facts))
    first_record = shorten(record, size_of(record) - 1)
    first = parse_alert(first_record.value or b"").data
    assert len(first.contributions) == 3
    assert first.first_moved == moved[:3]
    assert first.score == SCORE
    second = parse_alert(shorten(record, size_of(first_record) - 1).value or b"").data
    assert second.score is not None
    assert (len(second.contributions), second.score.per_scorer) == (3, {})
    assert second.score.ratio == 1.43


def test_a_cut_dead_letter_tells_its_original_size():
    letter = dead_letter(RawRecord(0, 1, b"k", b"v" * 5000), Reason.TOO_LARGE, "", topic="t", version="1.2")
    short = shorten(letter, 1000)
    assert size_of(short) == 1000
    assert short.id == letter.id
    assert short.value == b"v" * len(short.value or b"")
    assert short.headers[-1] == ("x-error-original-size", b"5000")


def test_a_cut_dead_letter_keeps_its_original_headers_where_there_is_room():
    raw = RawRecord(0, 1, None, b"v" * 5000, 0, (("h", b"x"),))
    short = shorten(dead_letter(raw, Reason.TOO_LARGE, "", topic="t", version="1.2"), 1000)
    assert short.headers[0] == ("h", b"x")


def test_original_headers_go_before_the_reason_does():
    letter = dead_letter(
        RawRecord(0, 1, None, b"v", 0, (("h", b"x" * 5000),)), Reason.LATE, "", topic="t", version="1.2"
    )
    short = shorten(letter, 1000)
    assert dict(short.headers)["x-error-reason"] == b"LATE"
    assert "h" not in dict(short.headers)


def test_a_limit_below_the_shortest_form_is_an_error_with_a_hint():
    with pytest.raises(ValueError, match="hint"):
        shorten(record_of(alert()), 100)
    with pytest.raises(ValueError, match="hint"):
        shorten(dead_letter(RawRecord(0, 1, None, b"v"), Reason.LATE, "", topic="t", version="1.2"), 10)
