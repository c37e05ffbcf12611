"""`nuwatch schema`: the published schemas."""

from __future__ import annotations

import click

_DOCUMENTS = {
    "settings": "config/nuwatch.schema.json",
    "alert": "docs/schemas/alert.v1.json",
    "threshold": "docs/schemas/threshold.v1.json",
    "decision": "docs/schemas/decision.v1.json",
    "recentring": "docs/schemas/recentring.v1.json",
    "answer": "docs/schemas/answer.v1.json",
    "control": "docs/schemas/control.v1.json",
    "dead-letter": "docs/schemas/dead-letter.v1.json",
    "input": "docs/schemas/input.v1.json",
    "asyncapi": "docs/schemas/asyncapi.json",
}


@click.command(
    "schema",
    epilog="""\b
Examples:
  nuwatch schema > nuwatch.schema.json    of the configuration; then, as the first line of your YAML:
      # yaml-language-server: $schema=nuwatch.schema.json
  nuwatch schema alert                    of what the alert topic carries
  nuwatch schema asyncapi                 of all topics together, AsyncAPI 3
""",
)
@click.argument("document", type=click.Choice(list(_DOCUMENTS)), default="settings")
def command(document: str) -> None:
    """Print the JSON Schema of what nuwatch reads and writes.

    An editor that knows the schema of the settings completes and explains every key; programs that read alerts or
    send readings can test theirs against the others. They are generated from the very types that nuwatch uses.
    """
    from monitor.schemas import documents, render

    click.echo(render(documents()[_DOCUMENTS[document]]), nl=False)
