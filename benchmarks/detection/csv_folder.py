"""Any folder of CSV series: ``timestamp``, sensor columns, and where there are any ``label`` and ``split``.

One file is one series with a model of its own. A file without rows to train on is judged by a model of those files of
the folder that have nothing but rows to train and calibrate on. Whatever is assumed or repaired is told in the notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from benchmarks.detection.csv_times import times_of
from benchmarks.detection.data import DataSet, Model, Series, Split, own_model
from monitor.errors import UsageError
from monitor.proposal_rules import LABEL_NAMES, MISSING, TIME_NAMES, signs_of

NAME: Final = "csv"
TRAIN_SHARE: Final = 0.4
"""Without a ``split`` column, of a file's first rows, as far as none before them is labelled anomalous."""
SHARED: Final = "shared"
_SPLITS: Final = {"train": Split.TRAIN, "calib": Split.CALIB, "test": Split.TEST}
_SUFFIXES: Final = (".csv", ".csv.gz", ".tsv", ".txt")
_MISSING: Final = frozenset(word.lower() for word in (*MISSING, "na", "nan"))
_NO_TIMES: Final = ["\u0001"]


class _File(NamedTuple):
    series: Series
    sensors: tuple[str, ...]
    notes: tuple[str, ...]


def csv_folder(folder: Path) -> DataSet:
    """Read a folder of CSV series.

    Args:
        folder: with ``*.csv``, ``*.csv.gz``, ``*.tsv`` or ``*.txt`` files; without any, those of its subfolders.

    Raises:
        UsageError: there is no file, one cannot be read, or a file has neither rows to train on nor a shared model.
    """
    if not folder.is_dir():
        raise UsageError(f"--data {folder}: no such folder")
    paths = _files(folder)
    if not paths:
        raise UsageError(f"--data {folder}: no file that ends in {', '.join(_SUFFIXES)}")
    files = [_read(path, _series_name(path, folder)) for path in paths]
    notes = [f"{file.series.name}: {note}" for file in files for note in file.notes]
    return DataSet(NAME, tuple(_models(files, notes)), tuple(notes))


def _files(folder: Path) -> list[Path]:
    own = sorted(path for path in folder.iterdir() if _is_table(path))
    return own or sorted(path for path in folder.glob("*/*") if _is_table(path))


