"""The wheel: what is in it, and that it works in another folder without the checkout."""

from __future__ import annotations

import email
import os
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from monitor import __version__

CHECKOUT = Path(__file__).resolve().parent.parent
SOURCES = (
    "monitor",
    "models",
    "connectors",
    "benchmarks",
    "config",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves files behind, and what git ignores must not get in by luck."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        origin = CHECKOUT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, source / name)
    (source / "tests").mkdir()
    (source / "tests" / "test_nothing.py").write_text("")
    (source / "examples").mkdir()
    (source / "examples" / "nothing.csv").write_text("")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(source / "dist")]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_packages_and_their_data_are_inside_and_nothing_else(names: set[str]) -> None:
    expected = {
        str(path.relative_to(CHECKOUT))
        for package in ("monitor", "models", "connectors", "benchmarks/detection")
        for path in (CHECKOUT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected.add("benchmarks/__init__.py")  # of the benchmarks only what `nuwatch benchmark` runs
    expected |= {
        f"monitor/data/config/{path.relative_to(CHECKOUT / 'config')}"
        for path in (CHECKOUT / "config").rglob("*")
        if path.is_file()
    }
    metadata = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    assert names - metadata == expected
    assert {
        "monitor/report/page.css",
        "monitor/report/page.js",
        "monitor/data/config/nuwatch.yaml",
        "monitor/data/config/nuwatch.schema.json",
    } <= names


def test_no_test_and_no_example_is_inside(names: set[str]) -> None:
    assert {name.split("/")[0] for name in names} == {
        "monitor",
        "models",
        "connectors",
        "benchmarks",
        f"nuwatch-{__version__}.dist-info",
    }


def test_its_metadata_name_the_version_the_command_and_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"nuwatch-{__version__}.dist-info"
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        points = archive.read(f"{info}/entry_points.txt").decode()
        assert f"{info}/licenses/LICENSE" in archive.namelist()
    assert metadata["Version"] == __version__
    assert metadata["Requires-Python"] == ">=3.11"
    needs = {
        line.split("[")[0].split("<")[0].split(">")[0] for line in metadata.get_all("Requires-Dist") or ()
    }
    assert {"jax", "flax", "optax", "kafka-python", "numpy", "river", "pyyaml", "click"} <= needs
    assert "pytest" not in needs
    assert "nuwatch = monitor.cli:main" in points


class Installed:
    """The wheel in a folder of its own, run in another one."""

    def __init__(self, target: Path, folder: Path) -> None:
        self.target, self.folder = target, folder

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """With the wheel and the environment's packages; without its .pth files, which name the checkout."""
        packages = [str(self.target), *site.getsitepackages()]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environment |= {"PYTHONPATH": os.pathsep.join(packages), "JAX_PLATFORMS": "cpu"}
        return subprocess.run(
            [sys.executable, "-S", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def nuwatch(self, *arguments: str) -> str:
        done = self.run("-m", "monitor", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Pure Python: installing is unpacking, as ``pip install --no-deps --target`` does."""
    target = tmp_path_factory.mktemp("target")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return Installed(target, tmp_path_factory.mktemp("elsewhere"))


def test_it_is_the_wheel_that_runs_and_the_checkout_cannot_be_imported(installed: Installed) -> None:
    probe = (
        "import connectors, models, monitor, sys\n"
        "print(*{m.__path__[0] for m in (monitor, models, connectors)}, sep='\\n')\n"
        "print('PATH', *sys.path, sep='\\n')\n"
        "import tests\n"
    )
    done = installed.run("-c", probe)
    before, _, path = done.stdout.partition("PATH\n")
    assert set(before.split()) == {str(installed.target / p) for p in ("monitor", "models", "connectors")}
    assert str(CHECKOUT) not in path.splitlines()
    assert "No module named 'tests'" in done.stderr


def test_it_tells_its_version_and_its_help(installed: Installed) -> None:
    assert installed.nuwatch("--version").split() == ["nuwatch,", "version", __version__]
    assert "nuwatch init" in installed.nuwatch("--help")


@pytest.mark.parametrize("template", ["default", "continuous", "batch"])
def test_what_init_writes_there_passes_validate_there(installed: Installed, template: str) -> None:
    name = f"{template}.yaml"
    installed.nuwatch("init", name, "--template", template)
    written = (installed.folder / name).read_text(encoding="utf-8")
    source = {"default": "nuwatch.yaml"}.get(template, name)
    assert written == (CHECKOUT / "config" / source).read_text(encoding="utf-8")
    assert "0 errors" in installed.nuwatch("validate", name)


def test_the_detection_benchmark_judges_own_data_there(installed: Installed) -> None:
    folder = installed.folder / "series"
    folder.mkdir()
    rng = np.random.default_rng(1)
    rows = [f"{second},{a:.6f},{b:.6f}" for second, (a, b) in enumerate(rng.normal(size=(700, 2)))]
    (folder / "one.csv").write_text("\n".join(["timestamp,a,b", *rows]) + "\n")
    wanted = (
        "benchmark",
        "detection",
        "--data",
        "series",
        "--dataset",
        "csv",
        "--scorer",
        "pca",
        "--scores",
        "out",
    )
    installed.nuwatch(*wanted)
    written = (installed.folder / "out" / "csv" / "one.csv").read_text().splitlines()
    assert written[0] == "timestamp,score,label,split,alarm"
    assert len(written) == 701


def test_schemas_are_printed_there(installed: Installed) -> None:
    assert "Configuration of nuwatch" in installed.nuwatch("schema", "settings")


def test_a_report_finds_its_style_and_script_there(installed: Installed) -> None:
    done = installed.run(
        "-c",
        "from importlib.resources import files\n"
        "for name in ('page.css', 'page.js'):\n"
        "    print(len(files('monitor.report').joinpath(name).read_text(encoding='utf-8')) > 100)\n",
    )
    assert done.stdout.split() == ["True", "True"], done.stderr
