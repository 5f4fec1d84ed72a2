"""A drop-in for Mooncake Store's Python module, over :mod:`snowskin`.

``python -m snowskin.mooncake install`` makes it known as ``mooncake``, with the programs that go with it; until then it is here, under the same
names: ``snowskin.mooncake.store.MooncakeDistributedStore`` and so on. New programs do better with :class:`snowskin.Store`, which says why a key
is missed and raises what went wrong.

========================================  ==============================================================
``store``                                 ``MooncakeDistributedStore``, ``ReplicateConfig`` and the rest
``async_store``                           ``MooncakeDistributedStoreAsync``
``mooncake_config``                       ``MooncakeConfig``
``service``                               a store behind HTTP, known as ``mooncake_store_service``
``http_metadata_server``                  what others keep there; a store of ours needs none
``master``, ``client``                    the programs ``mooncake_master`` and ``mooncake_client``
========================================  ==============================================================

What is answered otherwise than there, and why: see the table in ``python/tests/mooncake_contract``.
"""
