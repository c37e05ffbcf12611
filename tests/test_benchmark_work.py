"""How the detection benchmark does its work: in processes, from memory, and from where an earlier run stopped."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks.detection import detect, kept
from benchmarks.detection.contract import Request
from benchmarks.detection.detect import Task, detection
from benchmarks.detection.remembered import Remembered
from benchmarks.detection.workers import each
from models.registry import get_scorer
from models.scorer import Fitted, Scorer, Windows, silent
from tests.test_detection_benchmark import faulty, labelled, written


def doubled(number: int) -> tuple[int, int, str | None]:
    return 2 * number, os.getpid(), os.environ.get("NPROC")


def refused(number: int) -> int:
    raise ValueError(f"{number} is refused")


def test_tasks_are_done_in_processes_of_one_thread_and_come_back_with_their_places():
    found = list(each(doubled, [[10, 11], [12]], jobs=2))
    assert sorted((place, value) for place, (value, _, _) in found) == [(0, 20), (1, 22), (2, 24)]
    assert all(process != os.getpid() and threads == "1" for _, (_, process, threads) in found)
    by_place = {place: process for place, (_, process, _) in found}
    assert by_place[0] == by_place[1], "a group is done by one process"
    assert os.environ.get("NPROC") is None


def test_one_job_is_done_here():
    assert list(each(doubled, [[1], [2]], jobs=1)) == [
        (place, (2 * number, os.getpid(), os.environ.get("NPROC"))) for place, number in enumerate((1, 2))
    ]


def test_what_a_task_raises_ends_the_work():
    with pytest.raises(ValueError, match="3 is refused"):
        list(each(refused, [[3]], jobs=2))


class _Counted:
    def __init__(self) -> None:
        self.fits = 0

    def __call__(self, *_: object, **__: object) -> Fitted:
        self.fits += 1
        return Fitted({"number": np.array(self.fits)}, {})


def windows_of(seed: int) -> Windows:
    values = np.random.default_rng(seed).normal(size=(4, 3, 2)).astype(np.float32)
    return Windows(values, np.ones(values.shape, bool))  # type: ignore[arg-type] # as NumPy, as training hands them


def test_a_fit_is_remembered_by_everything_that_it_depends_on():
    fit, spec = _Counted(), get_scorer("var").spec
    scorer = Scorer("one", spec, fit, get_scorer("var").score)
    remembered, key = Remembered(), jax.random.key(0)
    same = [remembered(scorer, key, windows_of(1), spec(), silent) for _ in range(2)]
    assert same[0] is same[1]
    assert fit.fits == remembered.spared == 1
    others = (
        (jax.random.key(1), windows_of(1), spec(), {}),
        (key, windows_of(2), spec(), {}),
        (key, windows_of(1), spec(order=2), {}),
        (key, windows_of(1), spec(), {"pretrained": {"w": np.ones(2, np.float32)}}),
        (key, windows_of(1), spec(), {"pretrained": {"w": np.zeros(2, np.float32)}}),
    )
    for rng, windows, options, start in others:
        remembered(scorer, rng, windows, options, silent, **start)
    assert fit.fits == 1 + len(others)
    assert remembered.spared == 1
    remembered(Scorer("two", spec, _Counted(), scorer.score), key, windows_of(1), spec(), silent)
    assert remembered.spared == 1


def test_an_interrupted_run_goes_on_and_other_data_are_judged_anew(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    written(tmp_path / "data" / "a.csv", faulty(), **labelled())
    request = Request(data=tmp_path / "data", datasets=("csv",), scorers=("var", "always_fire"), keep=True)
    first = detection(request)
    assert len(list(kept.folder().iterdir())) == 2
    monkeypatch.setattr(detect, "execute", lambda *_: pytest.fail("it was judged again"))
    assert detection(request) == first
    detect._load.cache_clear()
    written(tmp_path / "data" / "a.csv", faulty(seed=2), **labelled())
    with pytest.raises(pytest.fail.Exception, match="judged again"):
        detection(request)
    detect._load.cache_clear()


def test_a_result_that_cannot_be_read_is_none(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept.folder().mkdir(parents=True)
    (kept.folder() / "name").write_bytes(b"half a file")
    assert kept.get("name") is None


def test_scorers_of_other_packages_and_scores_are_never_kept(tmp_path: Path):
    data = tmp_path / "data"
    written(data / "a.csv", faulty(), **labelled())
    dataset = detect._load("csv", data, False)
    own = Task("csv", data, False, detect.Contender("var", {"var": {}}, False), 0, None, True)
    assert detect._name(dataset, own) is not None
    assert detect._name(dataset, own._replace(scores=tmp_path)) is None
    assert detect._name(dataset, own._replace(contender=detect.Contender("x", {"theirs": {}}, True))) is None
    assert detect._name(dataset, own) != detect._name(dataset, own._replace(seed=1))
