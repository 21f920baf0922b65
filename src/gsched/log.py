"""The execution log: one row per executed node, in the order of the decisions, and a summary derived from the rows."""

import json
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gsched.cluster import Cluster
from gsched.workload import Floats, Ints, Longs

if TYPE_CHECKING:
    import pandas
    import pyarrow


TEXTS = ("request_id", "workflow_id", "node_id", "model_name")
TIMES = ("start_time", "end_time", "execution_time", "estimated_time", "switch_time", "ready_time", "waiting_time")
COLUMNS = (*TEXTS, "gpu_id", "gpu_ids", *TIMES)
SUMMARY_KEY = b"gsched.summary"


class Labels(NamedTuple):
    """A text column of n values: `values[codes[i]]` is the text of row i."""

    codes: Ints
    values: Sequence[str]

    def texts(self) -> list[str]:
        """Return the text of every row."""
        values = self.values
        return [values[code] for code in self.codes.tolist()]

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Labels":
        """Return `texts` with each distinct text, in order of appearance, held once."""
        position: dict[str, int] = {}
        codes = np.fromiter((position.setdefault(text, len(position)) for text in texts), np.int32, len(texts))
        return cls(codes, list(position))


class Gangs(NamedTuple):
    """A column of n lists of GPUs: `gpus[first[i]:first[i + 1]]` is the gang of row i."""

    first: Longs
    gpus: Ints

    @property
    def sizes(self) -> Longs:
        """Number of GPUs of each row."""
        return np.diff(self.first)

    @classmethod
    def consecutive(cls, first_gpu: Ints, size: Ints) -> "Gangs":
        """Return gangs of `size` GPUs that begin at `first_gpu`."""
        first = np.concatenate([[0], np.cumsum(size, dtype=np.int64)])
        gpus = np.repeat((first_gpu - first[:-1]).astype(np.int32), size)
        gpus += np.arange(len(gpus), dtype=np.int32)
        return cls(first, gpus)


@dataclass(frozen=True)
class Log:
    """The facts of a run: n rows and a summary. Times are in seconds from the start of the run.

    A column that a foreign log lacks is None; gsched's own logs have all of them.

    Args:
        request_id, workflow_id, node_id, model_name: what was executed.
        gpu_id: first GPU of the gang, shape (n,).
        start_time, end_time: when it executed (loading comes before `start_time`), shape (n,).
        execution_time: `end_time - start_time`.
        gpu_ids: the gang.
        estimated_time: seconds that the execution was expected to take.
        switch_time: seconds that the gang was occupied by loading, before `start_time`.
        ready_time: when the request had arrived and all parents had ended.
        waiting_time: `start_time - switch_time - ready_time`.
        summary: totals, as in the file.
        extra: further top-level parts of the file, such as a static placement.
    """

    request_id: Labels
    workflow_id: Labels | None
    node_id: Labels
    model_name: Labels
    gpu_id: Ints
    start_time: Floats
    end_time: Floats
    execution_time: Floats | None = None
    gpu_ids: Gangs | None = None
    estimated_time: Floats | None = None
    switch_time: Floats | None = None
    ready_time: Floats | None = None
    waiting_time: Floats | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.gpu_id)

    @property
    def cluster(self) -> Cluster | None:
        """The cluster that the summary describes, or None where it does not.

        Raises:
            TypeError, ValueError: it makes no sense.
        """
        stated = self.cluster_fields
        return Cluster(**stated) if "gpus" in stated else None

    @property
    def cluster_fields(self) -> dict[str, Any]:
        """What the summary says of the cluster, right or wrong, by argument of `Cluster`."""
        stated = {f.name: self.summary[f.name] for f in fields(Cluster) if f.name in self.summary}
        gpus = stated.pop("gpus", None)
        if isinstance(gpus, Sized):
            gpus = len(gpus)
        return stated | {"gpus": gpus} if gpus else stated

    def to_arrow(self) -> "pyarrow.Table":
        """Return the rows as an Arrow table, with the columns of the file and the summary in its metadata."""
        import pyarrow as pa

        columns: dict[str, Any] = {}
        for name in COLUMNS:
            column = getattr(self, name)
            if isinstance(column, Labels):
                columns[name] = pa.DictionaryArray.from_arrays(column.codes, pa.array(column.values, pa.string()))
            elif isinstance(column, Gangs):
                columns[name] = pa.ListArray.from_arrays(pa.array(column.first, pa.int32()), column.gpus)
            elif column is not None:
                columns[name] = column
        return pa.table(columns, metadata={SUMMARY_KEY: json.dumps({"summary": dict(self.summary), **self.extra})})

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the rows as a pandas data frame; pandas must be installed."""
        return self.to_arrow().to_pandas()
