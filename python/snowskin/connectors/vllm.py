"""A secondary tier of vLLM's OffloadingConnector: `--kv-transfer-config JSON`.

    {"kv_connector": "OffloadingConnector", "kv_role": "kv_both", "kv_connector_extra_config": {
        "spec_name": "TieringOffloadingSpec", "cpu_bytes_to_use": 68719476736,
        "secondary_tiers": [{"type": "SnowskinTier", "module_path": "snowskin.connectors.vllm", "seeds": "10.0.0.1:7300"}]}}

The tier's other keys are the settings of :mod:`snowskin.connectors._settings`, and ``locality`` (``LOCAL`` or ``REMOTE``), which vLLM reports.

```text
  scheduler, under the manager's lock
    lookup(key)      first: RETRY, and the key goes along with the next batch     later: HIT, MISS
    on_schedule_end  the batch of keys ──────────┐
    submit_store/load  chunks of the host memory ┴──► the native client ──► get_finished_jobs(), lookup()
```

No thread of Python's, no copy: chunks are read from and written to where vLLM has them. Keys name what the bytes of a chunk depend on, as vLLM's
own file tier does it (model, dtype, groups, parallelism), unless ``namespace`` says it otherwise.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

from ._calls import Calls
from ._host import class_of
from ._settings import Settings, settings_of
from ._troubles import Troubles

_WHERE = "vLLM's secondary_tiers"
_BASE = "vllm.v1.kv_offload.tiering.base"

if TYPE_CHECKING:

    class _Host:
        locality: Any

        def __init__(
            self, offloading_spec: Any, primary_kv_view: memoryview, tier_type: str, backpressure_detector: Any
        ) -> None: ...

else:
    _Host = class_of(_BASE, "SecondaryTierManager")


@dataclass
class _Job:
    """A transfer of vLLM's."""

    number: int
    keys: list[bytes]
    is_load: bool
    begun: float = field(default_factory=time.monotonic)


@dataclass
class _Question:
    """A batch of keys: are they held?"""

    keys: list[bytes]


class Lookups:
    """What is known about keys, as long as some request wants to know it: held, not held, or (None) asked and not answered yet."""

    def __init__(self) -> None:
        self._verdicts: dict[bytes, Optional[bool]] = {}
        self._wanted_by: dict[bytes, set[str]] = {}
        self._of_request: dict[str, set[bytes]] = {}
        self._to_ask: list[bytes] = []

    def verdict(self, key: bytes, request: str) -> Optional[bool]:
        """What is known; a key of which nothing is known is asked about with the next batch."""
        if key not in self._verdicts:
            self._verdicts[key] = None
            self._to_ask.append(key)
        self._wanted_by.setdefault(key, set()).add(request)
        self._of_request.setdefault(request, set()).add(key)
        return self._verdicts[key]

    def batch(self) -> list[bytes]:
        """The keys to ask about now."""
        keys, self._to_ask = self._to_ask, []
        return keys

    def answer(self, keys: Iterable[bytes], verdicts: Iterable[bool]) -> None:
        """Of keys that were asked about, whether they are held."""
        for key, is_held in zip(keys, verdicts):
            if self._verdicts.get(key, True) is None:
                self._verdicts[key] = is_held
                self._forget_if_unwanted(key)

    def deny(self, keys: Iterable[bytes]) -> None:
        """They were said to be held, and could not be read: whoever asks again must not try for ever."""
        for key in keys:
            if self._verdicts.get(key):
                self._verdicts[key] = False

    def forget(self, request: str) -> None:
        """The request has ended."""
        for key in self._of_request.pop(request, ()):
            self._wanted_by[key].discard(request)
            self._forget_if_unwanted(key)

    def _forget_if_unwanted(self, key: bytes) -> None:
        # A key that is being asked about stays until its answer has come, which would find another question of the same key else.
        if not self._wanted_by.get(key) and self._verdicts.get(key) is not None:
            del self._verdicts[key]
            self._wanted_by.pop(key, None)


