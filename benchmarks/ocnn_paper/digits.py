"""The MNIST experiment: networks in fleets on this process' device, the rest in processes of one thread beside them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.ocnn_paper import classical, mnist
from benchmarks.ocnn_paper.kept import Kept, Result

_FIRST: Final = (
    "conv_autoencoder",
    "deep_svdd",
    "robust_autoencoder",
    "deep_svdd_soft",
    "ocnn",
    "ocnn_as_coded",
    "anogan",
)
"""Networks of the paper's table; run under every protocol before the others."""
NETWORKS: Final = (
    *_FIRST,
    "dense_autoencoder",
    "conv_autoencoder_long",
    "conv_autoencoder_12",
    "dense_autoencoder_wide",
    "deep_svdd_soft_tenth",
    "deep_svdd_scratch",
    "ocnn_sigmoid",
    "ocnn_frozen",
)
"""`benchmarks.ocnn_paper.networks.METHODS`, without importing JAX."""
METHODS: Final = (*NETWORKS, *classical.METHODS)
_LONG: Final = ("conv_autoencoder_long", "dense_autoencoder_wide", "ocsvm_as_coded")
DEFAULT: Final = tuple(name for name in METHODS if name not in _LONG)
"""All but those that take minutes a digit, and explain a figure of the paper's."""
NU: Final = {
    **dict.fromkeys(mnist.DRAWN, mnist.ANOMALOUS),
    **dict.fromkeys(("one_class", "development"), 0.1),
}
"""Under the paper's protocol nu is the known share of anomalies; under the others nothing is known."""
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_QUICK: Final = 256


class Asked(NamedTuple):
    """What to run.

    Attributes:
        file: MNIST's npz.
        protocols: in this order.
        methods: of `METHODS`.
        normals: digits.
        seeds: in this order.
        together: seeds that are trained at once.
        jobs: processes for what is not a network.
        deadline: seconds after which nothing new is begun; None: none, 0: only what is kept is shown.
        quick: few images and epochs.
    """

    file: Path
    protocols: tuple[str, ...]
    methods: tuple[str, ...]
    normals: tuple[int, ...]
    seeds: tuple[int, ...]
    together: int
    jobs: int
    deadline: float | None
    quick: bool


Tell = Callable[[str], None]
Name = tuple[int, int]
"""Digit and seed of a network."""


def run(asked: Asked, kept: Kept, tell: Tell) -> None:
    """Run what is not kept yet, and keep it."""
    started = time.monotonic()

    def late() -> bool:
        return asked.deadline is not None and time.monotonic() - started > asked.deadline

    with _classical(asked, kept, tell) as others:
        _networks(asked, kept, tell, late)
        others.finish(late)


# -- networks -----------------------------------------------------------------------------------------------------


def _networks(asked: Asked, kept: Kept, tell: Tell, late: Callable[[], bool]) -> None:
    chosen = [name for name in NETWORKS if name in asked.methods]
    tiers = ([name for name in chosen if (name in _FIRST) is first] for first in (True, False))
    tiers = [tier for tier in tiers if tier]
    if asked.deadline == 0 or not tiers:
        return
    import jax

    for first in range(0, len(asked.seeds), asked.together):
        seeds, weights = asked.seeds[first : first + asked.together], dict[Any, Any]()
        for tier, protocol in product(tiers, asked.protocols):
            for names in fleets(list(product(asked.normals, seeds)), jax.default_backend()):
                missing = [name for name in tier if not _all_kept(kept, protocol, name, names)]
                if missing and not late():
                    _fleet(asked, protocol, names, missing, weights, kept, tell, late)


def fleets(names: Sequence[Name], backend: str) -> list[Sequence[Name]]:
    """All side by side on an accelerator; one by one on a CPU, whose caches hold one network's step."""
    return [[name] for name in names] if backend == "cpu" else [names]


def _all_kept(kept: Kept, protocol: str, method: str, names: Sequence[Name]) -> bool:
    return all(("mnist", protocol, method, *name) in kept for name in names)


def _fleet(
    asked: Asked,
    protocol: str,
    names: Sequence[Name],
    methods: Sequence[str],
    weights: dict[Any, Any],
    kept: Kept,
    tell: Tell,
    late: Callable[[], bool],
) -> None:
    """Networks side by side, method by method; ``weights`` of autoencoders by protocol, digits and seeds."""
    import jax

    from benchmarks.ocnn_paper import fleet, networks

    trials = [_trial(asked, protocol, normal, seed) for normal, seed in names]
    ready = fleet.fleet_of(trials, _QUICK if asked.quick else fleet.MOST)
    keys = jax.vmap(lambda name: jax.random.fold_in(jax.random.key(name[1]), name[0]))(
        np.asarray(names, np.uint32)
    )
    same = (protocol, *names)

    def pretrained() -> Any:
        if same not in weights:
            weights[same] = networks.conv_weights(given)
        return weights[same]

    for method in methods:
        if late():
            return
        begun = time.monotonic()
        where = f"{protocol} {_told(names)} {method}"
        given = networks.Run(keys, ready, _every_tenth(tell, where), pretrained, NU[protocol], asked.quick)
        found = networks.METHODS[method](given)
        scores = {suffix: np.asarray(each) for suffix, each in found.items()}
        share = (time.monotonic() - begun) / len(names)
        for suffix, each in scores.items():
            results = [
                Result("mnist", protocol, method + suffix, *name, _auc(one, trial), share)
                for name, one, trial in zip(names, each, trials, strict=True)
            ]
            kept.put(results)
            mean = np.mean([result.auc for result in results])
            tell(f"{where}{suffix}: mean AUC {100 * mean:.2f}, {share * len(names):.1f} s")


