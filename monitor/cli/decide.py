"""`nuwatch decide`: a person's word on a threshold."""

from __future__ import annotations

import getpass
from pathlib import Path

import click


@click.command(
    "decide",
    epilog="""Examples:

    nuwatch decide approve poly2/R-101 --by 'J. Roe'      what R-101 does now is its new normal

    nuwatch decide rollback poly2/R-101 --by 'J. Roe'     back to the threshold version before
    """,
)
@click.argument("action", type=click.Choice(["approve", "reject", "rollback"]))
@click.argument("asset")
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), default="nuwatch.yaml", show_default=True
)
@click.option(
    "--by", default=getpass.getuser, show_default="your user name", help="Who decides; published with it."
)
def command(action: str, asset: str, config: Path, by: str) -> None:
    """Approve, reject or roll back the threshold of ASSET.

    A shift that raised an anomaly is never learnt by itself: from the scores alone a grade change and a broken
    sensor are the same data. `approve` says that it is the new normal; the daemon then collects scores and sets a
    new threshold version, which carries your name. It goes by the control topic where the configuration names one,
    else through the state folder; the daemon journals it with its place in the stream, so that a restart repeats it.
    """
    from monitor.cli.jobs.decide import decide_command

    return decide_command(action, asset, config, by)
