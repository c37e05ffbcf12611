from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from connectors.records import Context
from monitor.evaluation.comparison import Planted, compare
from monitor.evaluation.evaluate import evaluate
from monitor.evaluation.incident_log import Contribution, Incident
from monitor.evaluation.labels import Interval, Labels, from_intervals
from monitor.quantities import NS_PER_S
from monitor.report import (
    ReplayMeta,
    SensorRow,
    TrainingMeta,
    comparison_table,
    paths,
    replay_report,
    text_table,
    training_report,
)
from monitor.report.charts import Line, line_chart, x_axis, y_axis
from monitor.report.columns import columns_of
from monitor.report.markup import Markup, data_block, duration, number, percent, tag
from monitor.report.scales import Linear, bend, nice_ticks, tick_text, time_ticks
from monitor.thresholds.threshold import Estimate
from monitor.trace import Trace
from tests.traces import T0, S, incident, trace_of

HOSTILE = "<script>alert('\"&')</script>"
VOID = {"meta", "br", "hr"}


class Page(HTMLParser):
    """Elements by name with their attributes, and whether every opened element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = list[str]()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str, style: str = "") -> list[dict[str, str | None]]:
        return [a for t, a in self.elements if t == tag and style in (a.get("class") or "")]


def wavy(windows: int, faulty: slice, seed: int = 1) -> np.ndarray:
    ratio = np.random.default_rng(seed).gamma(2, 0.2, windows)
    ratio[faulty] += 1.5
    return ratio


def small_replay() -> tuple[Trace, list[Incident], Labels]:
    trace = trace_of({"poly/R-1": wavy(300, slice(100, 150)), "poly/R-2": wavy(300, slice(0, 0), 2)})
    moved = (Contribution("temperature", "Cel", 0.7, 183.4, 171.0, 5.2), Contribution("pressure", "bar", 0.3))
    incidents = [
        incident("poly/R-1", 110, 160, contributions=moved, message="temperature is high"),
        incident("poly/R-2", 50, None, "SENSOR_FAULT", "pressure"),
    ]
    return trace, incidents, from_intervals([("poly/R-1", Interval(T0 + 101 * S, T0 + 150 * S, "fouling"))])


def replay_page(labels: Labels | None = None, meta: ReplayMeta | None = None) -> str:
    trace, incidents, known = small_replay()
    labels = known if labels is None else labels
    evaluation = evaluate(trace, incidents, labels, nu=0.01)
    return replay_report([trace], incidents, labels, [evaluation], meta or ReplayMeta("Replay"))


def training_page(**changes: object) -> str:
    estimate = Estimate(
        nu=0.01,
        n=5000,
        tau=12.0,
        n_eff=416.7,
        median=0.2,
        threshold=0.93,
        low=0.81,
        high=1.07,
        enough=False,
        missing=14_200,
        smallest_p=0.0002,
        source="history",
        start_ns=T0,
        end_ns=T0 + 5000 * S,
        label="UNCALIBRATED",
    )
    values: dict[str, object] = {
        "title": "Training",
        "estimate": estimate,
        "scorer_estimates": {"ocnn": estimate},
        "curves": {"lstm": {"train": (5.0, 0.2, 0.1), "validation": (5.0, 0.3, 0.2)}, "pca": {}},
        "counts": {"windows fit": 12_345},
        "limit_ratios": wavy(500, slice(0, 0)),
        "sensors": (SensorRow("temperature", "Cel", "pv", 171.2, 0.42, 0.0, 250.0, 60.0),),
    }
    return training_report(TrainingMeta(**{**values, **changes}))  # type: ignore[arg-type]


def test_a_replay_page_has_a_timeline_per_asset_with_a_panel_per_sensor_and_one_for_the_ratio() -> None:
    page = Page(replay_page())
    drawn = [svg["id"] for svg in page.of("svg", "timeline")]
    gallery = [f"window-{kind}-{k}" for kind in ("anomalous", "normal") for k in range(3)]
    assert drawn == ["timeline-0", "timeline-1", *gallery, "close-0", "close-1"]
    panels = [r["data-track"] for r in page.of("text", "readout")]
    assert panels[:3] == ["ratio", "s0", "s1"]


def test_a_replay_page_shows_figures_labels_and_incidents_with_the_sensors_that_moved() -> None:
    text = replay_page()
    for expected in ("F1", "ROC-AUC", "fouling", "temperature is high", "183.40", "171.00", "+5.2 sigma"):
        assert expected in text
    page = Page(text)
    assert len(page.of("rect", "kind ANOMALY")) >= 1
    assert len(page.of("rect", "label-band")) >= 3
    assert {a["id"] for t, a in page.elements if t == "details" and "id" in a} == {
        "incident-poly/R-1-ANOMALY-110",
        "incident-poly/R-2-SENSOR_FAULT-50",
    }


def test_the_most_anomalous_and_the_most_normal_windows_are_shown_apart_with_what_is_known_of_them() -> None:
    trace, incidents, labels = small_replay()
    trace.ratio[[120, 128, 140, 340]] = 9.0, 8.0, 7.0, -3.0
    trace.contributions[120] = 0.9, 0.1
    evaluation = evaluate(trace, incidents, labels, nu=0.01)
    text = replay_report([trace], incidents, labels, [evaluation], ReplayMeta("x", spans={"reactor": 10}))
    heads = re.findall(r'<summary><span class="when">([^<]*)</span> (poly[^<]*)</summary>', text)
    assert heads[0] == (
        "2026-01-01T00:02:01Z",
        "poly/R-1: ratio 9.00, labelled anomalous (fouling), during anomaly",
    )
    assert heads[1][0] == "2026-01-01T00:02:21Z"  # the second largest overlaps the first
    assert heads[3] == ("2026-01-01T00:00:41Z", "poly/R-2: ratio -3.00, no label, outside incidents")
    (block,) = re.findall(r'id="window-anomalous-0-data">(.*?)</script>', text)
    assert json.loads(block)["windows"] == 10
    first = text[text.index("window-anomalous-0") - 4000 : text.index("window-anomalous-0")]
    assert first.index("temperature") < first.index("pressure")
    assert "90.0" in first


def test_an_incident_tells_in_which_order_sensors_moved() -> None:
    trace, incidents, labels = small_replay()
    moved = (("pressure", T0 + 70 * S), ("temperature", T0 + 110 * S))
    told = [dataclasses.replace(incidents[0], first_moved=moved)]
    text = replay_report([trace], told, labels, [evaluate(trace, told, labels, nu=0.01)], ReplayMeta("x"))
    order = "pressure at 2026-01-01T00:01:10Z; temperature 40\u00a0s later"
    assert f"Left their normal bands, in this order: {order}." in text


def test_curves_are_drawn_with_labels_and_left_out_without() -> None:
    assert "ROC: recall against false alarms" in replay_page()
    without = replay_page(Labels())
    assert "ROC: recall against false alarms" not in without
    assert "no labels for these windows" in without
    assert "unlabelled (600)" in without


@pytest.mark.parametrize("text", [replay_page(), training_page()], ids=["replay", "training"])
def test_a_page_loads_nothing_from_outside(text: str) -> None:
    page = Page(text)
    assert not {"link", "img", "iframe", "image", "use"} & {t for t, _ in page.elements}
    for name, attributes in page.elements:
        assert not attributes.get("src"), name
        assert (attributes.get("href") or "#").startswith("#"), name
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    (policy,) = [a["content"] for a in page.of("meta") if a.get("http-equiv")]
    assert policy is not None
    assert "default-src 'none'" in policy


def test_whatever_a_message_names_is_text_on_the_pages() -> None:
    trace = trace_of({HOSTILE: wavy(60, slice(20, 30))}, sensors=(HOSTILE, "pressure"))
    trace = trace._replace(
        asset_class=HOSTILE, scorers=(HOSTILE,), contexts=(Context(HOSTILE, HOSTILE, HOSTILE),)
    )
    event = Incident(
        HOSTILE,
        HOSTILE,
        HOSTILE,
        T0 + 20 * S,
        T0 + 20 * S,
        None,
        5,
        HOSTILE,
        (Contribution(HOSTILE, HOSTILE),),
        ((HOSTILE, T0 + 20 * S),),
        HOSTILE,
    )
    labels = from_intervals([(HOSTILE, Interval(T0 + 20 * S, T0 + 30 * S, HOSTILE))])
    evaluation = evaluate(trace, [event], labels, nu=0.01)
    meta = ReplayMeta(HOSTILE, {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}, [HOSTILE])
    training = training_page(
        title=HOSTILE,
        facts={HOSTILE: HOSTILE},
        curves={HOSTILE: {HOSTILE: (1.0, 2.0)}},
        counts={HOSTILE: 1},
        warnings=[HOSTILE],
        sensors=[SensorRow(HOSTILE, HOSTILE, HOSTILE, 1.0, 1.0)],
    )
    for text in (replay_report([trace], [event], labels, [evaluation], meta), training):
        page = Page(text)
        assert "<script>alert" not in text
        # the page's own script, and the data of its timelines
        assert all(a.get("type") == "application/json" for a in page.of("script")[:-1])
        assert "".join(page.text).count(HOSTILE) >= 5


def test_an_incident_that_covers_an_empty_time_or_an_unknown_asset_is_listed_all_the_same() -> None:
    trace, _, labels = small_replay()
    incidents = [incident("poly/R-1", 9_999), incident("elsewhere", 5)]
    text = replay_report(
        [trace], incidents, labels, [evaluate(trace, incidents, labels, nu=0.01)], ReplayMeta("x")
    )
    assert sum("id" in each for each in Page(text).of("details")) == 2


def test_windows_that_were_never_scored_make_a_page_without_scores() -> None:
    trace = trace_of({"R": [np.nan] * 50})
    text = replay_report([trace], [], Labels(), [evaluate(trace, [], nu=0.01)], ReplayMeta("x"))
    assert "no window was scored" in text
    assert "no scores" in text
    assert Page(text).of("rect", "unscored")


def test_masked_sensors_and_a_single_window_can_be_drawn() -> None:
    trace = trace_of({"R": [0.5], "Q": []})
    trace = trace._replace(observed=np.full((1, 2), np.nan), expected=np.full((1, 2), np.nan))
    page = Page(replay_report([trace], [], Labels(), [evaluate(trace, [], nu=0.1)], ReplayMeta("x")))
    drawn = [svg["id"] for svg in page.of("svg", "timeline")]
    assert drawn == ["timeline-0", "window-anomalous-0", "window-normal-0"]


def test_without_any_window_the_page_says_so() -> None:
    trace = trace_of({"R": []})
    text = replay_report([trace], [], Labels(), [evaluate(trace, [], nu=0.1)], ReplayMeta("x"))
    assert "no window was scored" in text


def test_an_extreme_of_one_window_survives_the_columns() -> None:
    ratio = np.full(50_000, 0.5)
    ratio[31_234] = 77.0
    trace = trace_of({"R": ratio})
    trace.observed[40_001, 1] = -5.0
    text = replay_report([trace], [], Labels(), [evaluate(trace, [], nu=0.1)], ReplayMeta("x"))
    (block,) = re.findall(r'<script type="application/json" id="timeline-0-data">(.*?)</script>', text)
    tracks = {track["name"]: track for track in json.loads(block)["tracks"]}
    assert len(tracks["ratio"]["high"]) <= 2000
    assert max(tracks["ratio"]["high"]) == 77.0
    assert min(tracks["s1"]["low"]) == -5.0


@pytest.mark.parametrize(("assets", "windows", "sensors"), [(1, 50_000, 8), (60, 830, 8), (3, 2_000, 52)])
def test_a_page_of_many_windows_stays_under_five_megabytes(assets: int, windows: int, sensors: int) -> None:
    rng = np.random.default_rng(0)
    names = [f"R-{k}" for k in range(assets)]
    trace = trace_of(
        {n: rng.gamma(2, 0.3, windows) for n in names}, sensors=[f"sensor {k}" for k in range(sensors)]
    )
    noisy = trace.expected + rng.normal(0, 0.5, trace.observed.shape)
    trace = trace._replace(
        observed=noisy, scorers=("a", "b"), scorer_ratio=rng.gamma(2, 0.3, (len(trace.end), 2))
    )
    moved = tuple(Contribution(s, "Cel", 0.1, 171.23, 168.11, 4.2) for s in trace.sensors[:8])
    incidents = [
        incident(n, float(at), at + 20.0, contributions=moved) for n in names for at in range(5, 800, 100)
    ]
    text = replay_report(
        [trace], incidents, Labels(), [evaluate(trace, incidents, nu=0.01)], ReplayMeta("big")
    )
    assert len(text.encode()) < 5_000_000
    drawn = len(Page(text).of("h3"))
    assert drawn >= 3 or assets == 1
    assert ("assets: those with the most severe incidents" in text) == (assets == 60)


def test_a_training_page_says_what_is_missing_for_a_calibrated_limit() -> None:
    text = training_page()
    for expected in (
        "UNCALIBRATED",
        "14,200 more scores",
        "0.8100 to 1.070",
        "12,345",
        "171.20",
        "Fitted in one go",
    ):
        assert expected in text
    assert len(Page(text).of("svg", "chart")) == 2


def test_a_pair_of_pages_is_the_same_for_the_same_data() -> None:
    assert replay_page() == replay_page()


def test_plain_text_is_escaped_and_only_markup_is_not() -> None:
    got = tag("p", "<b>", Markup("<i/>"), title='"x" & y', class_="a", data_track=None)
    assert got == '<p title="&quot;x&quot; &amp; y" class="a">&lt;b&gt;<i/></p>'


def test_a_data_block_cannot_end_its_element() -> None:
    block = data_block("x", {"name": "</script><script>alert(1)"})
    assert block.count("</script>") == 1
    assert json.loads(re.sub("<[^>]*>", "", block, count=1).removesuffix("</script>")) == {
        "name": "</script><script>alert(1)"
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (0.0, "0.00"),
        (1.5e9, "1.50e+09"),
        (2e-6, "2.00e-06"),
    ],
)
def test_a_number_has_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_what_is_not_there_is_a_dash() -> None:
    assert [number(None), number(float("nan")), percent(None), duration(None)] == ["\u2014"] * 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (5.25, "5.25 s"),
        (59.0, "59 s"),
        (61.0, "1 min 1 s"),
        (7200.0, "2 h"),
        (90_000.0, "1 d 1 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds).replace("\u00a0", " ") == text


def test_the_ratio_axis_is_straight_to_the_limit_and_logarithmic_above() -> None:
    assert bend([-9.0, -0.5, 0.0, 1.0, np.e, np.e**3]) == pytest.approx([-1.0, -0.5, 0.0, 1.0, 2.0, 4.0])


def test_ticks_are_round_and_inside() -> None:
    assert nice_ticks(0.0, 1.0, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert nice_ticks(73.1, 80.4, 3) == pytest.approx([75.0, 77.5, 80.0])
    assert nice_ticks(5.0, 5.0) == [5.0]
    assert [tick_text(v, 2.5) for v in (75.0, 77.5)] == ["75.0", "77.5"]
    assert [tick_text(v, 0.02) for v in (0.0, 0.02)] == ["0.00", "0.02"]


def test_time_ticks_stand_where_a_round_time_is_reached_and_a_gap_takes_no_room() -> None:
    seconds = [*range(1, 600), *range(86_400, 87_000)]
    ticks = time_ticks(T0 + NS_PER_S * np.array(seconds, np.int64))
    assert [(t.text, t.date) for t in ticks[:3]] == [
        ("00:00:01", "2026-01-01"),
        ("00:05", ""),
        ("00:00", "2026-01-02"),
    ]
    assert ticks[2].column == 599


def test_a_tick_shows_the_round_time_that_its_column_holds() -> None:
    ends = T0 + NS_PER_S * (24 + 25 * np.arange(100, dtype=np.int64))
    assert [t.text for t in time_ticks(ends)][:3] == ["00:00", "00:10", "00:20"]


def test_a_long_curve_is_thinned_without_losing_its_corner() -> None:
    # 100,000 points of which all but ten lie on the second half: an even choice by number would cut the corner
    steep = (
        np.append(np.linspace(0, 0.4, 10), np.full(100_000, 0.4)),
        np.append(np.ones(10), np.linspace(1, 0, 100_000)),
    )
    line = Line("main", "x", *steep)
    drawn = Page(line_chart("t", [line], x_axis("x", 0, 1), y_axis("y", 0, 1))).of("path", "line main")[0][
        "d"
    ]
    points = [tuple(map(float, p.split())) for p in re.findall(r"[ML]([\d.]+ [\d.]+)", drawn or "")]
    assert 100 < len(points) <= 500
    corner = float(x_axis("x", 0, 1).scale(0.4)), float(y_axis("y", 0, 1).scale(1.0))
    assert min(abs(px - corner[0]) + abs(py - corner[1]) for px, py in points) < 2.0


def test_columns_keep_the_smallest_and_the_largest_of_their_windows() -> None:
    values = np.array([3.0, np.nan, -1.0, 5.0, np.nan, np.nan, 2.0, 2.0])
    columns = columns_of(8, 4)
    assert columns.edges.tolist() == [0, 2, 4, 6, 8]
    np.testing.assert_array_equal(columns.largest(values), [3.0, 5.0, np.nan, 2.0])
    np.testing.assert_array_equal(columns.smallest(values), [3.0, -1.0, np.nan, 2.0])
    np.testing.assert_array_equal(columns.mean(values), [3.0, 2.0, np.nan, 2.0])
    assert columns_of(3, 10).edges.tolist() == [0, 1, 2, 3]


def test_paths_break_where_there_is_nothing_and_show_a_lone_point() -> None:
    nan = np.nan
    assert paths.line(np.array([1.0, 2.25, nan, 3.0])) == "M0 1L1 2.2M3 3h0"
    assert paths.envelope(np.array([1.0, 2.0, nan]), np.array([4.0, 2.0, nan])) == "M0 1V4L1 2"
    assert paths.area(np.array([1.0, 2.0, nan]), np.array([4.0, 5.0, nan])) == "M0 1L1 2L1 5L0 4Z"


def test_a_scale_of_no_width_does_not_divide_by_zero() -> None:
    assert float(Linear(2.0, 2.0, 0.0, 100.0)(2.0)) == 0.0


def printed(table: object) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_the_terminal_table_shows_pooled_and_each_asset_and_what_cannot_be_said() -> None:
    trace, incidents, labels = small_replay()
    text = printed(text_table(evaluate(trace, incidents, labels, nu=0.01)))
    for expected in (
        "pooled",
        "poly/R-1",
        "ROC-AUC",
        "faults found",
        "1 of 1",
        "fouling",
        "note: without labels",
    ):
        assert expected in text


def test_the_terminal_does_not_read_names_as_markup() -> None:
    text = printed(text_table(evaluate(trace_of({"[red]R[/red]": [0.5], "[/x]": [0.5]}), [], nu=0.01)))
    assert "[red]R[/red]" in text


def test_planted_and_found_is_printed_with_delays_and_false_incidents() -> None:
    what = [Planted("A", "fouling", T0, T0 + 100 * S), Planted("A", "leak", T0 + 200 * S, T0 + 300 * S)]
    what.append(Planted("B", "grade change", T0, T0 + 100 * S, benign=True))
    text = printed(comparison_table(compare(what, [incident("A", 30, 90), incident("A", 150, 160)])))
    for expected in (
        "found",
        "missed",
        "quiet, as it should be",
        "30 s",
        "1 of 2 faults found",
        "false incident: 2026",
    ):
        assert expected in text.replace("\u00a0", " ")


# A real browser: what no parser can say.

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
QUIET = ("--disable-background-networking", "--enable-logging=stderr", "--virtual-time-budget=2000")
PROBE = """<script>
window.addEventListener("error", (event) => document.title = "broken: " + event.message);
</script></head>"""
ACTIONS = """<script>
const svg = document.querySelector("svg.timeline"), box = svg.getBoundingClientRect();
const send = (kind, share) => svg.dispatchEvent(new PointerEvent(kind,
  {bubbles: true, button: 0, clientX: box.left + share * box.width, clientY: box.top + 90}));