def _told(names: Sequence[Name]) -> str:
    digits, seeds = (sorted(set(each)) for each in zip(*names, strict=True))
    return f"digits {_span(digits)} seeds {_span(seeds)}"


def _span(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


def _every_tenth(tell: Tell, where: str) -> Callable[[int, int, float], None]:
    def step(done: int, total: int, loss: float) -> None:
        if done % 10 == 0 or done in (1, total):
            tell(f"{where}: epoch {done} of {total}, loss {loss:.6g}")

    return step


def _auc(scores: Any, trial: mnist.Trial) -> float:
    return mnist.auc(scores[: len(trial.anomalous)], trial.anomalous)


def _trial(asked: Asked, protocol: str, normal: int, seed: int) -> mnist.Trial:
    whole = mnist.trial(mnist.read(asked.file, protocol), protocol, normal, seed)
    if not asked.quick:
        return whole
    some = np.r_[np.arange(_QUICK // 2), np.flatnonzero(whole.anomalous)[: _QUICK // 4]]
    some = np.unique(np.r_[some, np.flatnonzero(~whole.anomalous)[:8]])
    judge, wrong = whole.judge[some], whole.anomalous[some]
    if whole.learn is whole.judge:
        return mnist.Trial(judge, judge, wrong, len(judge))
    return mnist.Trial(whole.learn[:_QUICK], judge, wrong, min(whole.learnt, _QUICK // 2))


# -- the rest -----------------------------------------------------------------------------------------------------


class _Others:
    """Tasks in other processes; their results are kept as they come."""

    def __init__(self, kept: Kept, tell: Tell) -> None:
        self._kept, self._tell, self.futures = kept, tell, list[Future[list[Result]]]()

    def add(self, future: Future[list[Result]]) -> None:
        self.futures.append(future)
        future.add_done_callback(self._keep)

    def finish(self, late: Callable[[], bool]) -> None:
        """Wait until all are there, or it is too late.

        Raises:
            Exception: what a task raised.
        """
        waiting = set(self.futures)
        while waiting and not late():
            done, waiting = wait(waiting, timeout=1.0)
            for one in done:
                one.result()

    def _keep(self, future: Future[list[Result]]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        results = future.result()
        self._kept.put(results)
        for one in results:
            what = f"{one.protocol} {one.normal} seed {one.seed} {one.method}"
            self._tell(f"{what}: AUC {100 * one.auc:.2f}, {one.seconds:.1f} s")


@contextmanager
def _classical(asked: Asked, kept: Kept, tell: Tell) -> Iterator[_Others]:
    others = _Others(kept, tell)
    tasks = [task for task in _tasks(asked) if ("mnist", *task) not in kept]
    if not tasks or asked.deadline == 0:
        yield others
        return
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    pool = ProcessPoolExecutor(max(1, asked.jobs), mp_context=get_context("spawn"))
    try:
        for task in tasks:
            others.add(pool.submit(_judged, asked, *task))
        os.environ.update({name: value for name, value in before.items() if value is not None})
        for name in (name for name, value in before.items() if value is None):
            os.environ.pop(name)
        yield others
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _tasks(asked: Asked) -> Iterator[tuple[str, str, int, int]]:
    """Protocol, method, digit and seed; one seed where nothing is drawn."""
    for protocol in asked.protocols:
        for seed in asked.seeds:
            for method in (name for name in classical.METHODS if name in asked.methods):
                if seed == asked.seeds[0] or protocol in mnist.DRAWN or method in classical.SEEDED:
                    for normal in asked.normals:
                        yield protocol, method, normal, seed


def _judged(asked: Asked, protocol: str, method: str, normal: int, seed: int) -> list[Result]:
    begun = time.monotonic()
    trial = _trial(asked, protocol, normal, seed)
    found = classical.METHODS[method](classical.Asked(trial, NU[protocol], seed))
    spent = time.monotonic() - begun
    return [
        Result("mnist", protocol, method + suffix, normal, seed, mnist.auc(scores, trial.anomalous), spent)
        for suffix, scores in found.items()
    ]
