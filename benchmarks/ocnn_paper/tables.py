"""Results as tables: mean and spread over seeds, by digit and over the digits, beside the paper's means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from benchmarks.ocnn_paper.kept import Result
from benchmarks.ocnn_paper.mnist import DRAWN

PAPER: Final[Mapping[str, float]] = {
    "robust_autoencoder": 99.21,
    "conv_autoencoder": 98.53,
    "deep_svdd": 92.88,
    "deep_svdd_soft": 92.84,
    "ocnn": 92.35,
    "anogan": 91.27,
    "ocsvm": 89.62,
    "kde": 86.93,
    "isolation_forest": 85.33,
}
"""Mean AUC over the digits in Table 3 of the paper, in per cent: its transductive protocol."""
_TITLES: Final = {
    ("synthetic", "transductive"): "Synthetic rows: the ones that were learnt from",
    ("synthetic", "fresh"): "Synthetic rows: fresh ones",
    ("mnist", "transductive"): "MNIST, transductive (the paper's protocol)",
    ("mnist", "pixels"): "MNIST, transductive, images as they are",
    ("mnist", "held_back"): "MNIST, images as they are, anomalies judged but not learnt from",
    ("mnist", "one_class"): "MNIST, one-class (Deep SVDD's protocol)",
    ("mnist", "development"): "MNIST, development (inside the training images)",
}


def markdown(results: Sequence[Result]) -> str:
    """A table per experiment and protocol, AUC in per cent."""
    return "\n\n".join(
        f"### {title}\n\n{_table(some, key)}"
        for key, title in _TITLES.items()
        if (some := [one for one in results if (one.experiment, one.protocol) == key])
    )


def _table(results: Sequence[Result], key: tuple[str, str]) -> str:
    normals = sorted({one.normal for one in results})
    beside = key[0] == "mnist" and key[1] in DRAWN
    by_digit = [str(normal) for normal in normals] if key[0] == "mnist" else []
    head = ["method", *by_digit, "mean", "seeds", *(["paper"] if beside else [])]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for method in _ordered(results):
        own = [one for one in results if one.method == method]
        cells = [_cell([one.auc for one in own if one.normal == normal]) for normal in normals]
        paper = [f"{PAPER[method]:.2f}" if method in PAPER else ""] if beside else []
        row = [f"`{method}`", *(cells if by_digit else []), overall(own), str(len(_seeds(own))), *paper]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def _ordered(results: Sequence[Result]) -> list[str]:
    """Methods, the highest mean first."""
    names = dict.fromkeys(one.method for one in results)
    return sorted(names, key=lambda name: -np.mean([one.auc for one in results if one.method == name]))


def _cell(aucs: Sequence[float]) -> str:
    return _with_spread(aucs, 1) if aucs else "-"


def overall(results: Sequence[Result]) -> str:
    """Mean over the digits of each seed: its mean and standard deviation over the seeds of the most digits."""
    seeds = _seeds(results)
    means = [float(np.mean([one.auc for one in results if one.seed == seed])) for seed in seeds]
    return _with_spread(means, 2)


def _with_spread(values: Sequence[float], digits: int) -> str:
    mean = f"{100 * np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {100 * np.std(values, ddof=1):.{digits}f}"


def _seeds(results: Sequence[Result]) -> list[int]:
    """Those of the most digits: a mean over fewer is not comparable."""
    digits = Counter(one.seed for one in results)
    return sorted(seed for seed, count in digits.items() if count == max(digits.values()))
