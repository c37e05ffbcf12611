"""Work in processes of one thread each: as many as there are cores are faster than one that spreads over them.

Fits here are small. A process that gives every small matrix to all cores waits for its threads most of the time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from queue import Empty
from typing import Any, Final, TypeVar

import jax

T = TypeVar("T")
R = TypeVar("R")

_ONE_THREAD: Final = {
    "NPROC": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""What XLA's, OpenMP's and the BLAS libraries' thread pools read before they start."""
_XLA: Final = "--xla_cpu_multi_thread_eigen=false"
_PATIENCE_S: Final = 0.5


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(function: Callable[[T], R], groups: Sequence[Sequence[T]], jobs: int) -> Iterator[tuple[int, R]]:
    """Results as they come, each with its task's place among all tasks.

    Args:
        function: a module's function; what it takes and gives goes between processes.
        groups: tasks; those of one group are done by one process, in order, so that they can share what it remembers.
        jobs: processes; 1: this one.

    Raises:
        Exception: what the function raised.
    """
    numbered, place = list[list[tuple[int, T]]](), 0
    for group in groups:
        numbered.append(list(enumerate(group, start=place)))
        place += len(group)
    if jobs <= 1:
        for group in numbered:
            yield from ((number, function(task)) for number, task in group)
    else:
        yield from _spawned(function, numbered, jobs)


def _spawned(
    function: Callable[[T], R], groups: Sequence[Sequence[tuple[int, T]]], jobs: int
) -> Iterator[tuple[int, R]]:
    context = get_context("spawn")  # a fresh interpreter per process: JAX's threads do not survive a fork
    results: Any = context.Queue()
    with (
        _environment(),
        ProcessPoolExecutor(
            min(jobs, max(1, len(groups))), mp_context=context, initializer=_begin, initargs=(results,)
        ) as pool,
    ):
        futures = [pool.submit(_work, function, group) for group in groups]
        try:
            yield from _arriving(results, futures, sum(map(len, groups)))
        finally:
            for future in futures:
                future.cancel()


def _arriving(results: Any, futures: Sequence[Future[None]], count: int) -> Iterator[tuple[int, Any]]:
    while count:
        try:
            yield results.get(timeout=_PATIENCE_S)
            count -= 1
        except Empty:
            for future in futures:
                if future.done():
                    future.result()  # raises what ended the process or the task


@contextmanager
def _environment() -> Generator[None]:
    """What processes find that start meanwhile."""
    before = {name: os.environ.get(name) for name in (*_ONE_THREAD, "XLA_FLAGS")}
    os.environ.update(_ONE_THREAD, XLA_FLAGS=f"{before['XLA_FLAGS'] or ''} {_XLA}".strip())
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_results: Any = None


def _begin(results: Any) -> None:
    global _results
    _results = results


def _work(function: Callable[[T], Any], group: Sequence[tuple[int, T]]) -> None:
    for number, task in group:
        _results.put((number, function(task)))
        # A program is some ten mappings of memory, of which a process may have 65,530: 34 small models by seven scorers
        # came to that, and to gigabytes. What the next task needs again comes back from the cache on disk.
        jax.clear_caches()
