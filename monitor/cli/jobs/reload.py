"""A configuration that changed while the daemon runs: read, checked and compiled beside the loop, then handed to it.

SIGHUP, or a command of the control topic, asks for it. The loop goes on with the old configuration meanwhile; what is
wrong with the new one is told and counted, and the old one stays.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from monitor.bundles import read_bundle, write_bundle
from monitor.cli.common import pipeline_factory
from monitor.configuration import Configuration, parse, read
from monitor.connect import topic_name
from monitor.control import ControlTopic, Order
from monitor.errors import ConfigurationError
from monitor.generation import Change, Generation, Told
from monitor.live_changes import check_live
from monitor.model import Model, check_fit
from monitor.thresholds.drift import Detector
from monitor.training import configuration_hash

BUNDLES = "bundles"
"""Folder in the state folder: every bundle that was ever in force, by its id, for a replay over the change."""


def generation_of(
    configuration: Configuration, models: Mapping[str, Model], *, replay: bool, told: Told | None = None
) -> Generation:
    """A configuration and its models as the engine takes them; ``told`` is the command that brought it."""
    bundles = {name: model.bundle_id for name, model in models.items()}
    change = Change(configuration_hash(configuration.text), configuration.text, bundles, told)
    return Generation(
        change, pipeline_factory(configuration, models, topic_name(configuration), replay=replay)
    )


class Shelf:
    """Compiled models by the id of their bundle: a bundle that stays is compiled once.

    Args:
        models: those that are compiled already.
        folder: the state folder, in which every bundle that was ever in force is kept.
    """

    def __init__(self, models: Mapping[str, Model], folder: Path) -> None:
        self._compiled = {model.bundle_id: model for model in models.values()}
        self._folder = folder

    @property
    def recompiles(self) -> int:
        """Compilations since warm-up."""
        return sum(model.program.recompiles for model in list(self._compiled.values()))

    def keep(self, models: Mapping[str, Model]) -> None:
        """Keep what judges beside the journal that names it.

        Raises:
            StateError: the folder cannot be written.
        """
        for model in models.values():
            place = self._folder / BUNDLES / model.bundle_id
            if not place.exists():
                write_bundle(model.bundle, place)

    def models(self, configuration: Configuration, wanted: Mapping[str, str]) -> dict[str, Model]:
        """The model of every class of a configuration, compiled.

        Args:
            configuration: read and checked.
            wanted: bundle id by asset class; of a class that is not named, what its folder holds.

        Raises:
            ConfigurationError: a bundle is not to be had, is another than the one wanted, or does not fit.
        """
        classes = configuration.settings.asset_classes
        if strange := sorted(wanted.keys() - classes.keys()):
            raise ConfigurationError(
                f"bundles: got {', '.join(strange)}, expected classes of the configuration: {', '.join(classes)}"
            )
        return {name: self._model(configuration, name, wanted.get(name)) for name in classes}

    def _model(self, configuration: Configuration, name: str, wanted: str | None) -> Model:
        asset_class = configuration.settings.asset_classes[name]
        bundle = read_bundle(self._place(configuration, name, wanted))
        if wanted is not None and bundle.id != wanted:
            raise ConfigurationError(
                f"asset class {name!r}: got bundle {bundle.id[:16]}, expected {wanted[:16]}; hint: it belongs into "
                f"{self._folder / BUNDLES / wanted}, or where `bundle` of the class says"
            )
        check_fit(bundle, asset_class, name)
        like = self._compiled.get(bundle.id)
        if like is not None:
            return Model(bundle, asset_class, like.program)
        model = Model(bundle, asset_class)
        model.program.warm_up()
        Detector(asset_class.drift.detector, asset_class.drift.delta)
        self._compiled[bundle.id] = model
        return model

    def _place(self, configuration: Configuration, name: str, wanted: str | None) -> Path:
        kept = self._folder / BUNDLES / wanted if wanted else None
        return kept if kept is not None and kept.exists() else configuration.bundle_path(name)


class Generations:
    """Makes the generations that a journal names.

    Args:
        configuration: of today; anchors relative paths.
        shelf: where models come from.
        replay: True where recorded data are replayed.
    """

    def __init__(self, configuration: Configuration, shelf: Shelf, *, replay: bool) -> None:
        self._configuration = configuration
        self._shelf = shelf
        self._replay = replay
        self._made: dict[str, Generation] = {}

    def __call__(self, change: Change) -> Generation:
        """The generation of a change.

        Raises:
            ConfigurationError: a bundle is not to be had.
        """
        if change.id not in self._made:
            configuration = parse(change.text, self._configuration.path)
            models = self._shelf.models(configuration, change.bundles)
            self._made[change.id] = generation_of(
                configuration, models, replay=self._replay, told=change.told
            )
        return self._made[change.id]

    def models(self, change: Change) -> dict[str, Model]:
        """The models of a change.

        Raises:
            ConfigurationError: a bundle is not to be had, or is another than the one named.
        """
        return self._shelf.models(parse(change.text, self._configuration.path), change.bundles)

    def stands(self, change: Change) -> bool:
        """Whether a change can stay in force beside what was built from today's file."""
        try:
            check_live(self._configuration.settings, parse(change.text, self._configuration.path).settings)
        except ConfigurationError:
            return False
        return True


