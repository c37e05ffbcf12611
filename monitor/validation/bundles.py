"""Whether the trained bundles are there and fit the configuration."""

from __future__ import annotations

from pathlib import Path

from monitor.errors import ConfigurationError
from monitor.settings import Settings
from monitor.validation.finding import Findings


def check_bundles(settings: Settings, folder: Path, findings: Findings) -> None:
    """One finding at most per class; a missing bundle is only a warning, as a new configuration has none.

    Args:
        settings: the configuration.
        folder: relative paths start here.
        findings: take what is wrong.
    """
    # imports the numerics, which takes a second
    from models.bundle import MANIFEST
    from monitor.bundles import read_bundle
    from monitor.model import check_fit

    for name, asset_class in settings.asset_classes.items():
        at = ("asset_classes", name, "bundle")
        place = folder / asset_class.bundle
        if not (place / MANIFEST).exists():
            findings.warning(at, f"no bundle in {place}", "run `nuwatch train` before `replay` and `run`")
            continue
        try:
            check_fit(read_bundle(place), asset_class, name)
        except ConfigurationError as error:
            message, _, hint = str(error).partition("; hint: ")
            findings.error(at, message, hint)
