"""All rows, and a program that asks a package all of them: `python rows.py MODULE SETTINGS-AS-JSON`, answers as JSON. The real one is asked so."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import table  # noqa: E402
import table_memory  # noqa: E402
import table_replicas  # noqa: E402
import table_types  # noqa: E402

GROUPS = {**table.GROUPS, **table_memory.GROUPS, **table_types.GROUPS, **table_replicas.GROUPS}

for _rows in GROUPS.values():
    assert len({row.label for row in _rows}) == len(_rows), [row.label for row in _rows]

if __name__ == "__main__":
    # What the package prints is not for us.
    answers_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    bench = table.new_bench(importlib.import_module(sys.argv[1]), json.loads(sys.argv[2]))
    json.dump(table.run_all(bench, GROUPS, is_real=True), answers_to)
    answers_to.close()
    bench.s.close()
