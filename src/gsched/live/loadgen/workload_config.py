"""The request classes, tiers times SLOs, and what they ask for."""

import math

# Importance of a request: 1 = VIP, 2 = Premium, 3 = Free
TIERS = [1, 2, 3]

# Latency targets in nanoseconds
SLO_LATENCY_NS = {"urgent": 100_000_000, "normal": 500_000_000, "relaxed": 2_000_000_000}

REQUEST_CLASSES = [(tier, slo) for tier in TIERS for slo in SLO_LATENCY_NS]

# Models of a class's requests, and how probable they are
MODEL_FOR_SLO = {
    "urgent": [("resnet50", 1.0)],
    "normal": [("resnet50", 0.7), ("vit", 0.3)],
    "relaxed": [("resnet50", 0.7), ("vit", 0.3)],
}

# Of the input of both models, 150,528 floats
INPUT_SHAPE = [1, 3, 224, 224]

# Shares of the total load, in the order of REQUEST_CLASSES
_SHARES = {
    "balanced": (0.05, 0.10, 0.15, 0.10, 0.15, 0.10, 0.10, 0.15, 0.10),
    "urgent_heavy": (0.20, 0.10, 0.05, 0.15, 0.10, 0.05, 0.15, 0.10, 0.10),
    "batch_heavy": (0.05, 0.05, 0.20, 0.05, 0.10, 0.20, 0.05, 0.10, 0.20),
}
WORKLOAD_DISTRIBUTIONS = {name: dict(zip(REQUEST_CLASSES, shares, strict=True)) for name, shares in _SHARES.items()}


def slo_of(seconds: float) -> str:
    """Return the SLO of a request that is due so many seconds after its arrival: the shortest that allows as much.

    `longer` where none does, `none` where it has no deadline.
    """
    if seconds == math.inf:
        return "none"
    return next((slo for slo, limit in SLO_LATENCY_NS.items() if seconds <= limit / 1e9), "longer")
