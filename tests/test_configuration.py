"""Reading a configuration: values, and errors with file, line, path and what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.configuration import Misfit, parse, read
from monitor.errors import ConfigurationError
from monitor.quantities import Duration, Instant, iso_time
from monitor.yaml_lines import YamlError, load

MINIMAL = """\
site: plant-a
source: {kind: memory}
asset_classes:
  reactor:
    assets: ["R-*"]
    sampling: 10s
    sensors:
      temperature: {unit: Cel}
"""


def misfit(text: str) -> Misfit:
    with pytest.raises(Misfit) as caught:
        parse(text, Path("plant.yaml"))
    return caught.value


# -- values ---------------------------------------------------------------------------------------------------


def test_what_the_file_leaves_out_has_its_default_and_what_it_says_is_taken() -> None:
    configuration = parse(MINIMAL + "    calibration: {nu: 0.02}\n", Path("conf/plant.yaml"))
    reactor = configuration.settings.asset_classes["reactor"]
    assert reactor.sampling == 10_000_000_000
    assert reactor.calibration.nu == 0.02
    assert reactor.window.length == 64
    assert configuration.settings.sink == {"kind": "memory"}
    assert configuration.folder == Path("conf")
    assert configuration.bundle_path("reactor") == Path("conf/bundle")


def test_a_place_is_named_by_file_and_line_and_a_default_by_its_section() -> None:
    configuration = parse(MINIMAL, Path("plant.yaml"))
    assert configuration.where("asset_classes", "reactor", "sampling") == "plant.yaml:6"
    assert configuration.where("asset_classes", "reactor", "window", "length") == "plant.yaml:4"
    assert configuration.where("times") == "plant.yaml:1"


# -- errors ---------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_an_error_with_its_line_and_what_was_meant() -> None:
    error = misfit(MINIMAL + "    window: {lenght: 32}\n")
    assert error.steps == ("asset_classes", "reactor", "window", "lenght")
    assert str(error) == (
        "plant.yaml:9: asset_classes.reactor.window.lenght: unknown key 'lenght'; hint: did you mean 'length'?"
    )


def test_an_unknown_key_like_no_other_brings_the_list_of_known_ones() -> None:
    assert "known here: length, stride, min_coverage, min_maturity" in str(
        misfit(MINIMAL + "    window: {xyz: 32}\n")
    )


def test_a_wrong_type_names_what_was_expected_and_got() -> None:
    error = misfit(MINIMAL + "    window:\n      length: long\n")
    assert str(error) == "plant.yaml:10: asset_classes.reactor.window.length: expected `int`, got `str`"


def test_a_wrong_word_brings_the_words_that_are_allowed() -> None:
    error = misfit(MINIMAL.replace("{unit: Cel}", "{unit: Cel, role: process}"))
    assert error.where == "plant.yaml:8"
    assert error.steps[-1] == "role"
    assert "'pv', 'setpoint', 'output'" in error.problem


def test_a_duration_without_a_unit_is_refused_with_an_example() -> None:
    error = misfit(MINIMAL.replace("10s", "10"))
    assert (error.where, error.steps[-1]) == ("plant.yaml:6", "sampling")
    assert "'10s'" in error.problem
    assert "got 10" in error.problem


def test_a_missing_key_is_reported_at_the_section_that_lacks_it() -> None:
    error = misfit(MINIMAL.replace("    sampling: 10s\n", ""))
    assert error.steps == ("asset_classes", "reactor")
    assert "`sampling`" in error.problem


def test_the_wrong_one_of_several_sensors_is_named() -> None:
    text = MINIMAL + "      pressure: {unit: bar, range: [0, high]}\n      flow: {unit: kg/h}\n"
    error = misfit(text)
    assert error.where == "plant.yaml:9"
    assert error.steps == ("asset_classes", "reactor", "sensors", "pressure", "range", 1)


def test_an_empty_file_and_a_list_are_refused() -> None:
    assert "expected `object`, got `null`" in str(misfit(""))
    assert "expected `object`, got `array`" in str(misfit("- a\n"))


def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read the configuration: No such file"):
        read(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"site: caf\xe9\n")
    with pytest.raises(ConfigurationError, match="expected UTF-8"):
        read(tmp_path / "latin.yaml")


def test_yaml_errors_carry_file_and_line() -> None:
    with pytest.raises(
        ConfigurationError, match=r"^plant\.yaml:3: duplicate key 'site', first given on line 1"
    ):
        parse("site: a\nsource: {}\nsite: b\n", Path("plant.yaml"))


# -- YAML with lines ------------------------------------------------------------------------------------------


def test_every_node_knows_its_line_and_what_is_not_there_takes_its_ancestors() -> None:
    document = load("a:\n  b: 1\n  c:\n    - x\n    - y\n")
    assert document.data == {"a": {"b": 1, "c": ["x", "y"]}}
    assert [document.line(path) for path in (("a",), ("a", "b"), ("a", "c"), ("a", "c", 1))] == [1, 2, 3, 5]
    assert document.line(("a", "b", "deeper", "still")) == 2
    assert document.line(("z",)) == 1


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: [1, 2\n", 3, "expected"),
        ("a: 1\n1: b\n", 2, "expected a text key, got '1'"),
        ("a:\n  x: 1\n  y: 2\n  x: 3\n", 4, "duplicate key 'x', first given on line 2"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "could not determine a constructor"),
        ("a: 1\nb: !!binary aGk=\nc: !plant R-101\n", 3, "could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ("a: &a\n  - *a\n", 1, "nested deeper than 50 levels"),
    ],
)
def test_yaml_that_is_not_accepted_says_why_and_where(text: str, line: int, message: str) -> None:
    with pytest.raises(YamlError, match=message) as caught:
        load(text)
    assert caught.value.line == line


def test_aliases_may_repeat_a_part_but_not_grow_without_end() -> None:
    assert load("a: &a {x: 1}\nb: *a\n").data == {"a": {"x": 1}, "b": {"x": 1}}
    bomb = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for new, old in zip("bcdef", "abcde", strict=True):
        bomb += f"{new}: &{new} [" + ", ".join(f"*{old}" for _ in range(10)) + "]\n"
    with pytest.raises(YamlError, match="more than 100000 values"):
        load(bomb)


def test_a_bare_time_stays_text_so_that_one_parser_reads_all() -> None:
    assert load("t: 2026-11-22T01:13:56Z\n").data == {"t": "2026-11-22T01:13:56Z"}


# -- quantities -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("500ms", 500_000_000),
        ("10s", 10_000_000_000),
        ("1h30min", 5_400_000_000_000),
        ("1.5 s", 1_500_000_000),
        ("7d", 604_800_000_000_000),
        ("2m", 120_000_000_000),
        ("1us", 1_000),
        ("3ns", 3),
    ],
)
def test_durations_are_read_with_their_unit(text: str, ns: int) -> None:
    assert Duration.parse(text) == ns


@pytest.mark.parametrize("text", ["", "10", "s", "10 parsecs", "-5s", "1h x"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as '500ms'"):
        Duration.parse(text)


def test_a_duration_is_written_as_it_is_read() -> None:
    assert str(Duration.parse("90min")) == "1h30min"
    assert str(Duration.parse("1500ms")) == "1s500ms"
    assert str(Duration(0)) == "0s"
    assert Duration.parse("250ms").seconds == 0.25


def test_instants_are_read_in_any_offset_and_written_in_utc() -> None:
    assert Instant.parse("1970-01-01T00:00:01Z") == 1_000_000_000
    assert Instant.parse("1970-01-01T01:00:00.5+01:00") == 500_000_000
    assert str(Instant.parse("2026-11-22T02:13:56+01:00")) == "2026-11-22T01:13:56Z"
    assert iso_time(1) == "1970-01-01T00:00:00.000000001Z"
    assert iso_time(1_500_000_000) == "1970-01-01T00:00:01.500Z"


def test_an_instant_without_an_offset_is_refused_with_a_hint() -> None:
    with pytest.raises(ValueError, match="hint: write 2026-11-22T01:13:56Z for UTC"):
        Instant.parse("2026-11-22T01:13:56")
    with pytest.raises(ValueError, match="expected an ISO 8601 time"):
        Instant.parse("yesterday")


def test_a_date_alone_is_refused_with_a_hint_that_can_be_copied() -> None:
    with pytest.raises(ValueError, match="hint: write 2026-07-01T00:00:00Z for UTC"):
        Instant.parse("2026-07-01")
    assert str(Instant.parse("2026-07-01T00:00:00Z")) == "2026-07-01T00:00:00Z"
