"""What is wrong with a configuration: all of it at once, each with its place and what was expected.

`check` looks at the file and at what lies beside it (recordings, bundles, secrets); `report.inspect` also asks
the outside on request.
"""

from __future__ import annotations

from monitor.validation.finding import Finding, Level, has_errors
from monitor.validation.whole import Checked, check

__all__ = ["Checked", "Finding", "Level", "check", "has_errors"]
