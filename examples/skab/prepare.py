"""Cut a copy of SKAB into what may be learnt from and what is judged.

Usage: python prepare.py SKAB_FOLDER

Of each of the 34 runs the first 400 rows go to out/train (without the rows that are labelled anomalous: other/2
has 296 of them), the rest to out/test. Every run starts at the same time of a made-up day, so that training cuts
each run in time, and not the runs by their dates.
"""

from __future__ import annotations

import csv
import sys
from datetime import datetime
from pathlib import Path

LEARN = 400
DAY = datetime.fromisoformat("2001-01-01 00:00:00")


def main(skab: Path, out: Path) -> None:
    runs = sorted(path for name in ("valve1", "valve2", "other") for path in (skab / name).glob("*.csv"))
    if not runs:
        sys.exit(
            f"{skab}: no valve1/*.csv, valve2/*.csv or other/*.csv; hint: give the folder of your copy of SKAB"
        )
    for path in runs:
        with path.open(newline="") as file:
            header, *rows = csv.reader(file, delimiter=";")
        start = datetime.fromisoformat(rows[0][0])
        rows = [[str(DAY + (datetime.fromisoformat(row[0]) - start)), *row[1:]] for row in rows]
        anomaly = header.index("anomaly")
        normal = [row for row in rows[:LEARN] if float(row[anomaly]) == 0]
        for part, chosen in (("train", normal), ("test", rows[LEARN:])):
            write(out / part / path.parent.name / path.name, header, chosen)
    print(f"{len(runs)} runs cut at row {LEARN}: {out}/train and {out}/test")


def write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows([header, *rows])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path("out"))
