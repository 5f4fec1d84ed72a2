"""The native part of the package. `Store` and `View` are for everybody, as `snowskin.Store` and `snowskin.View`; what else is here is what
`snowskin.aio` and the `mooncake` layer are made of."""

from collections.abc import Iterable, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Optional, Protocol, TypedDict, Union, overload

from typing_extensions import Buffer, Self, Unpack

from .outcomes import Holders, Miss, Removal, RemovedCount, Task, TaskInfo

__version__: str

Key = Union[str, bytes]

class Tensor(Protocol):
    """A tensor on the CPU, as torch has them: contiguous, without the buffer protocol."""

    def data_ptr(self) -> int: ...
    def is_contiguous(self) -> bool: ...
    def numel(self) -> int: ...
    def element_size(self) -> int: ...

Memory = Union[Buffer, Tensor]

class Settings(TypedDict, total=False):
    tenant: str
    """Whose keys they are; "default"."""
    deadline: float
    """Seconds that a call may take; 5."""
    verify: bool
    """Whether values that are read are compared with their checksum; True."""
    transport: Literal["auto", "shm", "tcp"]
    """How engines are reached; "auto": by shared memory where that can be had, else by TCP."""
    local_sockets: Optional[Union[str, PathLike[str]]]
    """The folder in which engines of this machine have their sockets, as `snowskin-engine --local-sockets` says."""
    copy_helpers: int
    """Threads that help to copy large values out of and into the memory of engines of this machine; 0."""
    spin: float
    """Seconds that a read busy-waits for an answer that is likely to come soon; 50e-6."""

class Options(TypedDict, total=False):
    replace: bool
    """Replace what is held; else the first writer wins."""
    durability: Literal["memory", "ssd"]
    """When the put is acknowledged: when the value is in memory, or when it is on the SSD as well."""
    replicas: int
    """How many there shall be in all, 1 to 16, each at another engine, on other hosts first: as many as there can be. The put is acknowledged when they
    are there, or are known not to be. If an engine is lost, the object is found at another one."""
    soft_pin: Optional[float]
    """Evict it last, for so many seconds from each use on."""
    keep_soft_pin: bool
    """With `replace`: if what it replaces is pinned softly, it is, too, and for as long."""
    hard_pin: bool
    """Never evict it."""
    group: Optional[Key]
    """Objects of one group are evicted together."""
    parents: Optional[Union[Key, Sequence[Optional[Key]]]]
    """The key of the block before each in its chain; with `chain`, that before the first."""
    chain: bool
    """The keys are a chain: each is the next block of the one before it. A block is evicted before those it continues."""
    deadline: Optional[float]
    """Seconds that this call may take."""

class CoreStats(TypedDict, total=False):
    core: str
    address: str
    error: str

