"""Programs of the project as children of a front end: where they are, their first words, and their end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import Any, Optional

#: For a child to say that it is ready.
READY_SECONDS = 60.0
#: For a child to end when it is asked to.
END_SECONDS = 20.0


class NotStarted(Exception):
    """A program cannot be started, or has ended before it was ready."""


def find(name: str) -> str:
    """A program: in the folder that $SNOWSKIN_BINARIES names, beside the interpreter, or in $PATH."""
    folders = [os.environ.get("SNOWSKIN_BINARIES"), sysconfig.get_path("scripts"), os.path.dirname(sys.executable)]
    for folder in folders:
        if folder and os.access(Path(folder) / name, os.X_OK):
            return str(Path(folder) / name)
    found = shutil.which(name)
    if found is None:
        raise NotStarted(f"{name} is nowhere: install the snowskin wheel, or name its folder in SNOWSKIN_BINARIES")
    return found


class Child:
    """A program that runs until it is ended, or ends by itself."""

    def __init__(self, command: list[str], ready: re.Pattern[str]) -> None:
        """Starts it, and waits until it says `ready` on its first line. Raises :class:`NotStarted`."""
        try:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise NotStarted(f"{command[0]} cannot be started: {error}") from None
        assert self._process.stdout is not None
        watch = threading.Timer(READY_SECONDS, self._process.kill)
        watch.start()
        line = self._process.stdout.readline()
        watch.cancel()
        found = ready.search(line)
        if found is None:
            status = self.end()
            raise NotStarted(f"{os.path.basename(command[0])} was not ready, and ended with {status}: {line.strip()}")
        self.words = found
        # It shall never wait for a reader.
        threading.Thread(target=self._process.stdout.read, daemon=True).start()

    def wait(self) -> int:
        """Waits for its end: its status."""
        return _status(self._process.wait())

    def end(self) -> int:
        """Asks it to end, and makes it after a while: its status."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return _status(self._process.wait(END_SECONDS))
        except subprocess.TimeoutExpired:
            self._process.kill()
            return _status(self._process.wait())

    def end_on_signals(self) -> None:
        """From now on, SIGTERM and SIGINT of this process are the child's SIGTERM."""

        def forward(number: int, frame: Optional[Any]) -> None:
            if self._process.poll() is None:
                self._process.terminate()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, forward)


def _status(code: int) -> int:
    """As shells know it."""
    return code if code >= 0 else 128 - code
