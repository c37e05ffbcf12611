"""Scorers of other packages: found by their entry points, used like the built-in ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from models import registry
from models.registry import (
    BrokenScorerError,
    UnknownScorerError,
    built_in_names,
    candidate_names,
    get_scorer,
    scorer_names,
)
from monitor.bundles import read_bundle, write_bundle
from monitor.model import Model
from monitor.settings import Scoring
from monitor.validation.finding import Findings
from monitor.validation.scorers import check_scorers
from monitor.yaml_lines import load
from tests.foreign_scorer import install
from tests.worlds import World, autoregressive, batch_of, configuration_text, run, world


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages; what is loaded from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.delitem(sys.modules, "their_package", raising=False)
    yield tmp_path
    sys.modules.pop("their_package", None)


def test_an_installed_scorer_is_listed_and_found_by_its_name(site):
    assert "their_scorer" not in scorer_names()
    install(site)
    assert "their_scorer" in scorer_names()
    assert candidate_names() == ("lstm_autoencoder", "mewma", "ocnn", "pca", "their_scorer", "var")
    assert "their_scorer" not in built_in_names()
    assert get_scorer("their_scorer").name == "their_scorer"
    assert get_scorer("their_scorer") is get_scorer("their_scorer")


def test_it_is_trained_saved_loaded_and_run_like_any_other(site, tmp_path):
    install(site)
    text = configuration_text(2, 8, "{their_scorer: {power: 1.0}}")
    made = world(text, [batch_of({"plant/a": autoregressive(1, 1500, 2)})])
    write_bundle(made.trained.bundle, tmp_path / "bundle")
    model = Model(read_bundle(tmp_path / "bundle"), made.asset_class)
    assert model.bundle.scorers[0].spec.power == 1.0
    again = World(made.settings, made.asset_class, made.trained, model)
    _, trace = run(again.pipeline(), batch_of({"plant/a": autoregressive(2, 60, 2)}))
    assert trace.scorers == ("their_scorer",)
    assert trace.scored[-1]


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ("their_scorer = their_package:WRONG", "got str, expected a models.scorer.Scorer"),
        ("their_scorer = their_package:NOTHING", "AttributeError"),
        ("their_scorer = no_package:SCORER", "No module named 'no_package'"),
        ("renamed = their_package:SCORER", "calls itself 'their_scorer'"),
    ],
)
def test_a_promise_that_is_not_kept_is_told_with_the_package(site, points, told):
    install(site, points)
    name = points.split(" ")[0]
    with pytest.raises(BrokenScorerError, match="their-package") as caught:
        get_scorer(name)
    assert told in str(caught.value)
    findings = Findings("plant.yaml", load("scorers: {}"))
    check_scorers(Scoring(scorers={name: {}}), ("scoring",), findings)
    assert told in str(findings.sorted()[0])


def test_a_built_in_name_cannot_be_taken(site):
    install(site, "pca = their_package:SCORER")
    assert get_scorer("pca").name == "pca"


@pytest.mark.usefixtures("site")
def test_what_is_not_installed_is_unknown():
    with pytest.raises(UnknownScorerError, match="their_scorer"):
        get_scorer("their_scorer")
