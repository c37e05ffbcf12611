"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

config_argument = click.argument(
    "config", type=click.Path(path_type=Path, dir_okay=False), default="nuwatch.yaml", required=False
)
