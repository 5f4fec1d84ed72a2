"""Front ends as processes of their own, on loopback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Optional

from conftest import binary

READY_SECONDS = 60
END_SECONDS = 30


class Front:
    """A module of `snowskin.mooncake`, or a program, that runs until it is stopped."""

    def __init__(self, folder: Path, *command: str, ready: str, **variables: str) -> None:
        if command[0].startswith("snowskin."):
            command = (sys.executable, "-m", *command)
        self.log = open(folder / f"{len(list(folder.iterdir()))}.log", "w+")
        environment = {**os.environ, "SNOWSKIN_BINARIES": str(Path(binary("snowskin-engine")).parent), **variables}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment)
        assert self.process.stdout is not None
        watch = threading.Timer(READY_SECONDS, self.process.kill)
        watch.start()
        line = self.process.stdout.readline()
        watch.cancel()
        found = re.search(ready, line)
        if found is None:
            self.stop()
            raise AssertionError(f"{line!r} {self.said()}")
        self.words = found

    def said(self) -> str:
        return Path(self.log.name).read_text()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        finally:
            self.log.close()
        return self.process.returncode


def ask(url: str, method: str = "GET", body: Optional[bytes] = None) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    request = urllib.request.Request(url, data=body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers.get("Content-Type", ""), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("Content-Type", ""), error.read()


def ask_json(url: str, method: str = "GET", value: Any = None) -> tuple[int, Any]:
    status, kind, body = ask(url, method, None if value is None else json.dumps(value).encode())
    assert kind.startswith("application/json"), (status, kind, body)
    return status, json.loads(body)
