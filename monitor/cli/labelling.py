"""Labels as the commands read them: a file of intervals, or a column of the recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monitor.cli.common import connector_errors
from monitor.configuration import Configuration
from monitor.connect import layout_of
from monitor.errors import UsageError
from monitor.evaluation import labels as labelling
from monitor.evaluation.labels import UNLABELLED, Labels


def check_labels(file: Path | None, column: str | None) -> None:
    """Refuse two sources of labels.

    Raises:
        UsageError: both are given.
    """
    if file is not None and column is not None:
        raise UsageError("--labels and --label-column: expected one of them")


def labels_of(configuration: Configuration, settings: Any, file: Path | None, column: str | None) -> Labels:
    """What --labels or --label-column say.

    Args:
        configuration: how times are read.
        settings: of the recordings that have the column.
        file: of intervals.
        column: of the recordings.

    Raises:
        LabelsError: the labels cannot be read, or contradict themselves.
    """
    if file is not None:
        return labelling.read(file, layout_of(configuration.settings).time)
    if column is None:
        return UNLABELLED
    from connectors.files import read_column

    with connector_errors():
        rows = read_column(settings, column, layout_of(configuration.settings).time, configuration.folder)
    return labelling.from_column(rows.assets, rows.time, rows.values, column)
