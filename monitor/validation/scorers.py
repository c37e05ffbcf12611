"""Whether the scorers of a class exist and know their options. Imports the numerics, which takes a second."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from models.bundle import BundleError, build_spec
from models.registry import BrokenScorerError, UnknownScorerError, get_scorer, scorer_names
from monitor.settings import Auto, Scoring
from monitor.validation.finding import Findings
from monitor.yaml_lines import Path


def check_scorers(scoring: Scoring, at: Path, findings: Findings) -> None:
    """Every scorer and every option by itself, and how `auto` is to choose.

    Args:
        scoring: the section.
        at: where it stands.
        findings: take what is wrong.
    """
    if not scoring.named and scoring.scorers != "auto":
        findings.error((*at, "scorers"), "no scorer", f"auto, or at least one of {', '.join(scorer_names())}")
    _check_each(scoring.named, (*at, "scorers"), findings)
    _check_auto(scoring, (*at, "auto"), findings)


def _check_auto(scoring: Scoring, at: Path, findings: Findings) -> None:
    auto = scoring.auto
    _check_each(auto.candidates, (*at, "candidates"), findings)
    findings.require(
        0.0 <= auto.margin < 1.0, (*at, "margin"), f"got {auto.margin:g}", "0 or more, and less than 1"
    )
    findings.require(auto.faults >= 1, (*at, "faults"), f"got {auto.faults}", "1 or more")
    findings.require(auto.fit_windows >= 1, (*at, "fit_windows"), f"got {auto.fit_windows}", "1 or more")
    if auto != Auto() and scoring.scorers != "auto":
        findings.warning(at, "has no effect: `scorers` names the scorers", "scorers: auto")


def _check_each(scorers: Mapping[str, Mapping[str, Any]], at: Path, findings: Findings) -> None:
    for name, options in scorers.items():
        try:
            spec = get_scorer(name).spec
        except UnknownScorerError:
            findings.error((*at, name), f"unknown scorer {name!r}", closest(name, scorer_names()))
            continue
        except BrokenScorerError as error:
            findings.error((*at, name), str(error), "a scorer that can be loaded")
            continue
        _check_options(spec, options, (*at, name), findings)


def _check_options(spec: type[Any], options: Mapping[str, Any], at: Path, findings: Findings) -> None:
    known = [one.name for one in dataclasses.fields(spec)]
    for option, value in options.items():
        if option not in known:
            findings.error((*at, option), f"unknown option {option!r}", closest(option, known))
            continue
        try:
            build_spec(spec, {option: value})
        except BundleError as error:
            findings.error((*at, option), f"got {error.got}", str(error.expected))


def closest(name: str, known: tuple[str, ...] | list[str]) -> str:
    """What was probably meant, else all that is known."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"one of {', '.join(known)}"