class View:
    """A value where it lies: `memoryview(view)`, `numpy.frombuffer(view, dtype)`.

    In the memory of an engine on this machine, which keeps it there as long as this object, or anything made of it, is alive. Of an engine on
    another machine, a copy. Read only. `Store.view` answers memoryviews; this is their `obj`.
    """

    def ptr(self) -> int:
        """The address of the first byte."""
    def size(self) -> int:
        """Bytes of the value."""
    def is_in_place(self) -> bool:
        """Whether the bytes are where the engine has them, and not a copy."""
    def is_intact(self) -> bool:
        """Whether the bytes match the checksum that was made when they were put. Reads all of them."""
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class Store:
    """A client of a cluster. Any number of threads may use it at once; every call gives the interpreter back while it works.

    `seeds` are addresses such as `"127.0.0.1:7300"`: of masters, or of any cores of engines. Several with commas, or a list. Waits for the first
    engine until the deadline; that nobody can be reached, it says at once.

    A call on one key (`str`, which is taken as UTF-8, or `bytes`; 1 to 4,096 bytes without NUL) answers one thing, and raises what went wrong.
    A call on a list of keys answers a list in the same order; if anything went wrong with some of them, it raises `BatchError`, whose `outcomes`
    has the answers of the others. A key that is not held is a `Miss`, which is false.

    What went wrong: `snowskin.errors`. A call that ends with `DeadlineError` or `BrokenError` may have happened.
    """

    def __new__(cls, seeds: Union[str, Sequence[str]], **settings: Unpack[Settings]) -> Self: ...
    @overload  # A str is also an iterable of them.
    def put(self, keys: Key, values: Memory, **options: Unpack[Options]) -> bool: ...
    @overload
    def put(self, keys: Iterable[Key], values: Iterable[Memory], **options: Unpack[Options]) -> list[bool]:
        """Stores values whose keys are not held: True for each that was stored, False for each whose key was held already.

        Values are anything with contiguous memory: `bytes`, `bytearray`, `memoryview`, numpy arrays, tensors on the CPU. They go out straight
        from where they are. A long batch goes in steps, between which an interrupt ends it.
        """
    def put_from(
        self, keys: Iterable[Key], addresses: Sequence[int], sizes: Sequence[int], **options: Unpack[Options]
    ) -> list[bool]:
        """Stores values that lie at addresses in registered memory."""
    @overload  # A str is also an iterable of them.
    def get(self, keys: Key, *, deadline: Optional[float] = None) -> Union[bytes, Miss]: ...  # type: ignore[overload-overlap]
    @overload
    def get(self, keys: Iterable[Key], *, deadline: Optional[float] = None) -> list[Union[bytes, Miss]]:
        """Reads values into fresh `bytes`: one copy, checksums compared on the way."""
    @overload  # A str is also an iterable of them.
    def get_into(self, keys: Key, buffers: Memory, *, deadline: Optional[float] = None) -> Union[int, Miss]: ...
    @overload
    def get_into(
        self, keys: Iterable[Key], buffers: Iterable[Memory], *, deadline: Optional[float] = None
    ) -> list[Union[int, Miss]]:
        """Reads values into writable buffers, without a copy in between; answers how many bytes each value has.

        What a buffer holds whose read did not hit means nothing. When the call returns, nothing writes into the buffers any more.
        """
    def get_to(
        self,
        keys: Iterable[Key],
        addresses: Sequence[int],
        sizes: Sequence[int],
        *,
        deadline: Optional[float] = None,
    ) -> list[Union[int, Miss]]:
        """Reads values to addresses in registered memory; answers how many bytes each value has."""
    @overload  # A str is also an iterable of them.
    def view(self, keys: Key, *, deadline: Optional[float] = None) -> Union[memoryview, Miss]: ...  # type: ignore[overload-overlap]
    @overload
    def view(self, keys: Iterable[Key], *, deadline: Optional[float] = None) -> list[Union[memoryview, Miss]]:
        """Reads values where they lie: in the memory of engines on this machine, without a copy; of others, a copy.

        A read-only memoryview holds a pin: the engine keeps the bytes until it is released, also if the value is removed, replaced or evicted
        meanwhile, or the store is closed. Bytes in place are not compared with their checksum: see `View.is_intact`.
        """
    @overload  # A str is also an iterable of them.
    def lookup(self, keys: Key, *, deadline: Optional[float] = None) -> Union[int, Miss]: ...  # type: ignore[overload-overlap]
    @overload
    def lookup(self, keys: Iterable[Key], *, deadline: Optional[float] = None) -> list[Union[int, Miss]]:
        """How many bytes the values have. Grants leases: what was found is not evicted for a while."""
    @overload  # A str is also an iterable of them.
    def exists(self, keys: Key, *, deadline: Optional[float] = None) -> bool: ...  # type: ignore[overload-overlap]
    @overload
    def exists(self, keys: Iterable[Key], *, deadline: Optional[float] = None) -> list[bool]:
        """Whether keys are held. Grants leases."""
    def match_prefix(self, keys: Iterable[Key], *, deadline: Optional[float] = None) -> int:
        """How many leading keys are held. Grants leases on those."""
    @overload  # A str is also an iterable of them.
    def remove(self, keys: Key, *, force: bool = False, deadline: Optional[float] = None) -> Removal: ...  # type: ignore[overload-overlap]
    @overload
    def remove(
        self, keys: Iterable[Key], *, force: bool = False, deadline: Optional[float] = None
    ) -> list[Removal]:
        """Removes keys; with `force` those too that a lease protects."""
    def remove_matching(
        self, pattern: str, *, force: bool = False, deadline: Optional[float] = None
    ) -> RemovedCount:
        """Removes all keys of the tenant in which a regular expression is found."""
    def remove_all(self, *, force: bool = False, deadline: Optional[float] = None) -> RemovedCount:
        """Removes all keys of the tenant."""
    def list_keys(self, pattern: str = "", *, deadline: Optional[float] = None) -> list[tuple[bytes, int]]:
        """The keys of the tenant in which a regular expression is found, all of them if there is none, each with the bytes of its value.

        For people and their tools: it looks at all objects. Grants no leases. `KeysMovedError` says that slots have changed hands meanwhile.
        """
    def stats(self, *, deadline: Optional[float] = None) -> dict[str, Any]:
        """Counters: `"cores"` has a dictionary for each core of the cluster (or its `"error"`), `"client"` has those of this store."""
    @overload  # A str is also an iterable of them.
    def holders(self, keys: Key, *, deadline: Optional[float] = None) -> Union[Holders, Miss]: ...  # type: ignore[overload-overlap]
    @overload
    def holders(self, keys: Iterable[Key], *, deadline: Optional[float] = None) -> list[Union[Holders, Miss]]:
        """Who has objects: the bytes of the value, and the names of the cores that have it, as `stats` has them; first the one that readers are
        sent to. Grants no leases.
        """
    def copy(
        self, key: Key, targets: Union[str, Sequence[str]], *, deadline: Optional[float] = None
    ) -> Union[Task, Miss]:
        """Begins to copy an object to cores, which are named as `stats` has them, or by where they listen: the task, or a `Miss`.

        Any core of an engine stands for the engine: where it has the object already, nothing is copied.
        """
    def move(
        self, key: Key, source: str, target: str, *, deadline: Optional[float] = None
    ) -> Union[Task, Miss]:
        """Begins to move an object from the engine of one core to another's: as `copy`, and then the first one gives it up."""
    def task(self, task: tuple[str, int], *, deadline: Optional[float] = None) -> Optional[TaskInfo]:
        """How far a task of `copy` or `move` is; None if it is not known any more. The newest some thousand of a core are remembered."""
    def give_up(self, key: Key, core: str, *, deadline: Optional[float] = None) -> Union[bool, Miss]:
        """Has the engine of a core give up an object that others have, too: whether it did. False: it did not have it, or nobody else has."""
    def register(self, address: int, size: int) -> None:
        """From now on `put_from` and `get_to` may use these bytes. They must stay mapped until they are unregistered."""
    def unregister(self, address: int) -> None:
        """Forgets the memory that begins there."""
    def close(self) -> None:
        """Ends it. Views stay valid; calls raise `ClosedError`. Calls of other threads that are under way go on to their end."""
    @property
    def closed(self) -> bool:
        """Whether it was closed."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
        /,
    ) -> None: ...

class Engine:
    """An engine in this process: memory for values, a pinned thread for each core, and a master of its own unless it is given one.

    `memory` is a number of bytes, or a size such as `"4GB"`. `master` is where the master of a cluster to join answers (`"host:port"`). `listen` is
    where the first core listens; port 0 is any that is free. `memory_file` names a file whose first bytes are the memory, of one core: it is there, and long
    enough, and keeps its length; what these bytes had is gone, and nobody may make it shorter meanwhile. All else that `snowskin-engine --help` names may be given by its name with
    underscores: `ssd="/var/lib/snowskin", ssd_size="100GB"`. What it logs goes to standard error, from the level on that the environment
    variable `SNOWSKIN_LOG` names (`warn` if it names none).

    It ends with `close()`, at the end of a `with` block, or with the interpreter: its memory, and what was only there, is gone then. A process that is
    forked from this one has no part of it.
    """

    def __new__(
        cls,
        *,
        memory: Union[int, str],
        cores: int = 1,
        master: Optional[str] = None,
        listen: str = "127.0.0.1:0",
        memory_file: Optional[Union[str, PathLike[str]]] = None,
        **flags: object,
    ) -> Self: ...
    @property
    def cores(self) -> list[str]:
        """Where its cores listen: what a `Store` takes."""
    @property
    def master(self) -> str:
        """Where its master answers, its own or the one that it was given: what other engines of the cluster take."""
    @property
    def http(self) -> Optional[str]:
        """Where its own master shows the cluster to a browser; None if it was given a master."""
    @property
    def closed(self) -> bool:
        """Whether it was closed."""
    def close(self) -> None:
        """Leaves the cluster and ends: what others take over is given to them, memory is given back."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
        /,
    ) -> None: ...

