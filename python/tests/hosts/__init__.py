"""Tests that run in the interpreters of other projects: LMCache, SGLang and vLLM, each with its own dependencies.

Each needs either the package in this interpreter, or the path of one that has it in an environment variable. They get `python/` and `tests/` on
their path, and nothing else of ours is needed there: the connectors are Python, the native module is of the stable ABI.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@dataclass
class Host:
    """An interpreter that has a package."""

    interpreter: str

    def run(self, script: str, *arguments: str, timeout: float = 300) -> None:
        """Runs a script of this folder. It fails the test if it fails."""
        tests = HERE.parent
        path = os.pathsep.join([str(tests.parent), str(tests), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [self.interpreter, "-X", "faulthandler", str(HERE / script), *arguments]
        environment = {**os.environ, "PYTHONPATH": path, "LMCACHE_DISABLE_BANNER": "1"}
        ran = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
        sys.stdout.write(ran.stdout)
        assert ran.returncode == 0, f"{script}: {ran.returncode}\n{ran.stdout[-4000:]}\n{ran.stderr[-6000:]}"


def host_or_skip(package: str, variable: str) -> Host:
    """The interpreter that a variable names, or this one; skips the test where neither has the package."""
    if interpreter := os.environ.get(variable):
        return Host(interpreter)
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed here: {variable} names an interpreter that has it")
    return Host(sys.executable)
