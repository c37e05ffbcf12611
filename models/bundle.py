"""A bundle: everything a trained monitor is made of, as bytes.

Two files: ``bundle.safetensors`` holds every array, ``manifest.json`` says what they are and carries each
one's shape and hash. The bundle's id is the SHA-256 of the manifest without its id; because the manifest
holds the hash of the other file, it names the content of both. Nothing here reads or writes a disk, and
nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from models.hyperparameters import Hyperparameter, hyperparameters
from models.imputation import Imputation
from models.registry import BrokenScorerError, UnknownScorerError, get_scorer
from models.scaling import Scaling
from models.scorer import Params

FORMAT = 1
TENSORS = "bundle.safetensors"
MANIFEST = "manifest.json"

_MANIFEST_TYPES: dict[str, type[Any]] = {
    "format": int,
    "sensors": list,
    "length": int,
    "block": int,
    "scorers": list,
    "fields": dict,
    "tensors": dict,
    "tensors_sha256": str,
}


class BundleError(ValueError):
    """A bundle is damaged, tampered with, or of a format that this version does not read.

    Attributes:
        what: the part that is wrong.
        got: what stands there.
        expected: what should.
    """

    def __init__(self, what: str, got: object, expected: object) -> None:
        super().__init__(
            f"bundle: {what}: got {got}, expected {expected}; "
            "hint: copy the bundle again or train anew, never edit it"
        )
        self.what, self.got, self.expected = what, got, expected


class TrainedScorer(NamedTuple):
    """A scorer's name, its spec (the frozen dataclass), and what it learnt."""

    name: str
    spec: Any
    params: Params


@dataclass(frozen=True, eq=False)
class Bundle:
    """One trained, immutable artefact.

    Attributes:
        sensors: the sensors' names, in the order of every D axis.
        length: samples of a window.
        block: windows of a block; results are bit-identical only within one block size.
        scaling: engineering units to z-scores.
        imputation: what replaces masked readings.
        scorers: the trained scorers, in the order of every S axis.
        calibration: the caller's named arrays (thresholds, calibration scores).
        fields: the caller's own JSON object (units, training interval, versions).
    """

    sensors: tuple[str, ...]
    length: int
    block: int
    scaling: Scaling
    imputation: Imputation
    scorers: tuple[TrainedScorer, ...]
    calibration: Mapping[str, NDArray[np.generic]] = field(default_factory=dict[str, NDArray[np.generic]])
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def id(self) -> str:
        """The SHA-256 that names the content."""
        return json.loads(self.to_files()[MANIFEST])["id"]

    def to_files(self) -> dict[str, bytes]:
        """The two files by name; equal bundles give equal bytes."""
        tensors = {name: np.asarray(array, order="C") for name, array in self._arrays().items()}
        packed = safetensors.numpy.save(dict(sorted(tensors.items())))
        manifest = {
            "format": FORMAT,
            "sensors": list(self.sensors),
            "length": self.length,
            "block": self.block,
            "scorers": [{"name": one.name, "spec": dataclasses.asdict(one.spec)} for one in self.scorers],
            "fields": dict(self.fields),
            "tensors": {name: _describe(array) for name, array in tensors.items()},
            "tensors_sha256": _sha256(packed),
        }
        manifest["id"] = _sha256(_canonical(manifest))
        return {
            TENSORS: packed,
            MANIFEST: json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False).encode(),
        }

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        arrays: dict[str, NDArray[np.generic]] = {
            "scaling/mean": self.scaling.mean,
            "scaling/std": self.scaling.std,
            "imputation/precision": np.asarray(self.imputation.precision),
        }
        arrays |= {f"calibration/{name}": array for name, array in self.calibration.items()}
        for index, scorer in enumerate(self.scorers):
            arrays |= _flatten(scorer.params, f"scorer/{index}")
        return arrays

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Bundle:
        """Rebuild a bundle, checking every hash and shape.

        Args:
            files: the bytes of `TENSORS` and `MANIFEST`.

        Raises:
            BundleError: anything differs from what the manifest says, or the manifest is not one of ours.
        """
        for name in (TENSORS, MANIFEST):
            if name not in files:
                raise BundleError("files", sorted(files), f"{name} among them")
        manifest = _manifest(files[MANIFEST])
        _same("hash of " + TENSORS, _sha256(files[TENSORS]), manifest["tensors_sha256"])
        arrays = _tensors(files[TENSORS], manifest["tensors"])
        return _rebuild(manifest, arrays)


