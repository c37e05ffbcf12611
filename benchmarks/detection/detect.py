"""The section ``detection``: how well each scorer, alone and in the default combination, finds labelled faults."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from benchmarks.detection import kept
from benchmarks.detection.contenders import ALWAYS, DEFAULT, Contender, contenders, own_names
from benchmarks.detection.contract import Request, Section, Teller
from benchmarks.detection.csv_folder import NAME as CSV
from benchmarks.detection.csv_folder import csv_folder
from benchmarks.detection.data import DataSet
from benchmarks.detection.execute import Executed, Outcome, execute
from benchmarks.detection.measures import SetFigures, set_figures
from benchmarks.detection.processes import reactor, tanks
from benchmarks.detection.remembered import Remembered
from benchmarks.detection.result import Result, section_of
from benchmarks.detection.score_files import write_scores
from benchmarks.detection.setting import asset_class_of, description
from benchmarks.detection.simulated import plant
from benchmarks.detection.skab import skab
from benchmarks.detection.tep import tep
from benchmarks.detection.workers import each
from monitor.errors import UsageError

LOADERS: Final[Mapping[str, Callable[..., DataSet]]] = {
    "skab": skab,
    "tep": tep,
    "plant": plant,
    "reactor": reactor,
    "tanks": tanks,
}
_UNASKED: Final = ("skab", "tep", "plant")
"""What is measured unless data sets are named: the development sets of `processes` are not."""
_MOST_MODELS: Final = 20
_OF_ONES_OWN: Final = (DEFAULT, "pca", "var")
"""On somebody's own data, unless scorers are named: the default, and two cheap peers."""


class Task(NamedTuple):
    """One configuration and seed on one data set.

    Attributes:
        dataset: its name.
        data: folder of the data; None: `NUWATCH_DATA`.
        quick: few files and faults.
        contender: the configuration.
        seed: of training.
        scores: where its scores are written; None: nowhere.
        keep: whether its result may be of an earlier run, and is kept for a later one.
    """

    dataset: str
    data: Path | None
    quick: bool
    contender: Contender
    seed: int
    scores: Path | None
    keep: bool = False


def detection(request: Request) -> Section:
    """The section.

    Raises:
        UsageError: a data set or scorer is not there, or a CSV file cannot be used.
    """
    tasks = _tasks(request)
    groups = _groups(tasks)
    order = [place for group in groups for place in group]
    request.teller.stage("detection", len(tasks))
    found: dict[int, Result] = {}
    for number, result in each(work, [[tasks[place] for place in group] for group in groups], request.jobs):
        found[order[number]] = result
        request.teller.step(f"{result.dataset} {result.contender} seed {result.seed}")
    results = [found[place] for place in range(len(tasks))]
    notes = [note for name in _names(request) for note in _notes(_load(name, request.data, request.quick))]
    if request.scores is not None:
        notes.append(f"scores: written to {request.scores}, of {_first(tasks)} with seed {request.seeds[0]}")
    return section_of(results, notes)


def _notes(dataset: DataSet) -> list[str]:
    """What was assumed when it was read; of somebody's own data also what the settings came to."""
    told = [description(model) for model in dataset.models] if dataset.name == CSV else []
    if len(told) > _MOST_MODELS:
        told = [*told[:_MOST_MODELS], f"... and {len(told) - _MOST_MODELS} more models"]
    return [*dataset.notes, *told]


def _names(request: Request) -> tuple[str, ...]:
    for name in request.datasets:
        if name not in (*LOADERS, CSV):
            raise UsageError(f"--dataset: got {name!r}, expected one of {', '.join((*LOADERS, CSV))}")
    if CSV in request.datasets and request.data is None:
        raise UsageError("--dataset csv: --data names the folder of the CSV files")
    return request.datasets or _UNASKED


def _tasks(request: Request) -> list[Task]:
    tasks: list[Task] = []
    for name in _names(request):
        _load(name, request.data, request.quick)  # what is missing is told before hours of work
        only = request.scorers or (_OF_ONES_OWN if name == CSV else ())
        for place, contender in enumerate(contenders(only)):
            for seed in request.seeds if contender.seeded else request.seeds[:1]:
                writes = place == 0 and seed == request.seeds[0]
                tasks.append(
                    Task(
                        name,
                        request.data,
                        request.quick,
                        contender,
                        seed,
                        request.scores if writes else None,
                        request.keep,
                    )
                )
    return tasks


def _first(tasks: Sequence[Task]) -> str:
    return next((task.contender.name for task in tasks if task.scores is not None), "nobody")


def _groups(tasks: Sequence[Task]) -> list[list[int]]:
    """Places of tasks that may share fits, the longest groups first, so that no process is left alone at the end."""
    groups: dict[tuple[str, int, str], list[int]] = {}
    for place, task in enumerate(tasks):
        alone = "" if task.contender.seeded else task.contender.name
        groups.setdefault((task.dataset, task.seed, alone), []).append(place)
    return sorted(groups.values(), key=lambda group: -len(group))


def work(task: Task) -> Result:
    """Run one task, or take its result from an earlier run of the same code on the same data."""
    contenders()  # registers the baselines, in a process of its own too
    dataset = _load(task.dataset, task.data, task.quick)
    name = _name(dataset, task)
    known = None if name is None else kept.get(name)
    if known is not None:
        return known
    started = time.process_time()
    executed = _executed(dataset, task)
    if task.scores is not None:
        write_scores(task.scores / dataset.name, executed.outcomes)
    result = Result(
        dataset=task.dataset,
        contender=task.contender.name,
        seeded=task.contender.seeded,
        seed=task.seed,
        figures=_figures(executed.outcomes, task.dataset),
        warnings=executed.warnings,
        incidents=dict(executed.incidents),
        seconds=time.process_time() - started,
    )
    if name is not None:
        kept.put(name, result)
    return result


def _name(dataset: DataSet, task: Task) -> str | None:
    """The name of the task's kept result; None where it is not to be kept, or is more than figures."""
    own = task.contender.scorers.keys() <= own_names()
    if not task.keep or task.scores is not None or not own:
        return None
    settings = [asset_class_of(model, task.contender.scorers, task.seed) for model in dataset.models]
    return kept.name_of(dataset, settings, task.contender, task.seed)


def _executed(dataset: DataSet, task: Task) -> Executed:
    if task.contender.name != ALWAYS:
        return execute(dataset, task.contender.scorers, task.seed, Teller(), _fits(task.dataset, task.seed))
    outcomes = [
        Outcome(
            series,
            np.full(len(series.time), 2.0),
            np.ones(len(series.time), np.bool_),
            np.ones(len(series.time), np.bool_),
        )
        for series in dataset.series
    ]
    return Executed(tuple(outcomes), (), {})


@functools.lru_cache(maxsize=1)
def _fits(dataset: str, seed: int) -> Remembered:
    """The fits of a group of tasks."""
    del dataset, seed
    return Remembered()


def _figures(outcomes: Sequence[Outcome], dataset: str) -> SetFigures:
    return set_figures(outcomes, is_tep=dataset == "tep")


@functools.lru_cache(maxsize=4)
def _load(name: str, data: Path | None, quick: bool) -> DataSet:
    if name == CSV:
        assert data is not None
        return csv_folder(data)
    return LOADERS[name](data, quick=quick)