def close_engines() -> None:
    """Closes all engines of this process."""

class Requests:
    """Calls that do not wait. Each answers the number of its request; when `fileno()` is readable, `drain()` has answers.

    The arguments are those of `Store`. Buffers are held until nothing reads or writes them any more.
    """

    def __new__(cls) -> Self: ...
    @staticmethod
    def beside(store: Store) -> Requests: ...
    def fileno(self) -> int: ...
    def drain(self) -> list[tuple[int, bool, Any]]:
        """Answers that have come: the number of each request, whether it went well, and the answer or exception."""
    def close(self) -> None: ...
    def submit_connect(self, seeds: Union[str, Sequence[str]], **settings: Unpack[Settings]) -> int: ...
    def submit_put(
        self, keys: Union[Key, Iterable[Key]], values: Union[Memory, Iterable[Memory]], **options: Unpack[Options]
    ) -> int: ...
    def submit_get(self, keys: Union[Key, Iterable[Key]], *, deadline: Optional[float] = None) -> int: ...
    def submit_get_into(
        self,
        keys: Union[Key, Iterable[Key]],
        buffers: Union[Memory, Iterable[Memory]],
        *,
        deadline: Optional[float] = None,
    ) -> int: ...
    def submit_view(self, keys: Union[Key, Iterable[Key]], *, deadline: Optional[float] = None) -> int: ...
    def submit_lookup(self, keys: Union[Key, Iterable[Key]], *, deadline: Optional[float] = None) -> int: ...
    def submit_exists(self, keys: Union[Key, Iterable[Key]], *, deadline: Optional[float] = None) -> int: ...
    def submit_match_prefix(self, keys: Iterable[Key], *, deadline: Optional[float] = None) -> int: ...
    def submit_remove(
        self, keys: Union[Key, Iterable[Key]], *, force: bool = False, deadline: Optional[float] = None
    ) -> int: ...
    def submit_remove_matching(
        self, pattern: str, *, force: bool = False, deadline: Optional[float] = None
    ) -> int: ...
    def submit_list_keys(self, pattern: str, *, deadline: Optional[float] = None) -> int: ...
    def submit_holders(self, keys: Union[Key, Iterable[Key]], *, deadline: Optional[float] = None) -> int: ...
    def submit_copy(
        self,
        key: Key,
        targets: Union[str, Sequence[str]],
        source: Optional[str],
        *,
        deadline: Optional[float] = None,
    ) -> int:
        """With a source, the object moves."""
    def submit_task(self, task: tuple[str, int], *, deadline: Optional[float] = None) -> int: ...
    def submit_give_up(self, key: Key, core: str, *, deadline: Optional[float] = None) -> int: ...
    def submit_stats(self, *, deadline: Optional[float] = None) -> int: ...