def _rebuild(manifest: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Bundle:
    sensors = tuple(manifest["sensors"])
    square = (len(sensors), len(sensors))
    for name, shape in (
        ("scaling/mean", square[:1]),
        ("scaling/std", square[:1]),
        ("imputation/precision", square),
    ):
        _same(f"shape of {name}", arrays[name].shape if name in arrays else "no such tensor", shape)
    return Bundle(
        sensors=sensors,
        length=manifest["length"],
        block=manifest["block"],
        scaling=Scaling(arrays["scaling/mean"], arrays["scaling/std"]),
        imputation=Imputation(jnp.asarray(arrays["imputation/precision"])),
        scorers=tuple(_scorer(index, entry, arrays) for index, entry in enumerate(manifest["scorers"])),
        calibration=_below("calibration/", arrays),
        fields=manifest["fields"],
    )


def _scorer(index: int, entry: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> TrainedScorer:
    name = entry.get("name")
    try:
        spec_type = get_scorer(str(name)).spec
    except UnknownScorerError as error:
        raise BundleError(f"scorer {index}", repr(name), "a scorer that is installed here") from error
    except BrokenScorerError as error:
        raise BundleError(f"scorer {index}", str(error), "a scorer that can be loaded") from error
    return TrainedScorer(
        str(name), build_spec(spec_type, entry.get("spec")), _nest(_below(f"scorer/{index}/", arrays))
    )


def build_spec(spec_type: type[Any], values: object) -> Any:
    """A spec from a JSON object; fields that are left out take their defaults.

    Args:
        spec_type: a frozen dataclass whose every field has a default.
        values: a JSON object.

    Raises:
        BundleError: not an object, an unknown field, a value of another type than the field's default, or one outside
            its range.
    """
    known = {one.name: one for one in hyperparameters(spec_type)}
    if not isinstance(values, dict):
        raise BundleError(spec_type.__name__, type(values).__name__, "an object")
    given: dict[str, Any] = dict(values)
    for name, value in given.items():
        if name not in known:
            raise BundleError(
                f"{spec_type.__name__}.{name}", "an unknown field", f"one of {', '.join(known)}"
            )
        given[name] = _within(f"{spec_type.__name__}.{name}", value, known[name])
    return spec_type(**given)


def _within(where: str, value: Any, known: Hyperparameter) -> Any:
    """The value in its default's type, if it is in the range."""
    like = _like(where, value, known.default)
    if not known.accepts(like):
        raise BundleError(where, repr(value), known.range)
    return like


def _like(where: str, value: Any, default: Any) -> Any:
    """The value in its default's type: JSON knows neither tuples nor the difference between 1 and 1.0."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(value)
    if type(value) is not type(default):
        raise BundleError(where, repr(value), f"a {type(default).__name__}")
    return value


def _manifest(raw: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(raw)
    except ValueError as error:
        raise BundleError(MANIFEST, str(error), "JSON") from error
    if not isinstance(manifest, dict):
        raise BundleError(MANIFEST, type(manifest).__name__, "an object")
    found: dict[str, Any] = dict(manifest)
    _same("format", found.get("format"), FORMAT)
    claimed = found.pop("id", None)
    _same("id in " + MANIFEST, claimed, _sha256(_canonical(found)))
    _same("fields of " + MANIFEST, sorted(found), sorted(_MANIFEST_TYPES))
    for name, expected in _MANIFEST_TYPES.items():
        _same(f"type of {name}", type(found[name]).__name__, expected.__name__)
    return found


def _tensors(raw: bytes, described: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    try:
        arrays = safetensors.numpy.load(raw)
    except safetensors.SafetensorError as error:
        raise BundleError(TENSORS, str(error), "safetensors") from error
    _same("tensors", sorted(arrays), sorted(described))
    for name, array in arrays.items():
        _same(f"tensor {name}", _describe(array), described[name])
    return arrays


def _describe(array: NDArray[np.generic]) -> dict[str, Any]:
    return {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": _sha256(array.tobytes())}


def _flatten(params: Params, prefix: str) -> dict[str, NDArray[np.generic]]:
    flat: dict[str, NDArray[np.generic]] = {}
    for name, value in params.items():
        path = f"{prefix}/{name}"
        flat |= _flatten(value, path) if isinstance(value, Mapping) else {path: np.asarray(value)}
    return flat


def _nest(flat: Mapping[str, NDArray[Any]]) -> Params:
    nested: dict[str, Any] = {}
    for path, array in flat.items():
        *parents, leaf = path.split("/")
        level = nested
        for parent in parents:
            level = level.setdefault(parent, {})
        level[leaf] = jnp.asarray(array)
    return nested


def _below(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _same(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise BundleError(what, got, expected)


def _canonical(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
