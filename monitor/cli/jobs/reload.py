"""A configuration that changed while the daemon runs: read, checked and compiled beside the loop, then handed to it.

SIGHUP, or a command of the control topic, asks for it. The loop goes on with the old configuration meanwhile; what is
wrong with the new one is told and counted, and the old one stays.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monitor.bundles import read_bundle, write_bundle
from monitor.cli.common import pipeline_factory
from monitor.configuration import Configuration, parse, read
from monitor.connect import topic_name
from monitor.errors import ConfigurationError, NuwatchError
from monitor.generation import Change, Generation
from monitor.live_changes import check_live
from monitor.model import Model, check_fit
from monitor.thresholds.drift import Detector
from monitor.training import configuration_hash

BUNDLES = "bundles"
"""Folder in the state folder: every bundle that was ever in force, by its id, for a replay over the change."""


def generation_of(configuration: Configuration, models: Mapping[str, Model], *, replay: bool) -> Generation:
    """A configuration and its models as the engine takes them."""
    bundles = {name: model.bundle_id for name, model in models.items()}
    change = Change(configuration_hash(configuration.text), configuration.text, bundles)
    return Generation(
        change, pipeline_factory(configuration, models, topic_name(configuration), replay=replay)
    )


def keep_bundles(folder: Path, models: Mapping[str, Model]) -> None:
    """Keep what judges beside the journal that names it.

    Raises:
        StateError: the folder cannot be written.
    """
    for model in models.values():
        place = folder / BUNDLES / model.bundle_id
        if not place.exists():
            write_bundle(model.bundle, place)


class Generations:
    """Makes the generations that a journal names, for a replay over changes.

    Args:
        configuration: of the replay; anchors relative paths.
        folder: where bundles are kept by their ids, beside the class's own.
    """

    def __init__(self, configuration: Configuration, folder: Path) -> None:
        self._configuration = configuration
        self._folder = folder
        self._made: dict[str, Generation] = {}

    def __call__(self, change: Change) -> Generation:
        """The generation of a change.

        Raises:
            ConfigurationError: a bundle is not to be had.
        """
        if change.id not in self._made:
            configuration = parse(change.text, self._configuration.path)
            self._made[change.id] = generation_of(configuration, self.models(change), replay=True)
        return self._made[change.id]

    def models(self, change: Change) -> dict[str, Model]:
        """The models of a change.

        Raises:
            ConfigurationError: a bundle is not to be had, or is another than the one named.
        """
        configuration = parse(change.text, self._configuration.path)
        models = {
            name: _loaded(configuration, name, self._place(configuration, name, bundle))
            for name, bundle in change.bundles.items()
        }
        for name, model in models.items():
            if model.bundle_id != change.bundles[name]:
                raise ConfigurationError(
                    f"asset class {name!r}: got bundle {model.bundle_id[:16]}, the journal names "
                    f"{change.bundles[name][:16]}; hint: it lay in {self._folder / BUNDLES} of the daemon"
                )
        return models

    def _place(self, configuration: Configuration, name: str, bundle: str) -> Path:
        kept = self._folder / BUNDLES / bundle
        return kept if kept.exists() else configuration.bundle_path(name)


class Reloader:
    """Makes a new generation when it is asked to; one at a time, in a thread of its own.

    Args:
        configuration: in force.
        models: in force; those whose bundle stays go on, and like ones are not compiled anew.
        folder: the state folder.
        log: a structlog logger.
    """

    def __init__(
        self, configuration: Configuration, models: dict[str, Model], folder: Path, log: Any
    ) -> None:
        self._configuration = configuration
        self._models = models
        self._folder = folder
        self._log = log
        self._asked = False
        self._thread: threading.Thread | None = None
        self._ready: tuple[Configuration, dict[str, Model]] | None = None
        self.refused = 0

    def ask(self, *_: Any) -> None:
        """Ask for the file to be read; safe in a signal handler."""
        self._asked = True

    def poll(self) -> Generation | None:
        """A generation that is ready to act; called by the loop, at once back."""
        if self._thread is not None:
            if self._thread.is_alive():
                return None
            self._thread = None
            if self._ready is not None:
                return generation_of(*self._ready, replay=False)
        if self._asked:
            self._asked = False
            self._thread = threading.Thread(target=self._make, name="reload", daemon=True)
            self._thread.start()
        return None

    def adopted(self, places: Mapping[int, int]) -> None:
        """The engine has taken it into force at these positions."""
        assert self._ready is not None
        self._configuration, models = self._ready
        self._models.clear()
        self._models.update(models)
        self._ready = None
        self._log.warning(
            "configuration_adopted",
            positions=dict(places),
            bundles={name: model.bundle_id for name, model in models.items()},
        )

    def refuse(self, error: Exception) -> None:
        """The old one stays, because of this."""
        self._ready = None
        self.refused += 1
        self._log.error("configuration_refused", error=str(error), refused=self.refused)

    def _make(self) -> None:
        try:
            configuration = read(self._configuration.path)
            check_live(self._configuration.settings, configuration.settings)
            models = {
                name: _loaded(configuration, name, configuration.bundle_path(name), self._models.get(name))
                for name in configuration.settings.asset_classes
            }
            keep_bundles(self._folder, models)
        except NuwatchError as error:
            self.refuse(error)
        except Exception as error:  # a thread's own end would pass unseen, and the question with it
            self.refuse(error)
        else:
            self._ready = configuration, models


def _loaded(configuration: Configuration, name: str, place: Path, like: Model | None = None) -> Model:
    """A class's model, compiled; with the program of one that is in force where that serves."""
    asset_class = configuration.settings.asset_classes[name]
    bundle = read_bundle(place)
    check_fit(bundle, asset_class, name)
    if like is not None and like.bundle_id == bundle.id:
        return Model(bundle, asset_class, like.program)
    model = Model(bundle, asset_class)
    model.program.warm_up()
    Detector(asset_class.drift.detector, asset_class.drift.delta)
    return model