class PutSettings:
    """What to do with objects besides storing them. `soft_pin_ms`: 0 for none; `keep_soft_pin`: that of what is replaced; `replicas`: how many in all; `groups`: one for each object."""

    def __new__(
        cls,
        *,
        replace: bool = False,
        soft_pin_ms: int = 0,
        keep_soft_pin: bool = False,
        hard_pin: bool = False,
        replicas: int = 1,
        groups: Optional[Sequence[str]] = None,
    ) -> Self: ...

class Codes:
    """Verbs that answer in the numbers of Mooncake Store's API: 0 or a size is well, a negative number is an error's. All take lists."""

    def __new__(cls, seeds: Union[str, Sequence[str]], **settings: Unpack[Settings]) -> Self: ...
    @staticmethod
    def connect_now(seeds: Union[str, Sequence[str]], **settings: Unpack[Settings]) -> Codes:
        """The same, but waits for no engine: `NoEnginesError` if the cluster has none."""
    def close(self) -> None: ...
    def is_usable(self) -> bool:
        """Whether calls can work: it is not closed, and was made by this process."""
    def register(self, address: int, size: int) -> int: ...
    def unregister(self, address: int) -> int: ...
    def put_from(
        self, keys: Iterable[Key], addresses: Sequence[int], sizes: Sequence[int], settings: PutSettings
    ) -> list[int]: ...
    def put_pieces(
        self,
        keys: Iterable[Key],
        addresses: Sequence[Sequence[int]],
        sizes: Sequence[Sequence[int]],
        settings: PutSettings,
    ) -> list[int]:
        """Puts values that lie in pieces at addresses."""
    def put_values(self, keys: Iterable[Key], values: Sequence[Sequence[Memory]], settings: PutSettings) -> list[int]:
        """Puts values of objects, each in pieces."""
    def get_to(self, keys: Iterable[Key], addresses: Sequence[int], sizes: Sequence[int]) -> list[int]: ...
    def get_pieces(
        self, keys: Iterable[Key], addresses: Sequence[Sequence[int]], sizes: Sequence[Sequence[int]]
    ) -> list[int]: ...
    def get(self, keys: Iterable[Key]) -> list[bytes]:
        """Values; those that cannot be had are empty."""
    def view(self, keys: Iterable[Key]) -> list[Optional[View]]: ...
    def sizes(self, keys: Iterable[Key]) -> list[int]: ...
    def exist(self, keys: Iterable[Key]) -> list[int]:
        """1 for each key that is held, 0 for each that is not."""
    def remove(self, keys: Iterable[Key], force: bool) -> list[int]: ...
    def remove_matching(self, pattern: str, force: bool) -> int: ...
    def keys(self, pattern: str) -> list[tuple[bytes, int]]:
        """The keys in which a regular expression is found, each with the bytes of its value; raises what went wrong."""
    def holders(self, keys: Iterable[Key]) -> list[tuple[int, list[str]]]:
        """Who has objects: bytes of the value or a code, and where the cores listen that have it. Grants no leases."""
    def copy(self, key: Key, targets: Sequence[str], source: Optional[str] = None) -> tuple[int, int, int]:
        """Has an object copied to segments, or, with a source, moved from there: the two numbers of a task, and 0; or a code."""
    def task(self, high: int, low: int) -> tuple[Optional[tuple[bool, int, int, int, str]], int]:
        """How far a task is, and 0; or a code: whether it moves the object, its state, when it was asked for and when it changed last
        (milliseconds of the epoch), and what came of it."""
    def clear(self, keys: Iterable[Key], segment: str) -> list[int]:
        """Has a segment give up objects; what nobody else has is removed. 0 for each that is not there any more."""
    def cores(self) -> list[tuple[str, str]]:
        """The cores of the cluster now, and where each listens."""

