"""Builds wheels: maturin makes the native module, and this puts the programs beside it, as scripts.

They are built by cargo in their own profile and without hwloc, so that they run wherever the wheel is installed. An editable install is for
developers, who have the programs in `target`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Optional

import maturin
from maturin import (  # noqa: F401  (what a build backend has)
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

PYTHON = Path(__file__).resolve().parents[1]
#: Where maturin looks for what goes beside the module: `tool.maturin.data` in pyproject.toml.
SCRIPTS = PYTHON / "snowskin.data" / "scripts"
#: Built one row after the other: the bench asks for hwloc, and what is built together with it has it, too.
PACKAGES = [["snowskin-engine", "snowskin-master", "snowskin-tools"], ["snowskin-bench"]]


def build_wheel(
    wheel_directory: str,
    config_settings: Optional[dict[str, Any]] = None,
    metadata_directory: Optional[str] = None,
) -> str:
    put_programs_beside()
    name: str = maturin.build_wheel(wheel_directory, config_settings, metadata_directory)
    return name


def build_editable(
    wheel_directory: str,
    config_settings: Optional[dict[str, Any]] = None,
    metadata_directory: Optional[str] = None,
) -> str:
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    name: str = maturin.build_editable(wheel_directory, config_settings, metadata_directory)
    return name


def build_sdist(sdist_directory: str, config_settings: Optional[dict[str, Any]] = None) -> str:
    raise NotImplementedError("the package is built from the whole project: pip install ./python")


def put_programs_beside() -> None:
    """Builds the programs, and copies them to where maturin finds them, without what only a debugger needs."""
    shutil.rmtree(SCRIPTS, ignore_errors=True)
    SCRIPTS.mkdir(parents=True)
    for row in PACKAGES:
        for program in built(row):
            shutil.copy2(program, SCRIPTS / program.name)


def built(packages: list[str]) -> list[Path]:
    command = ["cargo", "build", "--release", "--bins", "--locked", "--no-default-features", "--message-format", "json"]
    command += [argument for package in packages for argument in ("-p", package)]
    command += ["--target-dir", str(PYTHON.parent / "target" / "programs"), "--config", "profile.release.strip='symbols'"]
    done = subprocess.run(command, cwd=PYTHON.parent, check=True, stdout=subprocess.PIPE, text=True)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return [Path(message["executable"]) for message in messages if message.get("executable")]