def _is_table(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(_SUFFIXES) and not path.name.startswith(".")


def _series_name(path: Path, folder: Path) -> str:
    name = str(path.relative_to(folder).as_posix())
    return next(name[: -len(suffix)] for suffix in (".csv.gz", *_SUFFIXES) if name.lower().endswith(suffix))


def _models(files: Sequence[_File], notes: list[str]) -> list[Model]:
    """A model for each file that trains its own, and one for all that do not."""
    own = [file for file in files if (file.series.split == Split.TRAIN).any()]
    without = [file for file in files if not (file.series.split == Split.TRAIN).any()]
    if not without:
        return [own_model(file.series, file.sensors) for file in own]
    teachers = [file for file in files if not (file.series.split == Split.TEST).any()]
    if not any((file.series.split == Split.TRAIN).any() for file in teachers):
        return [own_model(file.series, file.sensors) for file in own] + _unlearnt(without, bool(own), notes)
    names = {file.series.name for file in teachers}
    pupils = [file for file in without if file.series.name not in names]
    alone = [file for file in own if file.series.name not in names]
    shared = _shared(teachers, pupils)
    notes.append(
        f"model {SHARED!r}: learnt from {', '.join(sorted(names))}; judges {len(pupils)} files without train rows"
    )
    return [*(own_model(file.series, file.sensors) for file in alone), shared]


def _unlearnt(files: Sequence[_File], others: bool, notes: list[str]) -> list[Model]:
    """Files that nothing teaches; their rows are written without scores as long as there are other files.

    Raises:
        UsageError: there are no others.
    """
    what = (
        "no row to train on, and no file of the folder has nothing but train and calib rows; hint: mark some normal "
        "rows as train, or leave the split column out"
    )
    if not others:
        raise UsageError(f"{files[0].series.name}: {what}")
    notes += [f"{file.series.name}: {what}" for file in files]
    return [Model(file.series.name, file.sensors, (), (file.series,)) for file in files]


def _shared(teachers: Sequence[_File], pupils: Sequence[_File]) -> Model:
    sensors = teachers[0].sensors
    learn = tuple(_with_columns(file, sensors) for file in teachers)
    judge = tuple(_with_columns(file, sensors) for file in pupils)
    return Model(SHARED, sensors, learn, (*learn, *judge))


def _with_columns(file: _File, sensors: tuple[str, ...]) -> Series:
    """The file's series with these columns in this order."""
    missing = [name for name in sensors if name not in file.sensors]
    more = [name for name in file.sensors if name not in sensors]
    if missing or more:
        raise UsageError(
            f"{file.series.name}: shares a model, but {_named('lacks', missing)}{_named('also has', more)}; "
            "hint: files that share a model need the same sensor columns"
        )
    columns = [file.sensors.index(name) for name in sensors]
    return file.series._replace(values=file.series.values[:, columns])


def _named(verb: str, names: Sequence[str]) -> str:
    return f"{verb} {', '.join(names)} " if names else ""


def _read(path: Path, name: str) -> _File:
    table = _table(path)
    columns = {column: table.column(column).combine_chunks() for column in table.column_names}
    notes: list[str] = []
    stamp = _only(columns, "timestamp") or next((c for c in columns if TIME_NAMES.match(c.strip())), None)
    label = _label_column(columns, notes)
    split = _only(columns, "split")
    sensors = {c: columns[c] for c in columns if c not in (stamp, split) and not LABEL_NAMES.match(c.strip())}
    if not sensors:
        raise UsageError(f"{path}: no sensor column; its columns are {', '.join(columns)}")
    values = np.stack([_numbers(path, c, cells, notes) for c, cells in sensors.items()], axis=1)
    stamps = [str(i) for i in range(len(values))] if stamp is None else _texts(columns[stamp])
    time = times_of(None if stamp is None else columns[stamp], len(values), notes)
    order = np.argsort(time, kind="stable")
    if (np.diff(time) < 0).any():
        notes.append("rows are not in order of time: they are judged in order, and written as they came")
    if len(np.unique(time)) < len(time):
        notes.append("several rows have one time: the first of each counts")
    labels = np.full(len(values), -1, np.int8) if label is None else _labels(path, columns[label], notes)
    series = Series(
        name=name,
        time=time[order],
        values=values[order],
        label=labels[order],
        split=np.zeros(0, np.int8),
        stamps=[stamps[row] for row in order],
        order=order,
    )
    splits = _default_split(series, notes) if split is None else _splits(path, columns[split])[order]
    return _File(series._replace(split=splits), tuple(sensors), tuple(notes))


def _only(columns: dict[str, Any], name: str) -> str | None:
    return next((column for column in columns if column.strip().lower() == name), None)


def _label_column(columns: dict[str, Any], notes: list[str]) -> str | None:
    found = [column for column in columns if LABEL_NAMES.match(column.strip())]
    label = _only(columns, "label") or (found[0] if found else None)
    if label is not None and label.strip().lower() != "label":
        notes.append(f"column {label!r} is taken for the label")
    notes += [f"column {other!r} looks like a label and is left out" for other in found if other != label]
    return label


def _table(path: Path) -> pa.Table:
    """The file, its cells as text, numbers or truth values, whatever its delimiter and encoding."""
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            content = stream.read()
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    try:
        content.decode()
    except UnicodeDecodeError:
        content = content.decode("cp1252", "replace").encode()
    delimiter, decimal = signs_of(content)
    try:
        table = pacsv.read_csv(
            pa.BufferReader(content),
            parse_options=pacsv.ParseOptions(delimiter=delimiter),
            convert_options=pacsv.ConvertOptions(
                decimal_point=decimal,
                null_values=MISSING,
                strings_can_be_null=True,
                timestamp_parsers=_NO_TIMES,
            ),
        )
    except pa.ArrowException as error:
        raise UsageError(f"{path}: no CSV file that can be read: {error}") from None
    if not table.num_rows:
        raise UsageError(f"{path}: no rows; hint: a header line and rows of numbers are expected")
    twins = {name for name in table.column_names if table.column_names.count(name) > 1}
    if twins:
        raise UsageError(f"{path}: several columns are called {min(twins)!r}")
    return table


def _texts(cells: Any) -> list[str]:
    return ["" if text is None else str(text) for text in cells.cast(pa.string()).to_pylist()]


def _numbers(path: Path, column: str, cells: Any, notes: list[str]) -> NDArray[np.float64]:
    """[N] float64; NaN where there is no value.

    Raises:
        UsageError: a cell is text.
    """
    if pa.types.is_null(cells.type):
        notes.append(f"column {column!r} has no values and is not scored")
        return np.full(len(cells), np.nan)
    if pa.types.is_boolean(cells.type) or pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type):
        values = np.asarray(cells.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
        return np.where(np.isfinite(values), values, np.nan)
    values = np.full(len(cells), np.nan)
    for row, text in enumerate(_texts(cells)):
        if text.strip().lower() in _MISSING:
            continue
        try:
            values[row] = float(text)
        except ValueError:
            raise UsageError(
                f"{path}, row {row + 1}: column {column!r} holds text, {text[:40]!r}, expected numbers; hint: leave "
                "the column out, write states as numbers, and leave cells without a value empty"
            ) from None
    return np.where(np.isfinite(values), values, np.nan)


def _labels(path: Path, cells: Any, notes: list[str]) -> NDArray[np.int8]:
    values = _numbers(path, "label", cells, [])
    known = np.isfinite(values)
    if not np.isin(values[known], (0.0, 1.0)).all():
        notes.append("labels other than 0 and 1: whatever is not 0 is taken for anomalous")
    if not known.all():
        notes.append(f"{np.count_nonzero(~known)} rows have no label and are left out of the figures")
    return np.where(known, (values != 0).astype(np.int8), np.int8(-1)).astype(np.int8)


def _splits(path: Path, cells: Any) -> NDArray[np.int8]:
    words = [text.strip().lower() for text in _texts(cells)]
    unknown = sorted(set(words) - set(_SPLITS))
    if unknown:
        raise UsageError(f"{path}: split {unknown[0]!r}, expected one of {', '.join(_SPLITS)}")
    return np.array([_SPLITS[word] for word in words], np.int8)


def _default_split(series: Series, notes: list[str]) -> NDArray[np.int8]:
    """The first rows teach: `TRAIN_SHARE` of them, but none from the first anomalous one on."""
    rows = len(series.time)
    anomalous = np.flatnonzero(series.label == 1)
    learn = min(int(TRAIN_SHARE * rows), int(anomalous[0]) if len(anomalous) else rows)
    notes.append(f"no split column: the first {learn} of {rows} rows are train, the rest is test")
    split = np.full(rows, Split.TEST, np.int8)
    split[:learn] = Split.TRAIN
    return split
