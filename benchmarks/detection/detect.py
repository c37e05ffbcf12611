"""The section ``detection``: how well each scorer, alone and in the default combination, finds labelled faults."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final, NamedTuple

import jax
import numpy as np

from benchmarks.detection.contenders import ALWAYS, DEFAULT, Contender, contenders
from benchmarks.detection.contract import Request, Section, Teller
from benchmarks.detection.csv_folder import NAME as CSV
from benchmarks.detection.csv_folder import csv_folder
from benchmarks.detection.data import DataSet
from benchmarks.detection.execute import Executed, Outcome, execute
from benchmarks.detection.measures import SetFigures, set_figures
from benchmarks.detection.result import Result, section_of
from benchmarks.detection.score_files import write_scores
from benchmarks.detection.setting import description
from benchmarks.detection.simulated import plant
from benchmarks.detection.skab import skab
from benchmarks.detection.tep import tep
from monitor.errors import UsageError

LOADERS: Final[Mapping[str, Callable[..., DataSet]]] = {"skab": skab, "tep": tep, "plant": plant}
_MOST_MODELS: Final = 20
_MANY_MODELS: Final = 4
_OF_ONES_OWN: Final = (DEFAULT, "pca", "var")
"""On somebody's own data, unless scorers are named: the default, and two cheap peers."""


class Task(NamedTuple):
    """One configuration and seed on one data set; ``scores``: where its scores are written."""

    dataset: str
    data: Path | None
    quick: bool
    contender: Contender
    seed: int
    scores: Path | None


def detection(request: Request) -> Section:
    """The section.

    Raises:
        UsageError: a data set or scorer is not there, or a CSV file cannot be used.
    """
    tasks = _tasks(request)
    request.teller.stage("detection", len(tasks))
    results: list[Result] = []
    for result in _done(tasks, request):
        results.append(result)
        request.teller.step(f"{result.dataset} {result.contender} seed {result.seed}")
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
    return request.datasets or tuple(LOADERS)


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
                        name, request.data, request.quick, contender, seed, request.scores if writes else None
                    )
                )
    return tasks


def _first(tasks: Sequence[Task]) -> str:
    return next((task.contender.name for task in tasks if task.scores is not None), "nobody")


def _done(tasks: Sequence[Task], request: Request) -> Iterator[Result]:
    if request.jobs <= 1:
        yield from map(work, tasks)
        return
    # a fresh interpreter per process: JAX's threads do not survive a fork
    with ProcessPoolExecutor(request.jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, tasks)


def work(task: Task) -> Result:
    """Run one task."""
    contenders()  # registers the baselines, in a process of its own too
    dataset = _load(task.dataset, task.data, task.quick)
    executed = _executed(dataset, task)
    if len(dataset.models) > _MANY_MODELS:
        jax.clear_caches()  # every model has shapes of its own: kept, they would take gigabytes over the tasks
    if task.scores is not None:
        write_scores(task.scores / dataset.name, executed.outcomes)
    return Result(
        dataset=task.dataset,
        contender=task.contender.name,
        seeded=task.contender.seeded,
        seed=task.seed,
        figures=_figures(executed.outcomes, task.dataset),
        warnings=executed.warnings,
        incidents=dict(executed.incidents),
    )


def _executed(dataset: DataSet, task: Task) -> Executed:
    if task.contender.name != ALWAYS:
        return execute(dataset, task.contender.scorers, task.seed, Teller())
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


def _figures(outcomes: Sequence[Outcome], dataset: str) -> SetFigures:
    return set_figures(outcomes, is_tep=dataset == "tep")


@functools.lru_cache(maxsize=4)
def _load(name: str, data: Path | None, quick: bool) -> DataSet:
    if name == CSV:
        assert data is not None
        return csv_folder(data)
    return LOADERS[name](data, quick=quick)