send("pointerdown", 0.4); send("pointermove", 0.45); send("pointerup", 0.5); send("pointermove", 0.92);
</script></body>"""


def browse(tmp_path: Path, text: str) -> tuple[str, str]:
    """The page's document after its script ran, and what the browser's console said."""
    path = tmp_path / "page.html"
    path.write_text(text, "utf-8")
    command = [
        str(BROWSER),
        *FLAGS,
        *QUIET,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@needs_browser
def test_a_browser_shows_both_pages_without_a_complaint(tmp_path: Path) -> None:
    for text, pictures in ((replay_page(), 10), (training_page(), 0)):
        document, console = browse(tmp_path, text)
        assert console == ""
        assert document.count('class="timeline"') == pictures
        assert "<path" in document


@needs_browser
def test_pointing_reads_values_and_dragging_zooms(tmp_path: Path) -> None:
    # the page's policy forbids foreign scripts, so the test's own need it gone
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*/>', "", replay_page())
    document, console = browse(tmp_path, text.replace("</head>", PROBE).replace("</body>", ACTIONS))
    assert console == ""
    assert "<title>Replay</title>" in document
    (readout,) = re.findall(r'data-track="ratio"[^>]*>(2026-01-01T[^<]*)<', document)
    # columns 104 to 137 of 300 fill the view; 92 % of the way from gutter to edge is column 134, at second 135
    assert readout.startswith("2026-01-01T00:02:15Z")
    first = re.search(r'class="plot"[^>]*viewBox="([^"]*)"', document)
    assert first is not None
    left, _, width, _ = (float(v) for v in first[1].split())
    assert left > 50
    assert width < 60


@needs_browser
def test_a_foreign_script_does_not_run_under_the_pages_policy(tmp_path: Path) -> None:
    text = replay_page().replace("</body>", "<script>document.title = 'owned'</script></body>")
    document, console = browse(tmp_path, text)
    assert "<title>Replay</title>" in document
    assert "Content Security Policy" in console
