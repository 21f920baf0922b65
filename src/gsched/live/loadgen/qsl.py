"""The query sample library: LoadGen wants one, but every request makes its own input."""

from typing import Any

TOTAL_SAMPLES = 1000
PERF_SAMPLE_COUNT = 500


def make_qsl() -> Any:
    """Return a LoadGen `QuerySampleLibrary` of samples that need no loading."""
    import mlperf_loadgen as lg

    def nothing(_indices: list[int]) -> None:
        pass

    return lg.ConstructQSL(TOTAL_SAMPLES, PERF_SAMPLE_COUNT, nothing, nothing)
