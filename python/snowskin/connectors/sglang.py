"""A storage backend of SGLang's hierarchical cache: `--enable-hierarchical-cache --hicache-storage-backend dynamic
--hicache-storage-backend-extra-config JSON`.

    {"backend_name": "snowskin", "module_path": "snowskin.connectors.sglang", "class_name": "HiCache", "interface_v1": 1,
     "seeds": "10.0.0.1:7300"}

The other keys are the settings of :mod:`snowskin.connectors._settings`, and ``extra_backend_tag``, which SGLang's backends share: it begins keys.
With ``"interface_v1": 1`` pages go to and from SGLang's host memory as they lie there: `--hicache-mem-layout page_first` or
`page_first_direct` has each in one piece, which is best; `layer_first` is gathered and scattered, also without a copy. Without it SGLang
copies each page once more.

Keys are those of SGLang's Mooncake backend, `<tag>_<model>_<what>_<page hash>_<tp rank>[_<pp rank>]_k` and `…_v`, or of MLA models, which all
ranks share, `…_<page hash>_[<pp rank>]_k`. `<what>` is what else the bytes of a page depend on: element type, order, number of ranks. Pages
of side pools (v2) are one object each, behind the pool's name.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from ._host import class_of
from ._pages import Pages
from ._settings import settings_of
from ._troubles import Troubles

_WHERE = "SGLang's --hicache-storage-backend-extra-config"
_STORAGE = "sglang.srt.mem_cache.hicache_storage"
#: Keys of the dictionary that are not ours.
_OF_SGLANG = ("backend_name", "module_path", "class_name", "interface_v1", "extra_backend_tag", "tp_lcm_size")
#: Layouts whose pages have the same bytes: layer by layer, whether in one piece or not.
_BY_LAYERS = ("layer_first", "page_first_direct")

if TYPE_CHECKING:

    class _Host:
        mem_pool_host: Any

else:
    _Host = class_of(_STORAGE, "HiCacheStorage")


class _Objects(NamedTuple):
    """What pages are stored as: `per_page` objects for each, in order, each in pieces."""

    keys: list[str]
    addresses: list[list[int]]
    sizes: list[list[int]]
    per_page: int


class HiCache(_Host):
    """See the module's head. SGLang calls it from several threads at once."""

    def __init__(self, storage_config: Any, kwargs: Any = None) -> None:
        config = dict(storage_config.extra_config or {})
        self._is_zero_copy = bool(config.get("interface_v1", 0))
        tag = config.get("extra_backend_tag")
        settings = settings_of({name: value for name, value in config.items() if name not in _OF_SGLANG}, _WHERE)
        self._names = Names(storage_config, [part for part in (settings.namespace, tag) if part])
        self._split = self._names.split
        self._troubles = Troubles(__name__)
        self._pages = Pages(settings, self._troubles)
        self.registered_pools: dict[str, Any] = {}
        self.mem_pool_host: Any = None

    def register_mem_pool_host(self, mem_pool_host: Any) -> None:
        """Takes in the host memory of the model's own pool."""
        self.mem_pool_host = mem_pool_host
        self._names.know(mem_pool_host)
        self._register(mem_pool_host)

    def register_mem_host_pool_v2(self, host_pool: Any, host_pool_name: Any) -> None:
        """Takes in the host memory of a side pool."""
        self.registered_pools[_text(host_pool_name)] = host_pool
        self._register(host_pool)

    def batch_exists(self, keys: list[str], extra_info: Any = None) -> int:
        """How many leading pages are held."""
        components = self._names.components if self._is_zero_copy else [self._names.page]
        names = [self._names.of(key, component) for key in keys for component in components]
        return _leading(_by_page(self._pages.held(names), len(components)))

    def exists(self, key: str) -> bool:
        """Whether a page is held."""
        return self.batch_exists([key]) == 1

    def batch_set_v1(self, keys: list[str], host_indices: Any, extra_info: Any = None) -> list[bool]:
        """Stores pages of the model's own pool; whether each is held then."""
        if self._is_logical():
            return [True] * len(keys)
        objects = self._objects(keys, host_indices)
        return self._put(objects, _last_prefix_key(extra_info)) if objects else [False] * len(keys)

    def batch_get_v1(self, keys: list[str], host_indices: Any, extra_info: Any = None) -> list[bool]:
        """Reads pages into the model's own pool; whether each was read."""
        if self._is_logical():
            return [True] * len(keys)
        objects = self._objects(keys, host_indices)
        return self._get(objects) if objects else [False] * len(keys)

    def batch_exists_v2(self, keys: list[str], pool_transfers: Any = None, extra_info: Any = None) -> Any:
        """How many leading pages can be restored, given what each side pool needs of them."""
        pages = len(keys) if self._is_logical() else self.batch_exists(keys, extra_info)
        hits: dict[Any, int] = {"kv": pages} if pages else {}
        restorable = list(range(1, pages + 1))
        transfers = list(pool_transfers or ())
        names = [self._side_name(key, transfer.name) for transfer in transfers for key in keys[:pages]]
        held = self._pages.held(names) if names else []
        for number, transfer in enumerate(transfers):
            own = _stops(transfer, held[number * pages : (number + 1) * pages])
            if own:
                hits[transfer.name] = max(own)
            restorable = [stop for stop in restorable if stop in own]
        return _result(restorable[-1] if restorable else 0, hits, restorable)

    def batch_set_v2(self, transfers: list[Any], extra_info: Any = None) -> dict[str, list[bool]]:
        """Stores pages of side pools."""
        return {transfer.name: self._side(transfer, self._put) for transfer in transfers}

    def batch_get_v2(self, transfers: list[Any], extra_info: Any = None) -> dict[str, list[bool]]:
        """Reads pages into side pools."""
        return {transfer.name: self._side(transfer, self._get) for transfer in transfers}

    def batch_set(
        self, keys: list[str], values: Any = None, target_locations: Any = None, target_sizes: Any = None
    ) -> bool:
        """Stores pages that are tensors, or lie at addresses in registered memory; whether all are held then."""
        names = [self._names.of(key, self._names.page) for key in keys]
        parents = _parents(names, 1, None)
        if values is not None:
            return all(self._pages.put_values(names, list(values), parents))
        places, sizes = [[place] for place in target_locations], [[size] for size in target_sizes]
        return all(self._pages.put(names, places, sizes, parents))

    def batch_get(self, keys: list[str], target_locations: Any = None, target_sizes: Any = None) -> Any:
        """Reads pages into tensors, and answers those that were read and None for the others; or to addresses, and answers how many leading
        pages were read."""
        names = [self._names.of(key, self._names.page) for key in keys]
        if target_sizes is not None:
            places, sizes = [[place] for place in target_locations], [[size] for size in target_sizes]
            return _leading(self._pages.get(names, places, sizes))
        rooms = list(target_locations)
        was_read = self._pages.get_values(names, rooms, [room.numel() * room.element_size() for room in rooms])
        return [room if is_read else None for room, is_read in zip(rooms, was_read)]

    def set(self, key: str, value: Any = None, target_location: Any = None, target_sizes: Any = None) -> bool:
        """The same of one page."""
        if value is not None:
            return self.batch_set([key], [value])
        return self.batch_set([key], None, [target_location], [target_sizes])

    def get(self, key: str, target_location: Any = None, target_sizes: Any = None) -> Any:
        """The same of one page: the tensor or None, or whether it was read to its address."""
        if target_sizes is not None:
            return self.batch_get([key], [target_location], [target_sizes]) == 1
        return self.batch_get([key], [target_location])[0]

    def clear(self) -> None:
        """Removes all pages of this model, but for those that somebody has just read."""
        self._pages.clear("^" + re.escape(self._names.prefix))

    def close(self) -> None:
        """Everything is a miss from now on."""
        self._pages.close()

    def _is_logical(self) -> bool:
        # An anchor has indices and no memory: what it stands for is in side pools.
        return getattr(self.mem_pool_host, "kv_buffer", None) is None

    def _register(self, pool: Any) -> None:
        for tensor in _tensors(pool):
            self._pages.register(tensor.data_ptr(), tensor.numel() * tensor.element_size())

    def _objects(self, keys: list[str], host_indices: Any) -> Optional[_Objects]:
        """The pages of the model's own pool as objects. None: the pool does not say where they are, or in a way that is not known."""
        pool = self.mem_pool_host
        if self._split > 1:
            return self._objects_at(
                keys, self._names.components, lambda: pool.get_split_heads_page_buffer_meta(host_indices, self._split)
            )
        return self._objects_at(keys, self._names.components, lambda: pool.get_page_buffer_meta(host_indices))

    def _objects_at(self, keys: list[str], components: Sequence[str], say: Callable[[], Any]) -> Optional[_Objects]:
        per_page = len(components)
        try:
            addresses, sizes = say()
            pieces, rest = divmod(len(addresses), len(keys) * per_page)
            if rest or not pieces:
                raise ValueError(f"{len(addresses)} pieces of {len(keys)} pages, each of {per_page} objects")
        # Pools refuse layouts that they do not have; that is a page which is not cached.
        except Exception as error:
            self._troubles.tell("pages of a layout that is not known", error)
            return None
        names = [self._names.of(key, component) for key in keys for component in components]
        starts, lengths = [], []
        # A page in several pieces has those of its objects in turns: k and v of the first layer, of the second, …
        for first in range(0, len(addresses), pieces * per_page):
            for number in range(per_page):
                own = slice(first + number, first + pieces * per_page, per_page)
                starts.append(list(addresses[own]))
                lengths.append(list(sizes[own]))
        return _Objects(names, starts, lengths, per_page)

    def _side(self, transfer: Any, do: Any) -> list[bool]:
        keys = list(transfer.keys or ())
        pool = self.registered_pools.get(_text(transfer.name))
        if pool is None or transfer.host_indices is None or not keys:
            self._troubles.tell(f"side pool {_text(transfer.name)!r}", ValueError("it is not registered, or has no pages"))
            return [False] * len(keys)
        component = self._names.side(_text(transfer.name), pool)
        objects = self._objects_at(keys, [component], lambda: pool.get_page_buffer_meta(transfer.host_indices))
        return list(do(objects)) if objects else [False] * len(keys)

    def _side_name(self, key: str, pool_name: Any) -> str:
        name = _text(pool_name)
        return self._names.of(key, self._names.side(name, self.registered_pools.get(name)))

    def _put(self, objects: _Objects, before: Optional[str] = None) -> list[bool]:
        first = None if before is None else [self._names.of(before, part) for part in self._names.components]
        parents = _parents(objects.keys, objects.per_page, first)
        return _by_page(self._pages.put(objects.keys, objects.addresses, objects.sizes, parents), objects.per_page)

    def _get(self, objects: _Objects) -> list[bool]:
        return _by_page(self._pages.get(objects.keys, objects.addresses, objects.sizes), objects.per_page)


