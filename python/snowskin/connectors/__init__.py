"""Snowskin under other people's caches.

* :mod:`snowskin.connectors.lmcache`: an L2 backend of LMCache, for its types ``native_plugin`` and ``plugin``.
* :mod:`snowskin.connectors.sglang`: a storage backend of SGLang's HiCache, for its type ``dynamic``.
* :mod:`snowskin.connectors.vllm`: a secondary tier of vLLM's OffloadingConnector.

Hosts import them by name; none of them is imported with `snowskin`, and none needs its host to be installed. What all of them promise:

* Settings come from the host's own configuration (:mod:`snowskin.connectors._settings` lists them); one that is not known is refused.
* A cache does not break its host. What goes wrong while it works (an engine is gone, a deadline has passed, a value has another length than
  the room for it) is a miss and a line in the log, not more often than twice a minute.
* Nothing waits longer than the deadline.
"""
