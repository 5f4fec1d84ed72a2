"""Soft pins, and what an upsert does to them: seen by what is left when memory is short."""

from __future__ import annotations

from masters import MB, Master

from snowskin.mooncake.store import ReplicateConfig, SoftPinAction

VALUE = b"v" * (256 << 10)


def config(action: SoftPinAction) -> ReplicateConfig:
    config = ReplicateConfig()
    config.soft_pin_action = action
    return config


def test_an_upsert_keeps_a_soft_pin_unless_a_word_is_said() -> None:
    master = Master()
    try:
        store = master.store(global_segment_size=16 * MB)
        pinned = config(SoftPinAction.ENABLE)
        for key in ("kept", "given up", "pinned anew"):
            assert store.put(key, VALUE, pinned) == 0
        assert store.put("plain", VALUE) == 0
        assert store.upsert("kept", VALUE) == 0
        assert store.upsert("given up", VALUE, config(SoftPinAction.DISABLE)) == 0
        assert store.upsert("pinned anew", VALUE, pinned) == 0
        for number in range(200):
            assert store.put(f"more {number}", VALUE) == 0
        # Those that are not pinned went long ago; a lookup grants leases, so it comes last.
        assert store.batch_is_exist(["kept", "given up", "pinned anew", "plain"]) == [1, 0, 1, 0]
    finally:
        master.stop()