class Made(NamedTuple):
    """A generation that is ready, with what it is made of and the command that asked for it."""

    generation: Generation
    models: dict[str, Model]
    order: Order | None


class Failed(NamedTuple):
    """A generation that could not be made."""

    error: Exception
    order: Order | None


class Reloader:
    """Makes a new generation when it is asked to; one at a time, in a thread of its own.

    Args:
        configuration: as the daemon began; what must not change while it runs is compared with it.
        shelf: where models come from.
        log: a structlog logger.
        control: commands that ask for one.
    """

    def __init__(
        self, configuration: Configuration, shelf: Shelf, log: Any, control: ControlTopic | None = None
    ) -> None:
        self._configuration = configuration
        self._shelf = shelf
        self._log = log
        self._control = control
        self._asked = False
        self._thread: threading.Thread | None = None
        self._outcome: Made | Failed | None = None
        self.refused = 0

    def ask(self, *_: Any) -> None:
        """Ask for the file to be read; safe in a signal handler."""
        self._asked = True

    def poll(self) -> Generation | None:
        """A generation that is ready to act; called by the loop, at once back."""
        if self._thread is not None and self._thread.is_alive():
            return None
        self._thread = None
        if isinstance(self._outcome, Failed):
            self.refuse(self._outcome.error)
        if isinstance(self._outcome, Made):
            return self._outcome.generation
        if self._asked:
            self._asked = False
            self._begin(None)
        elif self._control is not None and (order := self._control.order()) is not None:
            self._begin(order)
        return None

    def adopted(self, places: Mapping[int, int]) -> None:
        """The engine has taken it into force at these positions."""
        assert isinstance(self._outcome, Made)
        made, self._outcome = self._outcome, None
        if self._control is not None and made.order is not None:
            self._control.settle(made.order)
        self._log.warning(
            "configuration_adopted",
            positions=dict(places),
            bundles={name: model.bundle_id for name, model in made.models.items()},
        )

    def refuse(self, error: Exception) -> None:
        """The old one stays, because of this."""
        outcome, self._outcome = self._outcome, None
        self.refused += 1
        self._log.error("configuration_refused", error=str(error), refused=self.refused)
        if self._control is not None and outcome is not None and outcome.order is not None:
            self._control.settle(outcome.order, str(error))

    def _begin(self, order: Order | None) -> None:
        self._thread = threading.Thread(target=self._make, args=(order,), name="reload", daemon=True)
        self._thread.start()

    def _make(self, order: Order | None) -> None:
        try:
            self._outcome = self._made(order)
        except Exception as error:  # a thread's own end would pass unseen, and the question with it
            self._outcome = Failed(error, order)

    def _made(self, order: Order | None) -> Made:
        """What the file says, or a command.

        Raises:
            NuwatchError: it cannot be taken up.
        """
        configuration = self._of_file() if order is None else parse(order.new.text, self._configuration.path)
        check_live(self._configuration.settings, configuration.settings)
        models = self._shelf.models(configuration, {} if order is None else order.new.bundles)
        self._shelf.keep(models)
        told = None if order is None else order.told
        return Made(generation_of(configuration, models, replay=False, told=told), models, order)

    def _of_file(self) -> Configuration:
        if self._configuration.settings.state.changelog is not None:
            raise ConfigurationError(
                "a daemon that shares its topic does not take up its own file while it runs, because the others would "
                "not; hint: send it to all of them with `nuwatch apply`"
            )
        return read(self._configuration.path)
