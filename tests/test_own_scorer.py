"""The worked example of a scorer of one's own: installed as its package says, by the suites that its page names."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "own_scorer"
LEAST_TESTS = 14


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A Python whose path has the package, with the entry points of its pyproject.toml."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    site = tmp_path_factory.mktemp("site")
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = [
        f"[{group}]\n" + "\n".join(f"{name} = {value}" for name, value in named.items())
        for group, named in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(points) + "\n")
    path = os.pathsep.join([str(site), str(EXAMPLE), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def passed(environment: dict[str, str], *arguments: str) -> int:
    """How many tests pass; all of them must."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:]
    return int(done.stdout.rsplit(" passed", 1)[0].split()[-1])


def test_it_passes_the_contract_suite_and_its_own_tests(environment: dict[str, str]) -> None:
    suite = ["tests/test_scorer_contract.py", "-k", "nearest_neighbour"]
    assert passed(environment, *suite) >= LEAST_TESTS
    assert passed(environment, str(EXAMPLE)) >= 1


def test_with_its_tests_its_page_and_its_package_it_is_under_a_hundred_lines() -> None:
    names = ("README.md", "nearest_neighbour.py", "pyproject.toml", "test_nearest_neighbour.py")
    assert sorted(path.name for path in EXAMPLE.iterdir() if path.is_file()) == sorted(names)
    lines = [line for name in names for line in (EXAMPLE / name).read_text().splitlines() if line.strip()]
    assert len(lines) < 100
