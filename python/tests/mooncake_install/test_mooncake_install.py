"""Installing the layer as `mooncake`, in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest


class Environment:
    """A fresh environment that sees the packages of this one."""

    def __init__(self, folder: Path) -> None:
        made = subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], capture_output=True, text=True, timeout=120)
        if made.returncode:
            pytest.skip(f"no environment can be made here: {made.stderr.strip()}")
        self.programs = folder / "bin"
        self.python = str(self.programs / "python")
        self.packages = Path(self.run("import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
        # What is installed here, without being copied; editable installs have their own paths.
        import snowskin

        paths = [str(Path(snowskin.__file__).parents[1]), sysconfig.get_path("purelib")]
        (self.packages / "outer.pth").write_text("\n".join(paths) + "\n")

    def run(self, code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.python, "-c", code], capture_output=True, text=True, timeout=120)

    def layer(self, verb: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.python, "-m", "snowskin.mooncake", verb], capture_output=True, text=True, timeout=120)

    def files(self) -> set[str]:
        places = [*self.packages.rglob("*"), *self.programs.iterdir()]
        return {str(path) for path in places if path.is_file() and "__pycache__" not in path.parts}


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "environment")


def test_install_use_and_uninstall(environment: Environment) -> None:
    before = environment.files()
    assert environment.layer("status").returncode == 1
    done = environment.layer("install")
    assert done.returncode == 0 and "is installed" in done.stdout, done.stderr
    assert environment.layer("status").returncode == 0
    used = environment.run(
        "import mooncake.store, mooncake.async_store, mooncake.mooncake_config, snowskin.mooncake.store, importlib.metadata as m\n"
        "from mooncake.store import MooncakeDistributedStore, ReplicateConfig\n"
        "import mooncake.mooncake_store_service as service\n"
        "assert mooncake.store is snowskin.mooncake.store\n"
        "assert mooncake.async_store.MooncakeDistributedStoreAsync and mooncake.mooncake_config.MooncakeConfig and service.MooncakeStoreService\n"
        "print(m.version('snowskin-mooncake'), all(f.locate().exists() for f in m.files('snowskin-mooncake')))\n"
    )
    assert used.returncode == 0 and used.stdout.split()[1] == "True", used.stderr
    assert "means nothing" not in used.stderr
    for program in ("mooncake_master", "mooncake_client", "mooncake_http_metadata_server", "mc_store_rest_server"):
        helped = subprocess.run([str(environment.programs / program), "--help"], capture_output=True, text=True, timeout=60)
        assert helped.returncode == 0 and helped.stdout, helped.stderr
    run = subprocess.run([environment.python, "-m", "mooncake.http_metadata_server", "--help"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and "--log-level" in run.stdout
    again = environment.layer("install")
    assert again.returncode == 0 and "anew" in again.stdout
    (environment.packages / "mooncake" / "store.py").write_text("broken")
    assert "store.py" in environment.layer("status").stdout
    assert environment.layer("install").returncode == 0 and environment.layer("status").returncode == 0
    removed = environment.layer("uninstall")
    assert removed.returncode == 0 and "is removed" in removed.stdout
    assert environment.files() == before and not (environment.packages / "mooncake").exists()
    assert "not installed" in environment.layer("uninstall").stdout


def test_pip_uninstalls_it(environment: Environment) -> None:
    before = environment.files()
    assert environment.layer("install").returncode == 0
    command = [environment.python, "-m", "pip", "uninstall", "-y", "snowskin-mooncake"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "No module named pip" in done.stderr:
        pytest.skip("pip is not here")
    assert done.returncode == 0, done.stderr
    assert environment.files() == before


def test_another_distribution_stays(environment: Environment) -> None:
    package = environment.packages / "mooncake"
    package.mkdir()
    (package / "__init__.py").write_text("mine = 1\n")
    records = environment.packages / "mooncake_transfer_engine-0.3.13.dist-info"
    records.mkdir()
    (records / "METADATA").write_text("Metadata-Version: 2.1\nName: mooncake-transfer-engine\nVersion: 0.3.13\n")
    (records / "RECORD").write_text("mooncake/__init__.py,,\n")
    before = environment.files()
    done = environment.layer("install")
    assert done.returncode == 1 and not done.stdout
    assert "mooncake-transfer-engine 0.3.13 provides `mooncake`" in done.stderr and "pip uninstall mooncake-transfer-engine" in done.stderr
    assert "mooncake-transfer-engine" in environment.layer("status").stdout
    assert environment.layer("uninstall").returncode == 0
    assert environment.files() == before


def test_files_of_nobody_stay(environment: Environment) -> None:
    program = environment.programs / "mooncake_master"
    program.write_text("mine")
    done = environment.layer("install")
    assert done.returncode == 1 and str(program) in done.stderr and "not ours" in done.stderr
    assert program.read_text() == "mine" and not (environment.packages / "mooncake").exists()
    program.unlink()
    (environment.packages / "mooncake").mkdir()
    (environment.packages / "mooncake" / "other.py").write_text("mine")
    assert environment.layer("install").returncode == 1
    assert environment.layer("uninstall").returncode == 0
    assert (environment.packages / "mooncake" / "other.py").read_text() == "mine"
