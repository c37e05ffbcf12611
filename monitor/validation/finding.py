"""One thing that is wrong, or worth a look, and where it stands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from monitor.yaml_lines import Document, Path

Level = Literal["error", "warning", "hint"]


class Finding(NamedTuple):
    """What is wrong, where, and what was expected.

    Attributes:
        level: an error keeps the other commands from working; a warning is likely a mistake; a hint could make
            it better.
        where: 'file:line'.
        path: the setting, such as 'asset_classes.reactor.window.length'; '' is the file itself.
        message: what was got.
        expected: what would be right, or what to do; may be empty.
    """

    level: Level
    where: str
    path: str
    message: str
    expected: str = ""


class Findings:
    """Collects findings about the parts of one file.

    Args:
        file: the file's name, as a person gave it.
        document: where each setting stands.
    """

    def __init__(self, file: str, document: Document) -> None:
        self._file = file
        self._document = document
        self._found: list[tuple[Path, Finding]] = []

    def error(self, path: Path, message: str, expected: str = "") -> None:
        """Add an error at a path."""
        self._add("error", path, message, expected)

    def warning(self, path: Path, message: str, expected: str = "") -> None:
        """Add a warning at a path."""
        self._add("warning", path, message, expected)

    def hint(self, path: Path, message: str, expected: str = "") -> None:
        """Add a hint at a path."""
        self._add("hint", path, message, expected)

    def require(self, holds: bool, path: Path, message: str, expected: str = "") -> None:
        """An error at a path unless ``holds``."""
        if not holds:
            self._add("error", path, message, expected)

    def without(self, paths: Iterable[Path]) -> Findings:
        """What was found, less what stands at or below any of ``paths``, or in the section right above."""
        dropped = tuple(paths)
        kept = Findings(self._file, self._document)
        kept._found = [
            (path, finding)
            for path, finding in self._found
            if not any(path[: len(d)] == d or path == d[:-1] for d in dropped)
        ]
        return kept

    def has(self, path: Path) -> bool:
        """Whether anything at this very path is an error."""
        return any(found == path and finding.level == "error" for found, finding in self._found)

    def joined(self, other: Findings) -> Findings:
        """These and the other's findings."""
        both = Findings(self._file, self._document)
        both._found = self._found + other._found
        return both

    def sorted(self) -> list[Finding]:
        """What was found, in the order of the file's lines."""
        ordered = sorted(self._found, key=lambda pair: self._document.line(pair[0]))
        return [finding for _, finding in ordered]

    def _add(self, level: Level, path: Path, message: str, expected: str) -> None:
        where = f"{self._file}:{self._document.line(path)}"
        finding = Finding(level, where, ".".join(map(str, path)), message, expected)
        self._found.append((path, finding))


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether any of them is an error."""
    return any(finding.level == "error" for finding in findings)