class CodeRequests:
    """The verbs of `Codes` as calls that do not wait, by the same client: see `Requests`. Closed, they raise `ClosedError`."""

    def __new__(cls, codes: Codes) -> Self: ...
    def fileno(self) -> int: ...
    def drain(self) -> list[tuple[int, bool, Any]]: ...
    def close(self) -> None: ...
    def submit_put_from(
        self, keys: Iterable[Key], addresses: Sequence[int], sizes: Sequence[int], settings: PutSettings
    ) -> int: ...
    def submit_put_pieces(
        self,
        keys: Iterable[Key],
        addresses: Sequence[Sequence[int]],
        sizes: Sequence[Sequence[int]],
        settings: PutSettings,
    ) -> int: ...
    def submit_put_values(
        self, keys: Iterable[Key], values: Sequence[Sequence[Memory]], settings: PutSettings
    ) -> int: ...
    def submit_get_to(self, keys: Iterable[Key], addresses: Sequence[int], sizes: Sequence[int]) -> int: ...
    def submit_get_pieces(
        self, keys: Iterable[Key], addresses: Sequence[Sequence[int]], sizes: Sequence[Sequence[int]]
    ) -> int: ...
    def submit_get(self, keys: Iterable[Key]) -> int: ...
    def submit_view(self, keys: Iterable[Key]) -> int: ...
    def submit_sizes(self, keys: Iterable[Key]) -> int: ...
    def submit_exist(self, keys: Iterable[Key]) -> int: ...
    def submit_remove(self, keys: Iterable[Key], force: bool) -> int: ...
    def submit_remove_matching(self, pattern: str, force: bool) -> int: ...
    def submit_holders(self, keys: Iterable[Key]) -> int: ...
    def submit_copy_object(self, key: Key, targets: Sequence[str], source: Optional[str]) -> int: ...
    def submit_task(self, high: int, low: int) -> int: ...
    def submit_clear(self, keys: Iterable[Key], segment: str) -> int: ...
    def submit_intact(self, views: Sequence[View]) -> int:
        """Whether the bytes of each match its checksum."""
    def submit_copy(self, to: Sequence[int], source: Sequence[int], sizes: Sequence[int], kept: object) -> int:
        """Copies bytes between addresses. `kept` has them, or they are registered."""
