"""The core whose nodes are slots: used again and again, it stays what a plain sorted list would be."""

import random
from collections import Counter

import pytest

from gsched.live.scheduler.slots import Slots
from gsched.policies import find_policy


@pytest.mark.parametrize("policy", ["baseline", "edf", "tiered"])
@pytest.mark.parametrize("seed", range(3))
def test_long_runs_equal_a_plain_list(policy: str, seed: int) -> None:
    """Thousands of items pass through a dozen slots, leaving from the head, the middle and the end."""
    rng = random.Random(seed)
    slots: Slots[int] = Slots(["a", "b"], 1, find_policy(policy), queued=5)
    queued: dict[int, tuple[int, float, int, int]] = {}  # item: model, key, order of coming, slot
    running: int | None = None
    met = Counter[str]()
    for item in range(4000):
        now = float(item)
        if len(queued) < 5 and rng.random() < 0.6:
            model = rng.choice([0, 1, 1, 1])
            due, tier = now + rng.choice([1.0, 5.0, 50.0]), rng.randint(1, 3)
            expected = slots.key(model, arrival=now, due=due, tier=tier)
            slot, key = slots.put(item, model, now, arrival=now, due=due, tier=tier, seconds=1.0)
            assert key == expected
            queued[item] = (model, key, item, slot)
        elif queued and rng.random() < 0.5:
            gone = rng.choice(list(queued))
            slots.remove(queued.pop(gone)[3])
            met["removed"] += 1
        if running is not None and rng.random() < 0.5:
            slots.finish(running, 0)
            running = None
        firsts = {}
        for model in (0, 1):
            order = sorted((entry[1:3], other) for other, entry in queued.items() if entry[0] == model)
            firsts[model] = order[0] if order else None
            assert slots.head(model) == (order[0][1] if order else None)
        heads = sorted((first[0][0], first[1]) for first in firsts.values() if first)
        assert sorted(slots.heads()) == heads
        decision = slots.choose(now)
        if running is not None or not queued:
            assert decision is None
            continue
        assert decision is not None
        model, device = decision
        first = min(first for first in firsts.values() if first)
        assert (device, firsts[model]) == (0, first)
        assert slots.start(model, device) == first[1]
        del queued[first[1]]
        running = model
        met["started"] += 1
        if slots.head(model) is not None and rng.random() < 0.3:
            joined = slots.head(model)
            assert slots.join(model) == joined
            assert joined is not None
            del queued[joined]
            met["joined"] += 1
    assert min(met.values()) > 100