class SnowskinTier(_Host):
    """See the module's head. All calls come under vLLM's lock: one at a time. Nothing waits but the constructor, :meth:`drain_jobs` and
    :meth:`shutdown`, for a deadline at most."""

    def __init__(
        self,
        offloading_spec: Any,
        primary_kv_view: memoryview,
        tier_type: str,
        backpressure_detector: Any = None,
        locality: Optional[str] = None,
        **settings: Any,
    ) -> None:
        chosen = settings_of(settings, _WHERE)
        super().__init__(offloading_spec, primary_kv_view, tier_type, backpressure_detector)
        base = importlib.import_module(_BASE)
        self._JobResult = base.JobResult
        self._LookupResult = base.LookupResult
        self._RequestContext = base.RequestOffloadingContext
        if locality is not None:
            self.locality = base.Locality(locality)
        self._prefix = namespace_of(chosen, offloading_spec).encode() + b"/"
        self._chunks = primary_kv_view.cast("B")
        assert primary_kv_view.strides is not None
        self._chunk_bytes = primary_kv_view.strides[0]
        self._lookups = Lookups()
        self._jobs: set[int] = set()
        self._results: list[Any] = []
        self._replicas = chosen.replicas
        self._troubles = Troubles(__name__)
        self._calls: Calls[Any] = Calls(chosen, self._troubles)

    def lookup(self, key: bytes, req_context: Any) -> Any:
        """HIT, MISS, or RETRY while the answer is on its way."""
        self._take()
        is_held = self._lookups.verdict(bytes(key), req_context.req_id)
        if is_held is None:
            return self._LookupResult.RETRY
        return self._LookupResult.HIT if is_held else self._LookupResult.MISS

    def submit_store(self, job_metadata: Any) -> None:
        """Stores chunks; those whose keys are held already are left as they are."""
        job = self._job(job_metadata, is_load=False)
        named, chunks = self._named(job.keys), self._rooms(job_metadata.chunk_ids)
        self._calls.begin(job, lambda requests: requests.submit_put(named, chunks, replicas=self._replicas))

    def submit_load(self, job_metadata: Any) -> None:
        """Reads chunks. Keys that cannot be read are misses from now on, for the requests that asked."""
        job = self._job(job_metadata, is_load=True)
        named, chunks = self._named(job.keys), self._rooms(job_metadata.chunk_ids)
        self._calls.begin(job, lambda requests: requests.submit_get_into(named, chunks))

    def get_finished_jobs(self) -> Iterable[Any]:
        """Each job once."""
        self._take()
        results, self._results = self._results, []
        return results

    def has_pending_work(self) -> bool:
        """Whether jobs are under way, or have ended and nobody has heard."""
        return bool(self._jobs or self._results)

    def on_new_request(self, req_context: Any) -> Any:
        """Nothing to wish for."""
        return self._RequestContext()

    def on_request_finished(self, req_context: Any) -> None:
        """What only this request wanted to know is forgotten."""
        self._lookups.forget(req_context.req_id)

    def on_schedule_end(self, context: Any) -> None:
        """Asks about the keys of this step, all at once."""
        self._take()
        if keys := self._lookups.batch():
            named = self._named(keys)
            self._calls.begin(_Question(keys), lambda requests: requests.submit_exists(named))

    def drain_jobs(self) -> None:
        """Waits until all jobs have ended: each does within its deadline."""
        self._take()
        while self._jobs:
            self._calls.wait(1.0)
            self._take()

    def shutdown(self) -> None:
        """Waits until nothing touches the host memory any more, and ends."""
        self._end(self._calls.close())
        self._chunks.release()

    def _job(self, transfer: Any, is_load: bool) -> _Job:
        job = _Job(transfer.job_id, [bytes(key) for key in transfer.keys], is_load)
        self._jobs.add(job.number)
        return job

    def _named(self, keys: list[bytes]) -> list[bytes]:
        # Hashes have bytes of every kind, NUL among them.
        return [self._prefix + key.hex().encode() for key in keys]

    def _rooms(self, chunk_ids: Iterable[Any]) -> list[memoryview]:
        starts = (int(number) * self._chunk_bytes for number in chunk_ids)
        return [self._chunks[start : start + self._chunk_bytes] for start in starts]

    def _take(self) -> None:
        self._end(self._calls.ended())

    def _end(self, ended: list[tuple[Any, Any]]) -> None:
        for context, answer in ended:
            if isinstance(context, _Question):
                what = f"lookup of {len(context.keys)} keys"
                outcomes = self._troubles.answers(what, answer, len(context.keys))
                self._lookups.answer(context.keys, [outcome is True for outcome in outcomes])
            else:
                self._end_job(context, answer)

    def _end_job(self, job: _Job, answer: Any) -> None:
        what = f"{'load' if job.is_load else 'store'} of {len(job.keys)} chunks"
        outcomes = self._troubles.answers(what, answer, len(job.keys))
        if job.is_load:
            is_well = [outcome == self._chunk_bytes for outcome in outcomes]
        else:
            is_well = [isinstance(outcome, bool) for outcome in outcomes]
        good = [key for key, is_good in zip(job.keys, is_well) if is_good]
        if job.is_load:
            self._lookups.deny(set(job.keys).difference(good))
        self._jobs.discard(job.number)
        self._results.append(
            self._JobResult(
                job_id=job.number,
                success=len(good) == len(job.keys),
                successful_keys=good if job.is_load else None,
                transfer_time=time.monotonic() - job.begun,
                transfer_bytes=len(good) * self._chunk_bytes,
            )
        )


def namespace_of(settings: Settings, offloading_spec: Any) -> str:
    """What keys begin with: all that the bytes of a chunk depend on besides its tokens."""
    if settings.namespace is not None:
        return settings.namespace
    mapper = importlib.import_module("vllm.v1.kv_offload.file_mapper").FileMapper.from_offloading_spec(
        "vllm", offloading_spec, blocks_per_file=offloading_spec.blocks_per_chunk, parallel_agnostic=True
    )
    return f"{mapper.base_path}_r{mapper.rank}"
