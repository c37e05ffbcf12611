"""The look inside: layouts, what is shown, how it is coloured, and the section of the page."""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from importlib.resources import files
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from models.registry import get_scorer, register
from monitor.cli import nuwatch
from monitor.configuration import parse
from monitor.evaluation.labels import Interval, from_intervals
from monitor.model import Model
from monitor.report.embedding import embedding_section, kinship
from monitor.settings import AssetClass, Settings
from monitor.training import Trained, train
from monitor.training.embedding import MOST, Look
from monitor.training.layout import nearest, neighbours, principal
from tests.worlds import SECOND, START, World, autoregressive, batch_of, configuration_text, run

WITHOUT = dataclasses.replace(get_scorer("pca"), name="without_features", features=None)
SENSORS, STUCK, FAULT = 4, slice(300, 420), slice(600, 660)


def values_beside() -> np.ndarray:
    """A stuck sensor in rows 300 to 419, a fault in rows 600 to 659."""
    values = autoregressive(5, 900, SENSORS)
    values[STUCK, 1] = values[STUCK.start, 1]
    values[FAULT, 0] += 12.0
    return values


def at(row: int) -> int:
    return START + row * SECOND


LABELS = from_intervals([("plant/a", Interval(at(FAULT.start), at(FAULT.stop - 1), "leak"))])


@cache
def settings() -> tuple[Settings, AssetClass]:
    register(WITHOUT, listed=False)
    still = "    drift: {detector: none, tracking: {enabled: false}}"
    text = configuration_text(SENSORS, 8, "{var: {}, without_features: {}}", still)
    whole = parse(text, Path("world.yaml")).settings
    return whole, whole.asset_classes["unit"]


@cache
def learnt() -> Trained:
    history = batch_of(
        {f"plant/{name}": autoregressive(seed, 900, SENSORS) for seed, name in enumerate("ab")}
    )
    look = Look(LABELS, [batch_of({"plant/a": values_beside()})])
    return train(settings()[1], "unit", [history], config_hash="c", look=look)


# -- layouts ------------------------------------------------------------------------------------------------------


def test_principal_components_are_scikit_learns_up_to_signs_that_are_fixed() -> None:
    features = np.random.default_rng(0).normal(size=(50, 4)) @ np.diag([3.0, 2.0, 1.0, 0.5])
    found, explained = principal(features)
    peer = PCA(2).fit(features)
    np.testing.assert_allclose(np.abs(found), np.abs(peer.transform(features)), atol=1e-9)
    assert explained == pytest.approx(peer.explained_variance_ratio_.sum())
    np.testing.assert_allclose(principal(features[:, ::-1])[0], found, atol=1e-9)


@pytest.mark.parametrize("features", [np.ones((13, 3)), np.zeros((13, 0))])
def test_features_that_never_differ_lie_in_one_point(features: np.ndarray) -> None:
    assert principal(features)[1] == 0.0
    np.testing.assert_allclose(principal(features)[0], 0.0, atol=1e-12)
    np.testing.assert_array_equal(neighbours(features, 0), 0.0)
    assert nearest(features).shape == (13, 10)


def test_t_sne_keeps_neighbours_and_one_seed_gives_one_picture() -> None:
    rng = np.random.default_rng(1)
    features = np.concatenate([rng.normal(size=(30, 5)), rng.normal(size=(30, 5)) + 20.0])
    found = neighbours(features, 0)
    np.testing.assert_array_equal(found, neighbours(features, 0))
    beside = NearestNeighbors(n_neighbors=1).fit(found).kneighbors(return_distance=False)[:, 0]
    assert ((beside < 30) == (np.arange(60) < 30)).all()


def test_the_nearest_are_scikit_learns_among_standardised_features() -> None:
    features = np.random.default_rng(2).normal(size=(40, 6)) * [1.0, 100.0, 0.01, 1.0, 1.0, 0.0]
    peer = NearestNeighbors(n_neighbors=10).fit(StandardScaler().fit_transform(features))
    np.testing.assert_array_equal(nearest(features), peer.kneighbors(return_distance=False))


def test_kinship_by_hand() -> None:
    own = np.array([True, True, False, False, False])
    beside = np.array([[1, 2], [2, 3], [3, 4], [2, 4], [2, 3]])
    assert kinship(beside, own) == (0.25, 0.25)
    assert kinship(beside, ~own) == (1.0, 0.5)


# -- what is shown ------------------------------------------------------------------------------------------------


