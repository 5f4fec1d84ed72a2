"""Making the compatibility layer known under the names of Mooncake Store, and undoing it.

What is written is a distribution of its own, ``snowskin-mooncake``: a package ``mooncake`` whose modules are those of :mod:`snowskin.mooncake`, the
programs, and the records by which ``pip`` and ``importlib.metadata`` know it. Nothing of anybody else's is overwritten: if something else is called
``mooncake`` here, nothing is touched.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import importlib.metadata
import io
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from .._snowskin import __version__

NAME = "snowskin-mooncake"
PACKAGE = "mooncake"
INSTALLER = "snowskin"

#: The module that each module of the package is.
MODULES = {
    "store": "store",
    "async_store": "async_store",
    "mooncake_config": "mooncake_config",
    "mooncake_store_service": "service",
    "http_metadata_server": "http_metadata_server",
}
#: Those that are programs, too.
RUNNABLE = ("mooncake_store_service", "http_metadata_server")
#: The module of each program.
PROGRAMS = {
    "mooncake_master": "master",
    "mooncake_client": "client",
    "mooncake_http_metadata_server": "http_metadata_server",
    "mc_store_rest_server": "service",
}


class Refused(Exception):
    """It cannot be done, and nothing was touched."""


@dataclass
class Site:
    """Where packages and programs of an interpreter are."""

    packages: Path = field(default_factory=lambda: Path(sysconfig.get_path("purelib")))
    programs: Path = field(default_factory=lambda: Path(sysconfig.get_path("scripts")))
    interpreter: str = sys.executable

    @property
    def records(self) -> Path:
        """The folder of our records."""
        return self.packages / f"{NAME.replace('-', '_')}-{__version__}.dist-info"

    def ours(self) -> list[Path]:
        """Folders of records of ours, of whatever version."""
        return sorted(self.packages.glob(f"{NAME.replace('-', '_')}-*.dist-info"))


def install(site: Site) -> str:
    """Writes it, or writes it anew. What was done, in words. Raises :class:`Refused`."""
    other = somebody_else(site)
    if other is not None:
        raise Refused(f"{other}: nothing was touched. {_advice(other)}")
    was_there = bool(site.ours())
    for records in site.ours():
        _remove(site, records)
    files = _files(site)
    try:
        # First the record, so that what comes after it can be undone.
        for path in sorted(files, key=lambda path: path.name != "RECORD"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files[path])
            if path.parent == site.programs:
                path.chmod(0o755)
    except OSError as error:
        _remove(site, site.records)
        raise Refused(f"{site.packages} cannot be written: {error}. Nothing is left of it") from None
    words = "was there already, and was written anew" if was_there else "is installed"
    return f"{NAME} {__version__} {words}: `import mooncake` is snowskin.mooncake in {site.packages}"


def uninstall(site: Site) -> str:
    """Removes what :func:`install` wrote, and nothing else. What was done, in words."""
    found = site.ours()
    for records in found:
        _remove(site, records)
    return f"{NAME} is removed from {site.packages}" if found else f"{NAME} is not installed in {site.packages}"


def status(site: Site) -> tuple[bool, str]:
    """Whether it is installed and whole, and that in words."""
    other = somebody_else(site)
    if other is not None:
        return False, f"{other}; {NAME} is not installed"
    if site.ours() != [site.records]:
        stale = ", ".join(records.name for records in site.ours())
        return False, f"{NAME} is of another version ({stale}): install it anew" if stale else f"{NAME} is not installed"
    broken = [path.name for path, content in _files(site).items() if not _has(path, content)]
    if broken:
        return False, f"{NAME} {__version__} is not whole ({', '.join(sorted(broken))}): install it anew"
    return True, f"{NAME} {__version__} is installed in {site.packages}"


def somebody_else(site: Site) -> Optional[str]:
    """Who else provides what we would write, in words; None: nobody."""
    for distribution in importlib.metadata.distributions(path=[str(site.packages), *sys.path]):
        name = distribution.metadata["Name"] or ""
        if name.lower().replace("_", "-") == NAME:
            continue
        provided = {file.parts[0] for file in distribution.files or () if len(file.parts) > 1}
        if PACKAGE in provided:
            return f"the distribution {name} {distribution.version} provides `{PACKAGE}`"
    own = _own_paths(site)
    for path in [site.packages / PACKAGE, *(site.programs / program for program in PROGRAMS)]:
        inside = [path / "__init__.py"] if path.name == PACKAGE else [path]
        if path.exists() and not own.issuperset(inside):
            return f"{path} is there, and is not ours"
    return None


def _advice(other: str) -> str:
    if other.startswith("the distribution "):
        name = other.split()[2]
        return f"Remove it first (pip uninstall {name}), or use an environment of its own"
    return "Move it away first, or use an environment of its own"


def _own_paths(site: Site) -> set[Path]:
    return {path for records in site.ours() for path in _recorded(site, records)}


def _recorded(site: Site, records: Path) -> Iterator[Path]:
    """The files that our records name, those of them that are where ours may be."""
    try:
        text = (records / "RECORD").read_text(encoding="utf-8")
    except OSError:
        return
    allowed = (site.packages / PACKAGE, records, site.programs)
    for row in csv.reader(io.StringIO(text)):
        path = Path(os.path.normpath(site.packages / row[0])) if row else None
        if path is not None and path.parent in allowed:
            yield path


def _remove(site: Site, records: Path) -> None:
    for path in [*_recorded(site, records), records / "RECORD"]:
        path.unlink(missing_ok=True)
    for folder in (site.packages / PACKAGE, records):
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        try:
            folder.rmdir()
        except OSError:
            # Something of somebody else's is in it, or it is not there.
            pass


def _has(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def _files(site: Site) -> dict[Path, bytes]:
    """All files and what is in them."""
    package, records = site.packages / PACKAGE, site.records
    texts = {package / "__init__.py": _INIT}
    for name, module in MODULES.items():
        run = f'if __name__ == "__main__":\n    sys.exit({module}.main())\n' if name in RUNNABLE else ""
        texts[package / f"{name}.py"] = _MODULE.format(module=module, run=run)
    for name, module in PROGRAMS.items():
        texts[site.programs / name] = _PROGRAM.format(interpreter=site.interpreter, module=module)
    texts[records / "METADATA"] = _METADATA
    texts[records / "WHEEL"] = _WHEEL
    texts[records / "INSTALLER"] = f"{INSTALLER}\n"
    texts[records / "top_level.txt"] = f"{PACKAGE}\n"
    files = {path: text.encode() for path, text in texts.items()}
    rows = [_record(site, path, content) for path, content in files.items()]
    rows.append([_relative(site, records / "RECORD"), "", ""])
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    files[records / "RECORD"] = table.getvalue().encode()
    return files


def _record(site: Site, path: Path, content: bytes) -> list[str]:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return [_relative(site, path), f"sha256={digest}", str(len(content))]


def _relative(site: Site, path: Path) -> str:
    return os.path.relpath(path, site.packages).replace(os.sep, "/")


_INIT = '"""Mooncake Store\'s names for what snowskin has: see snowskin.mooncake. Removed by `python -m snowskin.mooncake uninstall`."""\n'

