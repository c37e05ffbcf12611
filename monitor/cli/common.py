"""What several commands share: loading models, logging, and connector errors as exit codes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

from connectors.errors import OffsetGone, PartitionsChanged, SettingsError, SinkError, SourceError
from monitor import __version__
from monitor.bundles import read_bundle
from monitor.configuration import Configuration
from monitor.errors import BrokerError, ConfigurationError
from monitor.facts import Identity
from monitor.model import Model, check_fit
from monitor.pipeline import Pipeline
from monitor.thresholds.drift import Detector
from monitor.training import configuration_hash


def start_logging(verbose: bool = False) -> Any:
    """Logs to stderr: for people on a terminal, JSON lines otherwise."""
    for_people = sys.stderr.isatty()
    renderer: Any = structlog.dev.ConsoleRenderer() if for_people else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(handlers=[_Structured()], level=logging.WARNING, force=True)
    # the client logs every refused connection many times over; what it comes to is told once, by our errors
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    return structlog.get_logger()


class _Structured(logging.Handler):
    """Lines of the standard library's logging, as lines of ours: named by `code` where the caller gave one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log it."""
        code = getattr(record, "code", "library")
        structlog.get_logger().log(record.levelno, code, logger=record.name, detail=record.getMessage())


@contextmanager
def connector_errors() -> Generator[None]:
    """Turn errors of the outside into the application's, with their exit codes."""
    try:
        yield
    except (SettingsError, PartitionsChanged) as error:
        raise ConfigurationError(str(error)) from error
    except OffsetGone as error:
        raise BrokerError(
            f"{error}; hint: the state is of another topic, or the broker has lost records (an unclean election of a "
            "leader): move the state folder away to begin where --start says"
        ) from error
    except (SourceError, SinkError) as error:
        raise BrokerError(str(error)) from error


def load_models(configuration: Configuration) -> dict[str, Model]:
    """Every class's bundle, checked against the configuration and compiled.

    Raises:
        ConfigurationError: a bundle is missing, damaged or was trained for something else.
    """
    models: dict[str, Model] = {}
    for name, asset_class in configuration.settings.asset_classes.items():
        bundle = read_bundle(configuration.bundle_path(name))
        check_fit(bundle, asset_class, name)
        models[name] = Model(bundle, asset_class)
        models[name].program.warm_up()
        # Imports river, which takes a second, now: the first window that a detector sees does not wait for it.
        Detector(asset_class.drift.detector, asset_class.drift.delta)
    return models


def pipeline_factory(
    configuration: Configuration, models: Mapping[str, Model], topic: str, *, replay: bool
) -> Callable[[int], Pipeline]:
    """Makes the empty pipeline of a partition."""
    digest = configuration_hash(configuration.text)
    identities = {
        name: Identity(model.bundle_id, model.bundle.fields.get("trained_to"), digest)
        for name, model in models.items()
    }

    def make(partition: int) -> Pipeline:
        return Pipeline(
            configuration.settings,
            models,
            partition,
            identities,
            topic=topic,
            replay=replay,
            version=__version__,
        )

    return make
