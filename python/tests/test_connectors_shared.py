"""What all connectors share: settings, troubles, clusters that come and go."""

from __future__ import annotations

import logging
import select
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from conftest import Engine

import snowskin
from snowskin import errors
from snowskin.connectors import _settings, _troubles
from snowskin.connectors._calls import Calls
from snowskin.connectors._pages import Pages
from snowskin.connectors.lmcache import Connector


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "say where Snowskin is: seeds, master, or embedded_memory"),
        ({"seeds": "a:1", "sed": 1}, "no setting 'sed'; there are seeds, master"),
        ({"seeds": 7300}, "seeds is an address, or a list of addresses, not 7300"),
        ({"seeds": "a:1", "master": "b:1"}, "leave out master and embedded_memory"),
        ({"seeds": "a:1", "deadline": "5"}, "deadline is a number of seconds, not '5'"),
        ({"seeds": "a:1", "deadline": 0}, "deadline is a number of seconds, not 0"),
        ({"seeds": "a:1", "verify": 1}, "verify is true or false, not 1"),
        ({"seeds": "a:1", "replicas": 0}, "replicas is a number from 1 to 16, not 0"),
        ({"seeds": "a:1", "replicas": 17}, "replicas is a number from 1 to 16, not 17"),
        ({"embedded_memory": True}, "embedded_memory is a number of bytes"),
        ({"embedded_memory": "1GB", "embedded_flags": "--x"}, "embedded_flags is a dictionary"),
    ],
)
def test_settings_that_cannot_be_read_are_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="^the dictionary: ") as refused:
        _settings.settings_of(config, "the dictionary")
    assert words in str(refused.value)


def test_settings_of_a_dictionary() -> None:
    settings = _settings.settings_of({"seeds": ["a:1", "b:2"], "tenant": "t", "spin": 0, "local_sockets": None}, "here")
    assert settings.seeds == ["a:1", "b:2"] and settings.client == {"tenant": "t", "spin": 0, "deadline": 5.0}


def test_an_embedded_engine_joins_a_master(own_engine: Engine) -> None:
    config = {"master": own_engine.master, "embedded_memory": "64MB", "embedded_flags": {"cores": 1}}
    cluster = _settings.Cluster(_settings.settings_of(config, "here"))
    with snowskin.Store(cluster.seeds) as store:
        assert len(store.stats()["cores"]) == 2
    cluster.close()
    cluster.close()


def test_troubles_are_said_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    troubles = _troubles.Troubles("snowskin.test", clock=lambda: now[0])
    with caplog.at_level(logging.WARNING, "snowskin.test"):
        for _ in range(5):
            troubles.tell("get", errors.NoSpaceError("no"))
        now[0] = _troubles.LOG_SECONDS
        troubles.tell("get", errors.NoSpaceError("no"))
    assert [record.getMessage() for record in caplog.records] == [
        "Snowskin: get: no",
        "Snowskin: get: no (4 more since the last such line)",
    ]


def test_nobody_is_asked_for_a_while_when_nobody_answers() -> None:
    now = [0.0]
    troubles = _troubles.Troubles("snowskin.test", clock=lambda: now[0])
    late = errors.DeadlineError("late")
    assert troubles.answers("get", errors.BatchError("two", [late, 5]), 2) == [late, 5] and not troubles.is_pause()
    assert troubles.answers("get", errors.NoSpaceError("no"), 2)[1].code == -200 and not troubles.is_pause()
    assert troubles.answers("get", errors.BatchError("two", [late, late]), 2) == [late, late] and troubles.is_pause()
    now[0] = _troubles.PAUSE_SECONDS
    assert not troubles.is_pause()


def test_a_cluster_that_comes_later(
    own_engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_troubles, "PAUSE_SECONDS", 0.0)
    own_engine.process.kill()
    own_engine.process.wait()
    seeds = own_engine.cores
    settings = _settings.settings_of({"seeds": seeds, "deadline": 1.0}, "here")
    pages = Pages(settings, _troubles.Troubles("snowskin.test"))
    calls: Calls[str] = Calls(settings, _troubles.Troubles("snowskin.test"))
    assert pages.held(["key"]) == [False] and "cannot connect" in caplog.text
    calls.begin("early", lambda requests: requests.submit_exists(["key"]))
    (context, answer), *_ = _next(calls)
    assert context == "early" and isinstance(answer, errors.SnowskinError)
    with snowskin.Engine(memory="64MB", listen=seeds[0]) as engine, snowskin.Store(engine.cores) as store:
        store.put("key", b"value")
        assert pages.held(["key"]) == [True]
        answers = []
        for _ in range(100):
            calls.begin("late", lambda requests: requests.submit_exists(["key"]))
            answers.append(_next(calls)[0][1])
            if answers[-1] == [True]:
                break
            time.sleep(0.02)
        assert answers[-1] == [True]
        pages.close()
        calls.close()


def test_values_have_as_many_replicas_as_the_setting_says() -> None:
    memory = np.zeros(4_000, dtype=np.uint8)
    start = memory.ctypes.data
    with snowskin.Engine(memory="64MB") as one, snowskin.Engine(memory="64MB", master=one.master) as two:
        settings = {"seeds": one.cores, "replicas": 2}
        pages = Pages(_settings.settings_of(settings, "here"), _troubles.Troubles("snowskin.test"))
        pages.register(start, memory.nbytes)
        assert pages.put(["whole"], [[start]], [[1_000]], [None]) == [True]
        assert pages.put(["in pieces"], [[start, start + 2_000]], [[1_000, 1_000]], [None]) == [True]
        assert pages.put_values(["a value"], [memory], [None]) == [True]
        connector = Connector(namespace="l", **settings)
        connector.submit_batch_set(["name"], [memoryview(bytes(100))])
        completions = []
        for _ in range(100):
            select.select([connector.event_fd()], [], [], 0.1)
            if completions := connector.drain_completions():
                break
        assert [is_well for _, is_well, *_ in completions] == [True]
        with snowskin.Store(two.cores) as store:
            held = store.holders(["whole", "in pieces", "a value", "l/name"])
        assert [(found.value_bytes, len(found.cores)) for found in held] == [(1_000, 2), (2_000, 2), (4_000, 2), (100, 2)]
        pages.close()
        connector.close()


def _next(calls: Calls[str]) -> list[tuple[str, Any]]:
    for _ in range(100):
        calls.wait(0.1)
        if ended := calls.ended():
            return ended
    raise AssertionError("nothing ended")


def test_importing_snowskin_imports_no_connector() -> None:
    script = "import snowskin, sys; print([name for name in sys.modules if 'connectors' in name])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