class Names:
    """What pages are called."""

    def __init__(self, config: Any, tags: Sequence[str]) -> None:
        self._config = config
        self._tags = [str(tag) for tag in tags]
        self._what = ""
        #: Into how many objects the heads of a page go, so that ranks of other numbers of them can read them.
        self.split = config.tp_lcm_size // config.tp_size if getattr(config, "should_split_heads", False) else 1
        is_staged = config.pp_size > 1
        own = f"_{config.pp_rank}" if is_staged else ""
        first = config.tp_rank * self.split
        self._by_rank = [f"{rank}{own}" for rank in range(first, first + self.split)]
        self._shared = f"{config.pp_rank}" if is_staged else ""
        #: What follows the hash: the objects of a page, in the order of its pieces.
        if config.is_mla_model:
            self.components = [f"{self._shared}_k"]
        else:
            self.components = [f"{rank}_{part}" for rank in self._by_rank for part in ("k", "v")]
        #: The same of a page that SGLang copies.
        self.page = f"{self._shared if config.is_mla_model else self._by_rank[0]}_page"

    def know(self, pool: Any) -> None:
        """What the bytes of a page depend on besides the model."""
        config = self._config
        layout = "layers" if pool.layout in _BY_LAYERS else str(pool.layout)
        parts = [str(pool.dtype).rpartition(".")[2], layout]
        if not config.is_mla_model:
            parts.append(f"tp{config.tp_size * self.split}")
        if config.pp_size > 1:
            parts.append(f"pp{config.pp_size}")
        self._what = "-".join(parts)

    @property
    def prefix(self) -> str:
        """What all of them begin with."""
        model = [self._config.model_name.replace("/", "-")] if self._config.model_name else []
        return "".join(f"{part}_" for part in [*self._tags, *model, self._what] if part)

    def of(self, key: str, component: str) -> str:
        """The name of one object of a page."""
        return f"{self.prefix}{key}_{component}"

    def side(self, pool_name: str, pool: Any) -> str:
        """The component of a side pool: of each rank, unless all ranks of an MLA model have the same bytes in it."""
        is_of_rank = not self._config.is_mla_model or pool_name == "mamba"
        if pool_name.startswith("draft"):
            is_of_rank = not any("MLA" in kind.__name__ or "DeepSeek" in kind.__name__ for kind in type(pool).__mro__)
            is_of_rank = is_of_rank and pool_name != "draft_indexer"
        return f"{self._by_rank[0] if is_of_rank else self._shared}_{pool_name}"


