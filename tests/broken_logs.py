"""A corpus of broken logs: what is no execution log, and logs that break a rule."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from broken import Broken, Content, model_config
from broken_files import cut, parquet

ROWS: list[dict[str, object]] = [
    {
        **{
            "request_id": "r0",
            "workflow_id": "chain",
            "node_id": "a",
            "model_name": "llm",
            "gpu_id": 0,
            "gpu_ids": [0],
        },
        **{"start_time": 4.0, "end_time": 5.5, "execution_time": 1.5, "estimated_time": 1.5, "switch_time": 4.0},
        **{"ready_time": 0.0, "waiting_time": 0.0},
    },
    {
        **{
            "request_id": "r1",
            "workflow_id": "chain",
            "node_id": "a",
            "model_name": "llm",
            "gpu_id": 1,
            "gpu_ids": [1],
        },
        **{"start_time": 4.0, "end_time": 4.5, "execution_time": 0.5, "estimated_time": 0.5, "switch_time": 4.0},
        **{"ready_time": 0.0, "waiting_time": 0.0},
    },
]
SUMMARY: dict[str, object] = {"mode": "offline", "gpus": [0, 1], "makespan": 5.5, "total_nodes_executed": 2}


def log(summary: Mapping[str, object] = {}, *, without: str = "", **first: object) -> str:
    """A valid log of two rows, with changes to its summary and its first row, and without one field of that."""
    row = {name: value for name, value in (ROWS[0] | first).items() if name != without}
    return json.dumps({"summary": SUMMARY | summary, "executions": [row, ROWS[1]]})


def deployed(**parts: object) -> str:
    """A valid log with parts that tell of a deployment."""
    return json.dumps({"summary": SUMMARY, "executions": ROWS, **parts})


def parquet_log(without: str = "", summary: object = SUMMARY, **columns: object) -> Callable[[Path], None]:
    """The valid log as Parquet, with some columns changed."""
    table = {name: [row[name] for row in ROWS] for name in ROWS[0]} | columns
    head = {"gsched.summary": json.dumps({"summary": summary})}
    kept = {name: column for name, column in table.items() if name != without}
    return lambda path: pq.write_table(pa.table(kept).replace_schema_metadata(head), path)


def no_log(content: Content | None, expected: str, name: str = "log.json") -> Broken:
    """What is not an execution log."""
    return Broken((f"error: {name}: {expected}",), {name: content}, ("check", name))


_NOT = "is not an execution log: "

NO_LOGS: dict[str, Broken] = {
    "absent": no_log(None, "no such file; check the path"),
    "a folder": no_log(Path.mkdir, "is a folder; name a file in it"),
    "empty": no_log("", f"{_NOT}Expecting value"),
    "not JSON": no_log("a text", f"{_NOT}Expecting value: line 1 column 1 (char 0); see docs/formats.md"),
    "cut off": no_log(log()[:200], f"{_NOT}Expecting value: line 1 column 201 (char 200); see docs"),
    "nested deeply": no_log("[" * 100_000, f"{_NOT}Expected `object`, got `array`"),
    "summary nested deeply": no_log(
        log().replace('"mode": "offline"', f'"x": {"[" * 5000}{"]" * 5000}'), f"{_NOT}maximum recursion depth exceeded"
    ),
    "not UTF-8": no_log(log().replace("r0", "ré").encode("latin-1"), f"{_NOT}"),
    "half a surrogate pair": no_log(log(request_id="\ud800"), f"{_NOT}"),
    "a list": no_log("[]", f"{_NOT}Expected `object`, got `array`; see docs/formats.md"),
    "a config": no_log(model_config(), f"{_NOT}Object missing required field `executions`; see docs/formats.md"),
    "no rows given": no_log('{"summary": {}}', f"{_NOT}Object missing required field `executions`; see docs"),
    "summary a list": no_log(
        '{"summary": [], "executions": []}', f"{_NOT}Expected `object`, got `array` - at `$.summary`"
    ),
    "rows null": no_log(
        '{"summary": {}, "executions": null}', f"{_NOT}Expected `array`, got `null` - at `$.executions`"
    ),
    "row null": no_log(
        '{"summary": {}, "executions": [null]}', f"{_NOT}Expected `object`, got `null` - at `$.executions[0]"
    ),
    "node_id missing": no_log(
        log(without="node_id"), f"{_NOT}Object missing required field `node_id` - at `$.executions[0]"
    ),
    "gpu_id missing": no_log(
        log(without="gpu_id"), f"{_NOT}Object missing required field `gpu_id` - at `$.executions[0]"
    ),
    "end_time missing": no_log(log(without="end_time"), f"{_NOT}Object missing required field `end_time` - at `$.exec"),
    "end_time null": no_log(log(end_time=None), f"{_NOT}Expected `float`, got `null` - at `$.executions[0].end_time`"),
    "end_time a text": no_log(
        log(end_time="5.5"), f"{_NOT}Expected `float`, got `str` - at `$.executions[0].end_time`"
    ),
    "end_time a boolean": no_log(
        log(end_time=True), f"{_NOT}Expected `float`, got `bool` - at `$.executions[0].end_time`"
    ),
    "request_id a number": no_log(
        log(request_id=7), f"{_NOT}Expected `str`, got `int` - at `$.executions[0].request_id`"
    ),
    "gpu_id a fraction": no_log(log(gpu_id=0.5), f"{_NOT}Expected `int`, got `float` - at `$.executions[0].gpu_id`"),
    "gpu_id of 32 bits": no_log(log(gpu_id=2**31), f"{_NOT}Expected `int` <= 2147483647 - at `$.executions[0].gpu_id`"),
    "gpu_id of 400 digits": no_log(log(gpu_id=10**400), f"{_NOT}"),
    "gpu_ids of 32 bits": no_log(
        log(gpu_ids=[2**31]), f"{_NOT}Expected `int` <= 2147483647 - at `$.executions[0].gpu_ids[0]"
    ),
    "gpu_ids a number": no_log(
        log(gpu_ids=0), f"{_NOT}Expected `array | null`, got `int` - at `$.executions[0].gpu_ids`"
    ),
    "gpu_ids of one row only": no_log(
        log(without="gpu_ids"), f"{_NOT}executions[0].gpu_ids is missing, other rows have it; see docs/formats.md"
    ),
    "switch_time null in one row": no_log(
        log(switch_time=None), f"{_NOT}executions[0].switch_time is missing, other rows have it; see docs/formats.md"
    ),
    "Parquet, cut off": no_log(cut(parquet_log()), _NOT, "log.parquet"),
    "Parquet, its first bytes alone": no_log(b"PAR1", _NOT, "log.parquet"),
    "Parquet of requests": no_log(
        parquet(), f"{_NOT}it has no column node_id, or two; see docs/formats.md", "log.parquet"
    ),
    "Parquet without gpu_id": no_log(
        parquet_log("gpu_id"), f"{_NOT}it has no column gpu_id, or two; see docs/formats.md", "log.parquet"
    ),
    "Parquet with null cells": no_log(
        parquet_log(start_time=[None, 1.0]), f"{_NOT}column start_time has 1 empty cells; see docs", "log.parquet"
    ),
    "Parquet with a null column": no_log(
        parquet_log(node_id=pa.array([None, None], "string")), f"{_NOT}column node_id has 2 empty cells", "log.parquet"
    ),
    "Parquet with times as texts": no_log(
        parquet_log(start_time=["4", "4"]), f"{_NOT}column start_time must hold numbers, not string", "log.parquet"
    ),
    "Parquet with ids as numbers": no_log(
        parquet_log(request_id=[0, 1]), f"{_NOT}column request_id must hold texts, not int64; see docs", "log.parquet"
    ),
    "Parquet with fractions of GPUs": no_log(
        parquet_log(gpu_id=[0.5, 1.0]),
        f"{_NOT}column gpu_id must hold whole numbers, not double; see docs",
        "log.parquet",
    ),
    "Parquet with a GPU of 40 bits": no_log(
        parquet_log(gpu_id=[2**40, 1]), f"{_NOT}Integer value 1099511627776 not in range", "log.parquet"
    ),
    "Parquet with a null GPU": no_log(
        parquet_log(gpu_ids=[[None], [1]]),
        f"{_NOT}column gpu_ids must hold whole numbers, not int64; see",
        "log.parquet",
    ),
    "Parquet with gangs as numbers": no_log(
        parquet_log(gpu_ids=[0, 1]), f"{_NOT}column gpu_ids must hold lists, not int64; see docs", "log.parquet"
    ),
    "Parquet with gangs of texts": no_log(
        parquet_log(gpu_ids=[["0"], ["1"]]), f"{_NOT}column gpu_ids must hold whole numbers, not string", "log.parquet"
    ),
    "Parquet with a list as summary": no_log(
        parquet_log(summary=[1]), f"{_NOT}Expected `object`, got `array`; see docs/formats.md", "log.parquet"
    ),
}

# logs that break a rule: their file, and words of the findings
INVALID_LOGS: dict[str, tuple[Content, str]] = {
    "gang empty": (log(gpu_ids=[]), "gang: has no GPUs: row 0 (request r0, node a): gpu_ids is empty"),
    "GPU negative": (log(gpu_id=-1, gpu_ids=[-1]), "gpus: runs on a GPU outside the cluster (0 to 1): row 0"),
    "GPU negative, all bits": (log(gpu_id=-(2**31), gpu_ids=[-(2**31)]), "gpus: runs on a GPU outside the cluster"),
    "GPU huge": (log(gpu_id=10**9, gpu_ids=[10**9]), "gpus: runs on a GPU outside the cluster (0 to 1): row 0"),
    "GPU largest": (log(gpu_id=2**31 - 1, gpu_ids=[2**31 - 1, 0]), "gpus: runs on a GPU outside the cluster"),
    "gang not at gpu_id": (log(gpu_id=0, gpu_ids=[1]), "gang: gpu_ids is not gpu_id and the GPUs that follow it"),
    "time NaN": (log(start_time=float("nan")), "times: start_time is not a finite number: row 0"),
    "time infinite": (log(end_time=float("inf")), "times: end_time is not a finite number: row 0"),
    "time minus infinite": (log(start_time=float("-inf")), "times: start_time is not a finite number: row 0"),
    "time huge": (log(end_time=1.7e308), "execution_time: execution_time is not end_time - start_time"),
    "time negative": (log(start_time=-4.0), "times: start_time is negative: row 0"),
    "switch time negative": (log(switch_time=-4.0), "times: switch_time is negative: row 0"),
    "ends before it starts": (log(end_time=1.0), "times: ends before it starts: row 0"),
    "executed twice": (log(request_id="r1"), "doubled: executes a node that an earlier row executes: row 1"),
    "makespan a text": (log({"makespan": "long"}), "summary: makespan is 'long', the rows give 5.5"),
    "makespan NaN": (log({"makespan": float("nan")}), "summary: makespan is nan, the rows give 5.5"),
    "makespan of 400 digits": (log({"makespan": 10**400}), "summary: makespan is"),
    "makespan null": (log({"makespan": None, "total_nodes_executed": True}), "summary: total_nodes_executed is True"),
    "bound a list": (log({"lower_bound": []}), "bound: lower_bound is [], not a number"),
    "bound beaten": (log({"lower_bound": 6.0}), "bound: the rows give a makespan of 5.5, below the lower_bound of 6.0"),
    "mode unknown": (log({"mode": "live"}), "summary: mode is 'live', neither 'offline' nor 'online'"),
    "mode a list": (log({"mode": ["offline"]}), "summary: mode is ['offline'], neither 'offline' nor 'online'"),
    "gpus too few": (log({"gpus": 1}), "gpus: runs on a GPU outside the cluster (0 to 0): row 1"),
    "gpus negative": (log({"gpus": -4}), "summary: the summary does not describe a cluster"),
    "gpus a fraction": (log({"gpus": 4.0}), "summary: the summary does not describe a cluster"),
    "gpus a boolean": (log({"gpus": True}), "summary: gpus is True, not 0 to 0"),
    "gpus a text": (log({"gpus": "0,1"}), "summary: gpus is '0,1', not 0 to 2"),
    "gpus a mapping": (log({"gpus": {"0": 1}}), "summary: gpus is {'0': 1}, not 0 to 0"),
    "gpus of lists": (log({"gpus": [[0], [1]]}), "summary: gpus is [[0], [1]], not 0 to 1"),
    "gpus with gaps": (log({"gpus": [0, 2]}), "summary: gpus is [0, 2], not 0 to 1"),
    "server a text": (log({"gpus_per_server": "2"}), "summary: the summary does not describe a cluster"),
    "server a fraction": (log({"gpus_per_server": 1.5}), "summary: the summary does not describe a cluster"),
    "server empty": (log({"gpus_per_server": 0}), "summary: the summary does not describe a cluster"),
    "bandwidth NaN": (log({"pcie_bandwidth": float("nan")}), "summary: the summary does not describe a cluster"),
    "bandwidth of 400 digits": (log({"pcie_bandwidth": 10**400}), "summary: the summary does not describe a cluster"),
    "bandwidth null": (log({"pcie_bandwidth": None}), "summary: the summary does not describe a cluster"),
    "residency unknown": (log({"residency": "both"}), "summary: the summary does not describe a cluster"),
    "residency a list": (log({"residency": ["shared"]}), "summary: the summary does not describe a cluster"),
    "placement a text": (deployed(placement="llm"), "placement: placement makes no sense: Expected `array`, got `str`"),
    "placement of nulls": (deployed(placement=[None]), "placement: placement makes no sense: Expected `object`"),
    "placement of a GPU of 400 digits": (
        deployed(placement=[{"model": "llm", "gpu_ids": [10**400]}]),
        "placement: placement makes no sense",
    ),
    "placement of NaN": (
        deployed(placement=[{"model": "llm", "gpu_ids": [float("nan")]}]),
        "placement: placement makes no sense",
    ),
    "placement elsewhere": (
        deployed(placement=[{"model": "llm", "gpu_ids": [1]}]),
        "placement: runs where its model was not placed: row 0 (request r0, node a): llm",
    ),
    "placement empty": (deployed(placement=[]), "placement: runs where its model was not placed: row 0"),
    "assignments a list": (
        deployed(gpu_assignments=[]),
        "placement: gpu_assignments makes no sense: Expected `object`",
    ),
    "assignments to a GPU without number": (
        deployed(gpu_assignments={"GPU 0": {"assigned_models": ["llm"]}}),
        "placement: gpu_assignments makes no sense",
    ),
    "assignments nested deeply": (
        deployed().replace("{", f'{{"gpu_assignments": {"[" * 200}{"]" * 200}, ', 1),
        "placement: gpu_assignments makes no sense",
    ),
    "servers a number": (deployed(server_assignments=4), "placement: server_assignments makes no sense: Expected"),
    "servers of other GPUs": (
        deployed(server_assignments={"0": {"gpu_ids": [1], "models": []}}),
        "assignments: server_assignments is wrong: server 0 has GPUs 0 to 1, not [1]",
    ),
    "failures a number": (deployed(failures=3), "failures: failures makes no sense: Expected `array`, got `int`"),
    "failure without a node": (
        deployed(failures=[{"request_id": "r9"}]),
        "failures: failures makes no sense: Object missing required field `node_id` - at `$[0]`",
    ),
    "interruptions an object": (
        deployed(interruptions={}),
        "interruptions: interruptions makes no sense: Expected `array`, got `object`",
    ),
    "interruption NaN": (
        deployed(interruptions=[{"gpu_ids": [0], "start_time": float("nan"), "end_time": None, "reason": "lost"}]),
        "interruptions: times of interruptions make no sense: those of GPU 0 from nan to inf (lost) are not finite",
    ),
    "interruption of 400 digits": (
        deployed(interruptions=[{"gpu_ids": [0], "start_time": 10**400, "end_time": None, "reason": "lost"}]),
        "interruptions: interruptions makes no sense",
    ),
    "interruption of a GPU in use": (
        deployed(interruptions=[{"gpu_ids": [0], "start_time": 5.0, "end_time": None, "reason": "lost"}]),
        "interruptions: has a GPU that is not to be had: row 0 (request r0, node a): GPU 0 from 5.0 to inf (lost)",
    ),
    "partial a number": (log({"partial": 1}), "summary: partial is 1, not true or false"),
    "estimator unknown": (log({"estimator": "oracle"}), "summary: estimator is 'oracle', none of recorded, profile"),
    "Parquet, time NaN": (
        parquet_log(start_time=[float("nan"), 4.0]),
        "times: start_time is not a finite number: row 0",
    ),
    "Parquet, GPU huge": (parquet_log(gpu_id=[10**9, 1]), "gpus: runs on a GPU outside the cluster (0 to 1): row 0"),
}
