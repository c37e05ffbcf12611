"""`nuwatch apply`: a configuration for the daemons that run."""

from __future__ import annotations

import getpass
from pathlib import Path

import click

from monitor.cli.arguments import config_argument


@click.command(
    "apply",
    epilog="""Examples:

    nuwatch apply plant.yaml --by 'J. Roe'      every daemon of this plant goes on with it, or says why not
    """,
)
@config_argument
@click.option(
    "--by", default=getpass.getuser, show_default="your user name", help="Who decides; published with it."
)
@click.option(
    "--any-bundle", is_flag=True, help="Do not name the bundles that lie here: daemons take theirs."
)
def command(config: Path, by: str, any_bundle: bool) -> None:
    """Send a configuration to the daemons, by the control topic that it names.

    It is checked here first. Every daemon checks it again, compiles what is new beside its work, and goes on with it
    from one input offset per partition on, which it journals and answers on the thresholds topic; what cannot be taken
    up is answered with the reason, and the old configuration stays. It stays over restarts, whatever the daemons' own
    files say, until the next one.
    """
    from monitor.cli.jobs.apply import apply_command

    return apply_command(config, by, any_bundle)
