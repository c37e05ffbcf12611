"""What the soak (`make soak`) makes of its looks at a daemon: a leak shows, and noise does not."""

from __future__ import annotations

import pytest

from tests.soak import Look, growth

MEBIBYTE = 2**20


def looks(resident: int, descriptors: int) -> list[Look]:
    """Half an hour; memory fills by 200 MiB in the first ten minutes, and what is given is added per minute."""
    filled = [min(second, 600) * MEBIBYTE // 3 for second in range(1800)]
    return [
        Look(
            second,
            300 * MEBIBYTE + filled[second] + second * resident // 60 + second % 7 * 65_536,
            20 + second % 2 + second * descriptors // 60,
        )
        for second in range(1800)
    ]


def test_what_fills_in_the_first_minutes_and_then_stays_is_flat() -> None:
    grown = growth(looks(0, 0))
    assert grown.flat
    assert grown.descriptors == (20, 21)
    assert grown.resident == pytest.approx(500.2 * MEBIBYTE, rel=0.001)


def test_a_mebibyte_a_minute_is_a_leak() -> None:
    grown = growth(looks(MEBIBYTE, 0))
    assert not grown.flat
    assert grown.a_minute == pytest.approx(MEBIBYTE, rel=0.01)


def test_a_descriptor_a_minute_is_a_leak() -> None:
    grown = growth(looks(0, 1))
    assert not grown.flat
    assert grown.opened == pytest.approx(15, rel=0.05)