def test_every_scorer_lays_out_the_same_windows_by_its_own_features_where_it_has_some() -> None:
    embedding = learnt().embedding
    assert embedding is not None
    assert [(one.scorer, one.own, one.features) for one in embedding.layouts] == [
        ("var", True, SENSORS),
        ("without_features", False, SENSORS),
    ]
    count = len(embedding.end)
    for layout in embedding.layouts:
        assert layout.components.shape == layout.neighbours.shape == (count, 2)
        assert min(layout.components.std(), layout.neighbours.std()) > 0
    assert embedding.held_out == min(MOST, embedding.of[0])
    held = slice(embedding.held_out)
    assert set(embedding.asset[held]) == {"plant/a", "plant/b"}
    assert np.isin(embedding.ratio[held], learnt().limit_ratios).all()


def test_windows_beside_the_history_have_the_ratios_of_the_live_pipeline() -> None:
    embedding = learnt().embedding
    assert embedding is not None
    model = Model(learnt().bundle, settings()[1])
    live = World(*settings(), learnt(), model).pipeline()
    _, trace = run(live, batch_of({"plant/a": values_beside()}))
    beside = slice(embedding.held_out, None)
    known = dict(zip(trace.end[trace.scored].tolist(), trace.ratio[trace.scored].tolist(), strict=True))
    ends = embedding.end[beside].tolist()
    assert len(ends) > 300
    np.testing.assert_allclose(embedding.ratio[beside], [known[end] for end in ends], rtol=1e-4, atol=1e-4)


def test_labels_name_windows_and_faults_are_shown_however_short_they_are() -> None:
    embedding = learnt().embedding
    assert embedding is not None
    words = embedding.label
    held = words[: embedding.held_out]
    assert set(held) <= {"held out", "leak"}, "what the labels say of the history's own time counts there too"
    beside = list(zip(words[embedding.held_out :], embedding.end[embedding.held_out :], strict=True))
    assert {word for word, _ in beside} == {"normal", "leak"}
    for word, end in beside:
        assert (word == "leak") == (at(FAULT.start) <= end < at(FAULT.stop))
    assert sum(word == "leak" for word, _ in beside) == FAULT.stop - FAULT.start


def test_nothing_is_laid_out_where_nobody_asked_and_the_bundle_is_the_same() -> None:
    history = batch_of(
        {f"plant/{name}": autoregressive(seed, 900, SENSORS) for seed, name in enumerate("ab")}
    )
    plain = train(settings()[1], "unit", [history], config_hash="c")
    assert plain.embedding is None
    assert plain.bundle.id == learnt().bundle.id


def test_recordings_without_a_window_are_told_of_and_the_history_is_still_shown() -> None:
    history = batch_of({"plant/a": autoregressive(0, 900, SENSORS)})
    short = batch_of({"plant/a": autoregressive(1, 4, SENSORS)})
    found = train(settings()[1], "unit", [history], config_hash="c", look=Look(beside=[short]))
    assert found.embedding is not None
    assert found.embedding.of[1] == 0
    assert any("none of those recordings has a window" in text for text in found.warnings)


# -- the page -----------------------------------------------------------------------------------------------------