class _Result(NamedTuple):
    kv_hit_pages: int
    extra_pool_hit_pages: dict[Any, int]
    restorable_prefix_pages: Optional[list[int]] = None


def _result(pages: int, hits: dict[Any, int], restorable: list[int]) -> Any:
    if _Host is object:
        return _Result(pages, hits, restorable)
    return importlib.import_module(_STORAGE).PoolTransferResult(pages, hits, restorable)


def _stops(transfer: Any, held: list[bool]) -> set[int]:
    """After how many pages one may stop, given which pages of a side pool are held."""
    policy = _text(transfer.hit_policy)
    if policy == "all_pages":
        return set(range(1, _leading(held) + 1))
    if policy == "trailing_pages":
        trailing = max(1, len(transfer.keys or ()))
        return {stop for stop in range(1, len(held) + 1) if all(held[max(0, stop - trailing) : stop])}
    raise ValueError(f"a pool's hit policy {policy!r} is not known: use a version of SGLang that Snowskin was tested with")


def _text(name: Any) -> str:
    # SGLang's names are texts and members of an enumeration at once.
    return str(getattr(name, "value", name))


def _tensors(pool: Any) -> Iterator[Any]:
    """The host memory of a pool."""
    listed = pool.get_hybrid_pool_buffer() if hasattr(pool, "get_hybrid_pool_buffer") else [getattr(pool, "kv_buffer", None)]
    for tensor in listed:
        if isinstance(tensor, (list, tuple)):
            yield from tensor
        elif tensor is not None:
            yield tensor


def _by_page(outcomes: list[bool], per_page: int) -> list[bool]:
    return [all(outcomes[first : first + per_page]) for first in range(0, len(outcomes), per_page)]


def _leading(outcomes: list[bool]) -> int:
    return outcomes.index(False) if False in outcomes else len(outcomes)


def _last_prefix_key(extra_info: Any) -> Optional[str]:
    before = getattr(extra_info, "prefix_keys", None)
    return before[-1] if before else None


def _parents(names: list[str], per_page: int, first: Optional[list[str]]) -> list[Optional[str]]:
    """The object that each continues: the one of the same kind in the page before."""
    before: list[Optional[str]] = list(first) if first else [None] * per_page
    return [*before, *names][: len(names)]
