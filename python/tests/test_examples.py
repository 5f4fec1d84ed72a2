"""The examples do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from conftest import Engine

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, EXAMPLES / name, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_prefix_cache_finds_what_requests_have_in_common() -> None:
    held = re.findall(r"(\d+) of 23 blocks were held", run("prefix_cache.py"))
    assert held == ["0", "20", "23"]


def test_blocks_are_loaded_ahead(engine: Engine) -> None:
    for arguments in ([], engine.cores):
        assert re.findall(r"ahead: (\d+) blocks", run("prefetch.py", *arguments)) == ["48", "48"]