def test_the_section_draws_every_window_in_every_picture_and_names_the_colours() -> None:
    embedding = learnt().embedding
    assert embedding is not None
    named = replace(embedding, recipe=tuple("AB"[end // SECOND % 2] for end in embedding.end.tolist()))
    section = str(embedding_section(named))
    colourings = re.findall(r"<figcaption>by (\w+)</figcaption>", section)
    assert colourings == ["time", "ratio", "label", "recipe", "asset"] * 2
    pictures = re.findall(r'<svg class="chart look".*?</svg>', section)
    assert len(pictures) == 2 * len(colourings)
    assert {picture.count("M") for picture in pictures} == {len(embedding.end)}
    assert f"held out ({named.label.count('held out'):,})" in section
    assert "features of its own" in section
    assert "it has no features of its own" in section
    assert embedding_section(None) == ""


def test_a_name_cannot_break_the_page() -> None:
    embedding = learnt().embedding
    assert embedding is not None
    hostile = replace(embedding, asset=("<script>", *embedding.asset[1:]))
    assert "<script>" not in str(embedding_section(hostile))


def test_more_names_than_styles_share_the_last() -> None:
    embedding = learnt().embedding
    assert embedding is not None
    many = replace(embedding, asset=tuple(f"pump {k % 9}" for k in range(len(embedding.end))))
    section = str(embedding_section(many))
    assert "4 others" in section
    assert "pump 4 (" in section
    assert "pump 5 (" not in section


# Machado, Oliveira & Fernandes 2009 (IEEE TVCG 15:1291): colours as dichromats see them, in linear RGB.
DICHROMATS = {
    "none": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def linear(colour: str) -> np.ndarray:
    channel = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    t = XYZ @ np.clip(rgb, 0.0, 1.0) / WHITE
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def colours(scheme: int, family: str) -> list[str]:
    """Of the page in its light (0) or dark (1) scheme."""
    css = files("monitor.report").joinpath("page.css").read_text("utf-8")
    return [
        match[scheme] for match in (re.findall(rf"--{family}{k}: (#\w+)", css) for k in range(6)) if match
    ]


@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize("sight", list(DICHROMATS))
def test_colours_of_points_can_be_told_apart_by_everyone_and_from_the_paper(scheme: int, sight: str) -> None:
    css = files("monitor.report").joinpath("page.css").read_text("utf-8")
    paper = re.findall(r"--paper: (#\w+)", css)[scheme]
    for family, least in (("n", 25.0), ("r", 11.0), ("t", 8.0)):
        shown = colours(scheme, family)
        seen = [lab(np.array(DICHROMATS[sight]) @ linear(colour)) for colour in shown]
        pairs = pairwise(seen) if family == "t" else combinations(seen, 2)
        assert min(float(np.linalg.norm(a - b)) for a, b in pairs) > least, family
        assert min(contrast(colour, paper) for colour in shown) > 3.0, family
    lightness = [lab(linear(colour))[0] for colour in colours(scheme, "t")]
    assert lightness == sorted(lightness), "a scale that is read in grey too"


# -- the command --------------------------------------------------------------------------------------------------

CONFIGURATION = """
site: test
source: {kind: files, paths: ["run.csv"], asset: plant/a, time: {column: time}}
times: {unit: s}
asset_classes:
  unit:
    assets: ["plant/*"]
    sampling: 1s
    sensors: {s0: {unit: Cel}, s1: {unit: bar}}
    window: {length: 8}
    calibration: {nu: 0.05, enough: 1}
    scoring: {scorers: {SCORER: {}}, block: 32}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    values = autoregressive(3, 800, 2)
    lines = [
        f"{START // SECOND + t},{v[0]:.4f},{v[1]:.4f},{int(700 <= t < 720)}" for t, v in enumerate(values)
    ]
    (tmp_path / "run.csv").write_text("\n".join(["time,s0,s1,anomaly", *lines[:600]]) + "\n")
    (tmp_path / "fault.csv").write_text("\n".join(["time,s0,s1,anomaly", *lines[600:]]) + "\n")
    (tmp_path / "plant.yaml").write_text(CONFIGURATION.replace("SCORER", "mewma"))
    return tmp_path


def asked(folder: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(nuwatch, ["train", str(folder / "plant.yaml"), *options])
    return done.exit_code, f"{done.output}{done.exception or ''}"


def test_the_report_shows_recordings_beside_the_history_with_their_labels(folder: Path) -> None:
    report = folder / "out.html"
    options = ["--show", str(folder / "fault*.csv"), "--label-column", "anomaly", "--allow-uncalibrated"]
    code, text = asked(folder, "--report", str(report), *options)
    assert code == 0, text
    page = report.read_text()
    assert "A look inside" in page
    assert "anomaly (20)" in page


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--label-column", "anomaly"], "expected --report"),
        (["--show", "fault.csv"], "expected --report"),
        (["--report", "r.html", "--label-column", "anomly"], "anomly"),
        (
            ["--report", "r.html", "--label-column", "anomaly", "--labels", "plant.yaml"],
            "expected one of them",
        ),
        (["--report", "r.html", "--show", "nothing*.csv"], "nothing*.csv"),
    ],
)
def test_what_cannot_be_shown_is_said_before_anything_is_trained(
    folder: Path, options: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    code, text = asked(folder, *options)
    assert code != 0
    assert words in text
    assert not (folder / "bundle").exists()


def test_an_unknown_scorer_is_named_with_those_that_there_are(folder: Path) -> None:
    (folder / "plant.yaml").write_text(CONFIGURATION.replace("SCORER", "mewna"))
    code, text = asked(folder, "--report", str(folder / "r.html"))
    assert code != 0
    assert "mewna" in text
    assert "mewma" in text
