"""Bundles on disk: a folder per asset class with the two files of `models.bundle`."""

from __future__ import annotations

import os
from pathlib import Path

from models.bundle import MANIFEST, TENSORS, Bundle, BundleError
from monitor.errors import ConfigurationError, StateError


def read_bundle(folder: Path) -> Bundle:
    """Load a bundle, checking every hash.

    Raises:
        ConfigurationError: it is missing, damaged or of another format.
    """
    try:
        files = {name: (folder / name).read_bytes() for name in (TENSORS, MANIFEST)}
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{folder}: no bundle here ({Path(error.filename).name} is missing); hint: run `nuwatch train` first"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{folder}: cannot read the bundle: {error.strerror}") from None
    try:
        return Bundle.from_files(files)
    except BundleError as error:
        raise ConfigurationError(f"{folder}: {error}") from error


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Write a bundle; each file is replaced atomically, the manifest last.

    Raises:
        StateError: the folder cannot be written.
    """
    files = bundle.to_files()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (TENSORS, MANIFEST):
            temporary = folder / f".{name}.tmp"
            with temporary.open("wb") as file:
                file.write(files[name])
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / name)
    except OSError as error:
        raise StateError(f"{folder}: cannot write the bundle: {error.strerror}") from error
