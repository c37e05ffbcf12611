"""The compiled program: one shape, the same bits for a window wherever it stands, whole blocks to devices."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from models.expectation import Bands, expect
from models.program import Program, compile_program
from models.registry import get_scorer
from models.scorer import Windows
from tests.bundles import random_bundle

SIZES = [(8, 64, 64, 64), (32, 128, 128, 32), (7, 10, 24, 16)]


def some_windows(count: int, program_shape: tuple[int, int], masked: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    values = rng.normal(size=(count, *program_shape)).astype(np.float32)
    mask = np.ones(values.shape, bool)
    if masked:
        mask[::3] = rng.random(mask[::3].shape) > 0.1
    return values, mask


def warm(sensors: int, length: int, hidden: int, block: int) -> Program:
    program = compile_program(random_bundle(sensors, length, hidden, block))
    program.warm_up()
    return program


@pytest.mark.parametrize(("sensors", "length", "hidden", "block"), SIZES)
def test_a_window_has_the_same_bits_in_any_company_at_any_place(sensors, length, hidden, block):
    program = warm(sensors, length, hidden, block)
    values, mask = some_windows(3 * block + 5, (length, sensors), masked=True)
    together = program(values, mask)
    rng = np.random.default_rng(6)
    for count in (1, 2, block - 1, block, block + 1, len(values)):
        picked = rng.permutation(len(values))[:count]
        apart = program(values[picked], mask[picked])
        for one, other in zip(apart, together, strict=True):
            np.testing.assert_array_equal(one, other[picked])
    assert program.recompiles == 0


def test_a_masked_neighbour_does_not_change_a_fully_real_window():
    program = warm(8, 16, 16, 16)
    values, mask = some_windows(48, (16, 8), masked=True)
    real = mask.all(axis=(1, 2))
    mixed, alone = program(values, mask), program(values[real], mask[real])
    np.testing.assert_array_equal(mixed.score[real], alone.score)


def test_what_stands_at_masked_entries_does_not_matter():
    program = warm(8, 16, 16, 16)
    values, mask = some_windows(20, (16, 8), masked=True)
    other = np.where(mask, values, np.float32(1e5))
    np.testing.assert_array_equal(program(values, mask).score, program(other, mask).score)


def test_the_program_agrees_with_each_scorer_called_by_itself():
    bundle = random_bundle(5, 12, 8, 16)
    values, mask = some_windows(40, (12, 5), masked=False)
    scored = compile_program(bundle)(values, mask)
    for place, one in enumerate(bundle.scorers):
        windows = Windows(jax.numpy.asarray(values), jax.numpy.asarray(mask))
        score = partial(get_scorer(one.name).score, spec=one.spec)
        alone = jax.jit(score)(one.params, windows=windows)
        np.testing.assert_allclose(scored.score[:, place], alone.score, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(scored.contributions[:, place], alone.contributions, rtol=1e-3, atol=1e-5)
    bands = Bands.from_arrays(bundle.calibration, 5)
    last = jax.numpy.asarray(values[:, -1]), jax.numpy.asarray(mask[:, -1])
    expected = expect(bundle.imputation.precision, bands, *last)
    np.testing.assert_allclose(scored.expected, expected.value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scored.sigma, expected.sigma, rtol=1e-4)


def test_no_windows_give_empty_results():
    scored = compile_program(random_bundle(5, 12, 8, 16))(
        np.zeros((0, 12, 5), np.float32), np.zeros((0, 12, 5), bool)
    )
    assert scored.score.shape == (0, 4)
    assert scored.contributions.shape == (0, 4, 5)


def test_windows_of_another_shape_are_refused_and_the_message_names_both():
    program = compile_program(random_bundle(5, 12, 8, 16))
    with pytest.raises(ValueError, match=r"got values \(3, 11, 5\).*expected both \[windows, 12, 5\]"):
        program(np.zeros((3, 11, 5), np.float32), np.ones((3, 11, 5), bool))


def test_windows_of_another_type_are_refused():
    program = compile_program(random_bundle(5, 12, 8, 16))
    with pytest.raises(ValueError, match="got values float64 and mask bool, expected float32 and bool"):
        program(np.zeros((3, 12, 5)), np.ones((3, 12, 5), bool))


def test_a_block_of_another_shape_would_be_counted_as_a_recompilation():
    program = warm(5, 12, 8, 16)
    program(np.zeros((3, 12, 5), np.float32), np.ones((3, 12, 5), bool))
    assert program.recompiles == 0
    program._compiled.call(program._learnt[0], np.zeros((17, 12, 5), np.float32), np.ones((17, 12, 5), bool))
    assert program.recompiles == 1


def test_a_bundle_of_the_same_scorers_and_shapes_is_scored_without_another_trace():
    first = warm(5, 12, 8, 16)
    second = compile_program(random_bundle(5, 12, 8, 16, seed=7))
    values, mask = some_windows(20, (12, 5), masked=True)
    assert not np.array_equal(first(values, mask).score, second(values, mask).score)
    assert second._compiled is first._compiled
    assert first.recompiles == 0


def test_a_bundle_of_other_shapes_is_a_program_of_its_own():
    first = warm(5, 12, 8, 16)
    warm(5, 12, 9, 16)
    warm(6, 12, 8, 16)
    assert first.recompiles == 0


def run_in_new_process(code: str, **environment: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_four_devices_take_whole_blocks_in_turn_and_give_the_bits_of_one():
    out = run_in_new_process(
        """
        from dataclasses import replace
        import jax, numpy as np
        from models.program import compile_program
        from tests.bundles import random_bundle
        bundle = random_bundle(8, 16, 16, 16)
        bundle = replace(bundle, scorers=bundle.scorers[:1])
        one, four = compile_program(bundle), compile_program(bundle, devices=jax.devices())
        one.warm_up(); four.warm_up()
        values = np.random.default_rng(0).normal(size=(16 * 9 + 3, 16, 8)).astype(np.float32)
        mask = np.ones(values.shape, bool)
        used = []
        put, jax.device_put = jax.device_put, lambda tree, device: (used.append(device.id), put(tree, device))[1]
        single = one(values, mask)
        used.clear()
        same = all((a == b).all() for a, b in zip(single, four(values, mask)))
        print(len(jax.devices()), same, used, four.recompiles)
        """,
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
    )
    assert out.strip() == "4 True [0, 1, 2, 3, 0, 1, 2, 3, 0, 1] 0"


def test_scoring_imports_neither_flax_nor_optax():
    out = run_in_new_process(
        """
        import sys
        from models.program import compile_program
        from tests.bundles import random_bundle
        compile_program(random_bundle(5, 12, 8, 16)).warm_up()
        print([name for name in ("flax", "optax", "sklearn", "river") if name in sys.modules])
        """
    )
    assert out.strip() == "[]"