_MODULE = '''"""The same module as snowskin.mooncake.{module}."""

import sys

from snowskin.mooncake import {module}

{run}sys.modules[__name__] = {module}
'''

_PROGRAM = """#!{interpreter}
import sys

from snowskin.mooncake.{module} import main

sys.exit(main())
"""

_METADATA = f"""Metadata-Version: 2.1
Name: {NAME}
Version: {__version__}
Summary: Mooncake Store's names for what snowskin has
License: Apache-2.0
Requires-Dist: snowskin
"""

_WHEEL = """Wheel-Version: 1.0
Generator: snowskin
Root-Is-Purelib: true
Tag: py3-none-any
"""


def main(arguments: Optional[list[str]] = None) -> int:
    """The program: ``python -m snowskin.mooncake``."""
    parser = argparse.ArgumentParser(
        prog="snowskin-mooncake", description="Makes snowskin.mooncake known as `mooncake`, with the programs that go with it."
    )
    parser.add_argument("verb", choices=["install", "uninstall", "status"])
    verb = parser.parse_args(arguments).verb
    site = Site()
    try:
        if verb == "status":
            is_installed, words = status(site)
            print(words)
            return 0 if is_installed else 1
        print(install(site) if verb == "install" else uninstall(site))
        return 0
    except (Refused, OSError) as error:
        print(f"snowskin-mooncake: {error}", file=sys.stderr)
        return 1
