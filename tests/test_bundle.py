"""Bundles as bytes: they come back as they were, and nothing altered or unknown is accepted."""

from __future__ import annotations

import hashlib
import json

import jax
import numpy as np
import pytest

from models.bundle import MANIFEST, TENSORS, Bundle, BundleError, build_spec
from models.lstm_autoencoder import LstmAutoencoderSpec
from models.ocnn import OcnnSpec
from models.program import compile_program
from tests.bundles import random_bundle


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return random_bundle(5, 12, 8, 16)


def resealed(manifest: dict) -> bytes:
    """A manifest with a right id, as a careful forger would write it."""
    manifest = {name: value for name, value in manifest.items() if name != "id"}
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    return json.dumps(manifest | {"id": hashlib.sha256(canonical).hexdigest()}).encode()


def altered(bundle: Bundle, change) -> dict[str, bytes]:
    files = bundle.to_files()
    manifest = json.loads(files[MANIFEST])
    change(manifest)
    return files | {MANIFEST: resealed(manifest)}


def test_a_bundle_comes_back_as_it_was(bundle):
    back = Bundle.from_files(bundle.to_files())
    assert back.id == bundle.id
    assert (back.sensors, back.length, back.block, dict(back.fields)) == (
        bundle.sensors,
        bundle.length,
        bundle.block,
        dict(bundle.fields),
    )
    assert [(one.name, one.spec) for one in back.scorers] == [(one.name, one.spec) for one in bundle.scorers]
    np.testing.assert_array_equal(back.calibration["scores"], np.arange(12.0).reshape(6, 2))
    assert back.scaling.mean.dtype == np.float64
    for one, other in zip(back.scorers, bundle.scorers, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


def test_a_bundle_that_came_back_scores_the_same_bits(bundle):
    values = np.random.default_rng(0).normal(size=(20, 12, 5)).astype(np.float32)
    mask = np.ones(values.shape, bool)
    back = Bundle.from_files(bundle.to_files())
    for one, other in zip(
        compile_program(bundle)(values, mask), compile_program(back)(values, mask), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_equal_bundles_give_equal_bytes(bundle):
    assert bundle.to_files() == random_bundle(5, 12, 8, 16).to_files()


@pytest.mark.parametrize("place", [0, 9, -1])
def test_a_flipped_byte_among_the_tensors_is_refused(bundle, place):
    files = bundle.to_files()
    damaged = bytearray(files[TENSORS])
    damaged[place] ^= 1
    with pytest.raises(BundleError, match=r"hash of bundle\.safetensors"):
        Bundle.from_files(files | {TENSORS: bytes(damaged)})


def test_an_edited_manifest_is_refused(bundle):
    files = bundle.to_files()
    edited = files[MANIFEST].replace(b"Cel", b"K", 1)
    with pytest.raises(BundleError, match=r"id in manifest\.json"):
        Bundle.from_files(files | {MANIFEST: edited})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda m: m.update(format=2), "format: got 2, expected 1"),
        (lambda m: m["tensors"]["scaling/mean"].update(shape=[6]), "tensor scaling/mean"),
        (lambda m: m["tensors"].pop("scaling/mean"), "tensors"),
        (lambda m: m["sensors"].append("extra"), "shape of scaling/mean"),
        (lambda m: m["scorers"][0].update(name="unheard_of"), "scorer 0: got 'unheard_of'"),
        (
            lambda m: m["scorers"][0]["spec"].update(hiden=3),
            r"LstmAutoencoderSpec.hiden: got an unknown field",
        ),
        (lambda m: m["scorers"][0]["spec"].update(hidden="many"), r"LstmAutoencoderSpec.hidden: got 'many'"),
        (lambda m: m.pop("length"), "length"),
        (lambda m: m.update(length="12"), "length"),
        (lambda m: m.update(surprise=1), "surprise"),
    ],
)
def test_a_manifest_that_is_sealed_but_wrong_is_refused_by_name(bundle, change, what):
    with pytest.raises(BundleError, match=what):
        Bundle.from_files(altered(bundle, change))


@pytest.mark.parametrize("raw", [b"", b"\x80\x04K\x01.", b"[]", b"{"])
def test_something_that_is_no_manifest_is_refused(bundle, raw):
    with pytest.raises(BundleError):
        Bundle.from_files(bundle.to_files() | {MANIFEST: raw})


def test_a_missing_file_is_named(bundle):
    files = bundle.to_files()
    del files[TENSORS]
    with pytest.raises(BundleError, match=r"bundle\.safetensors among them"):
        Bundle.from_files(files)


def test_a_spec_takes_its_defaults_and_whole_numbers_for_floats():
    assert build_spec(OcnnSpec, {"width": 3, "hidden": 16}) == OcnnSpec(width=3.0, hidden=16)
    with pytest.raises(BundleError, match=r"LstmAutoencoderSpec\.hidden: got True, expected a int"):
        build_spec(LstmAutoencoderSpec, {"hidden": True})
