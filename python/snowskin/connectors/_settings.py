"""What a host's configuration says about Snowskin, and the cluster that it means.

One of these is needed:

* ``seeds``: where masters or engines answer, ``"10.0.0.1:7300"``; several with commas, or a list.
* ``master``: the same. With ``embedded_memory``: the master of the cluster that the embedded engine joins.
* ``embedded_memory``: bytes, or a size such as ``"4GB"``, that an engine inside the host's process lends. Without ``master`` it is all there is.

These may be:

* ``embedded_flags``: what else `snowskin-engine --help` names, for the embedded engine: ``{"listen": "10.0.0.2:0", "ssd": "/var/lib/kv"}``.
* ``tenant``: whose keys they are; ``"default"``.
* ``namespace``: what keys begin with, so that deployments that must not read each other's values do not.
* ``replicas``: how many each value shall have in all, at as many engines, 1 to 16; 1.
* ``deadline``: seconds that a call may take; 5.
* ``transport``, ``local_sockets``, ``verify``, ``copy_helpers``, ``spin``: as :class:`snowskin.Store` has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from .._snowskin import Engine

#: Settings that go to the client as they are.
CLIENT_SETTINGS = ("tenant", "deadline", "verify", "transport", "local_sockets", "copy_helpers", "spin")
OWN_SETTINGS = ("seeds", "master", "embedded_memory", "embedded_flags", "namespace", "replicas")
REPLICAS_MAX = 16
#: Seconds that a call may take, if nothing else is said.
DEADLINE_SECONDS = 5.0


@dataclass(frozen=True)
class Settings:
    """See the module's head."""

    seeds: Optional[Union[str, list[str]]] = None
    master: Optional[Union[str, list[str]]] = None
    embedded_memory: Optional[Union[int, str]] = None
    embedded_flags: Mapping[str, Any] = field(default_factory=dict)
    namespace: Optional[str] = None
    #: How many each value shall have, in all.
    replicas: int = 1
    #: Of :data:`CLIENT_SETTINGS`, those that were given.
    client: Mapping[str, Any] = field(default_factory=dict)

    @property
    def deadline(self) -> float:
        """Seconds that a call may take."""
        return float(self.client.get("deadline", DEADLINE_SECONDS))


def settings_of(config: Mapping[str, Any], where: str) -> Settings:
    """The settings in a host's dictionary, which it keeps `where`. What cannot be read is refused: nothing is guessed."""
    known = OWN_SETTINGS + CLIENT_SETTINGS
    unknown = [name for name in config if name not in known]
    if unknown:
        listed = ", ".join(known)
        raise ValueError(f"{where}: Snowskin has no setting {unknown[0]!r}; there are {listed}")
    given = {name: value for name, value in config.items() if value is not None}
    for name, value in given.items():
        _expect_kind(where, name, value)
    if not any(name in given for name in ("seeds", "master", "embedded_memory")):
        raise ValueError(f"{where}: say where Snowskin is: seeds, master, or embedded_memory for an engine in this process")
    if "seeds" in given and ("master" in given or "embedded_memory" in given):
        raise ValueError(f"{where}: seeds say where Snowskin is: leave out master and embedded_memory")
    client = {name: given.pop(name) for name in CLIENT_SETTINGS if name in given}
    client.setdefault("deadline", DEADLINE_SECONDS)
    return Settings(client=client, **given)


_KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "seeds": ("an address, or a list of addresses", (str, list, tuple)),
    "master": ("an address, or a list of addresses", (str, list, tuple)),
    "embedded_memory": ("a number of bytes, or a size such as '4GB'", (int, str)),
    "embedded_flags": ("a dictionary", (dict,)),
    "namespace": ("a text", (str,)),
    "replicas": (f"a number from 1 to {REPLICAS_MAX}", (int,)),
    "tenant": ("a text", (str,)),
    "deadline": ("a number of seconds", (int, float)),
    "verify": ("true or false", (bool,)),
    "transport": ("'auto', 'shm' or 'tcp'", (str,)),
    "local_sockets": ("a path", (str,)),
    "copy_helpers": ("a number of threads", (int,)),
    "spin": ("a number of seconds", (int, float)),
}


def _expect_kind(where: str, name: str, value: object) -> None:
    words, kinds = _KINDS[name]
    # True is an int, and no number.
    is_well = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if name == "deadline" and is_well:
        is_well = float(value) > 0  # type: ignore[arg-type]
    if name == "replicas" and is_well:
        is_well = 1 <= int(value) <= REPLICAS_MAX  # type: ignore[call-overload]
    if not is_well:
        raise ValueError(f"{where}: {name} is {words}, not {value!r}")


class Cluster:
    """The cluster that settings mean; with the engine in this process, if they want one, until :meth:`close`."""

    def __init__(self, settings: Settings) -> None:
        self.client = settings.client
        self.deadline = settings.deadline
        self._engine: Optional[Engine] = None
        if settings.embedded_memory is None:
            seeds = settings.seeds or settings.master or ""
            self.seeds: Union[str, list[str]] = seeds if isinstance(seeds, str) else list(seeds)
            return
        flags = dict(settings.embedded_flags)
        if settings.master is not None:
            flags["master"] = settings.master
        self._engine = Engine(memory=settings.embedded_memory, **flags)
        self.seeds = self._engine.cores

    def close(self) -> None:
        """Ends the engine, if there is one."""
        if self._engine is not None:
            self._engine.close()
