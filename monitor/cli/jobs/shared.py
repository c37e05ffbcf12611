"""The engine of `nuwatch run` with `state.changelog`: one of several daemons that share the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitor.activity import Activity
from monitor.cli.common import pipeline_factory
from monitor.configuration import Configuration
from monitor.connect import make_shared, topic_name
from monitor.control import ControlTopic
from monitor.journal import JournalledCommands
from monitor.model import Model
from monitor.shared_checkpoint import ChangelogCheckpoint
from monitor.sharing import SharedEngine
from monitor.warm_up import warm_up_ns


def shared_engine(
    configuration: Configuration,
    models: Mapping[str, Model],
    changelog: str,
    log: Any,
    activity: Activity,
    control: ControlTopic | None = None,
) -> SharedEngine:
    """Source, checkpoint and pipelines of a member; it joins the group with its first step.

    Raises:
        ConfigurationError: source and sink do not allow sharing.
    """
    source, ledger = make_shared(configuration, changelog)
    checkpoint = ChangelogCheckpoint(ledger, configuration.settings.state.drain.seconds)
    return SharedEngine(
        source,
        checkpoint,
        pipeline_factory(configuration, models, topic_name(configuration), replay=False),
        {name: model.bundle_id for name, model in models.items()},
        log,
        JournalledCommands([control] if control is not None else [], checkpoint.journal),
        warm_up_ns=warm_up_ns(configuration.settings),
        activity=activity,
        control=control,
    )
