"""Nothing is unpickled, and nothing of ours evaluates text: by what our modules import and call, and by what happens.

An audit hook sees every global that an unpickler looks up (the event ``pickle.find_class``, raised by the C and the
Python implementation alike), whoever calls it. So libraries may import pickle, and many do; using it would show.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from monitor.quantities import iso_time
from tests.worlds import SECOND, START, autoregressive

ROOT = Path(__file__).resolve().parent.parent
OURS = sorted(
    path for name in ("monitor", "models", "connectors", "benchmarks") for path in (ROOT / name).rglob("*.py")
)
FORBIDDEN = {
    "pickle",
    "cPickle",
    "_pickle",
    "pickletools",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "jsonpickle",
}
CALLS = {"eval", "exec", "read_pickle", "to_pickle", "unsafe_load", "full_load", "load_module"}


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dangerous(tree: ast.AST) -> Iterator[str]:
    """Calls that would run what they read."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = getattr(getattr(node.func, "value", None), "id", "")
        if name in CALLS and not (name == "eval" and owner in ("pc", "pd")):
            yield f"{name}() at line {node.lineno}"
        for keyword in node.keywords:
            if keyword.arg == "allow_pickle" and getattr(keyword.value, "value", None) is not False:
                yield f"allow_pickle at line {node.lineno}"
        if (owner, name) in {("yaml", "load"), ("yaml", "load_all")} and not _safe_loader(node):
            yield f"yaml.{name}() at line {node.lineno}"
        if (owner, name) == ("torch", "load"):
            yield f"torch.load() at line {node.lineno}"


def _safe_loader(node: ast.Call) -> bool:
    text = ast.unparse(node)
    return "Safe" in text or "_Loader" in text


def test_no_module_of_ours_imports_pickle_or_runs_what_it_reads() -> None:
    found: dict[str, list[str]] = {}
    for path in OURS:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {part for name in imported(tree) for part in (name.split(".")[0], name.split(".")[-1])}
        wrong = sorted(names & FORBIDDEN) + list(dangerous(tree))
        if wrong:
            found[str(path.relative_to(ROOT))] = wrong
    assert len(OURS) > 150
    assert found == {}


def test_the_walk_sees_what_it_looks_for() -> None:
    bad = ast.parse(
        "import pickle as p\nfrom joblib import load\nimport numpy as np\nnp.load('x', allow_pickle=True)\n"
        "yaml.load(text)\neval('1')\npd.read_pickle('x')\n"
    )
    assert {"pickle", "joblib"} <= set(imported(bad))
    assert len(list(dangerous(bad))) == 4


# -- at run time ----------------------------------------------------------------------------------------------

HARNESS = """
import sys
seen = []
def hook(event, arguments):
    if event == "pickle.find_class":
        seen.append(".".join(map(str, arguments)))
sys.addaudithook(hook)
{body}
print("UNPICKLED", sorted(set(seen)))
"""
COMMANDS = """
from monitor.cli import main
for words in {words!r}:
    sys.argv = ["nuwatch", *words]
    try:
        main()
    except SystemExit as ended:
        assert ended.code in (0, None), (words, ended.code)
"""


def unpickled(body: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HARNESS.format(body=body)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


def test_training_replaying_and_running_twice_unpickle_nothing(tmp_path: Path) -> None:
    """The second run restores the first one's state and finds JAX's compiled programs in its cache."""
    for name, seed, begin in (("normal", 3, 0), ("live", 4, 5000)):
        rows = autoregressive(seed, 900, 2)
        lines = [f"{iso_time(START + (begin + n) * SECOND)},{x},{y}" for n, (x, y) in enumerate(rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["t,a,b", *lines]) + "\n")
    (tmp_path / "plant.yaml").write_text(
        """
site: test
source: {kind: files, paths: [live.csv], time: {column: t}, asset: plant/0}
sink: {kind: files, directory: out}
recordings: {paths: [normal.csv], time: {column: t}, asset: plant/0}
asset_classes:
  unit:
    assets: ["plant/*"]
    sampling: 1s
    sensors: {a: {unit: Cel}, b: {unit: bar}}
    window: {length: 8}
    calibration: {nu: 0.05, enough: 1}
    drift: {detector: adwin, samples: 60}
    scoring: {scorers: {pca: {}, var: {}, mewma: {}}, block: 32}
"""
    )
    words = [
        ["train", "plant.yaml", "--allow-uncalibrated"],
        ["replay", "plant.yaml", "live.csv"],
        ["run", "plant.yaml"],
        ["run", "plant.yaml"],
    ]
    assert unpickled(COMMANDS.format(words=words), tmp_path) == "UNPICKLED []"


def test_the_hook_sees_an_object_that_is_unpickled(tmp_path: Path) -> None:
    body = "import pickle, decimal; pickle.loads(pickle.dumps(decimal.Decimal(1)))"
    assert unpickled(body, tmp_path) == "UNPICKLED ['decimal.Decimal']"
