"""Synthetic workloads: arrivals, workflows, execution times and node configs drawn from a seed.

Each of these comes from a random stream of its own, named after what it decides, so that adding a model or a workflow
does not change the arrivals, and what one node draws does not change what another draws.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from gsched import __version__
from gsched.arrivals import LAST, YEARS, Process, Profile, draw_arrivals
from gsched.errors import InputError, Problems
from gsched.urgency import Deadlines, Tiers, check_tiers, deadlines_of, tier_figures
from gsched.workload import Config, Floats, Ints, Longs, Model, Node, Workflow, Workload

if TYPE_CHECKING:
    import pyarrow as pa

    Parts = Sequence[str | pa.Array]  # of a text per request: what all share, and columns of what differs

START = "2024-01-01T10:00:00"
SHORTEST = 0.01  # of `inference_time_mean`: a normal draw below is raised to it, as times are positive
MOST_REQUESTS = 100_000_000  # nodes are counted in 32 bits

# What nodes ask for by these names where the model's config does not list values of its own.
USUAL_VALUES: Mapping[str, tuple[Any, ...]] = {
    "width": (512, 768, 1024),
    "height": (512, 768, 1024),
    "steps": (20, 30, 50),
    "num_inference_steps": (20, 30, 50),
    "guidance_scale": (5.0, 7.5, 10.0),
    "max_length": (128, 256, 512),
    "max_tokens": (128, 256, 512),
    "temperature": (0.2, 0.7, 1.0),
    "top_p": (0.9, 0.95, 1.0),
    "top_k": (20, 40, 50),
}


def generate(
    config: Config,
    requests: int = 500,
    duration: float = 20.0,
    *,
    seed: int,
    start: str = START,
    arrivals: Process = "poisson",
    burstiness: float = 1.0,
    profile: Profile | None = None,
    weights: Mapping[str, float] | None = None,
    tiers: Tiers | None = None,
    deadlines: Deadlines | None = None,
) -> Workload:
    """Draw a workload: the same arguments always give the same one.

    Args:
        config: models and workflows. Models need a profile: `tokens_per_second` and `token_mean`, or
            `inference_time_mean`.
        requests: number of requests.
        duration: minutes over which they arrive.
        seed: any integer that is not negative.
        start: time from which arrivals count, ISO 8601; UTC unless it names another zone.
        arrivals: `poisson`, `uniform` (evenly spaced) or `gamma`.
        burstiness: coefficient of variation of the gaps between `gamma` arrivals.
        profile: pairs of a minute and the relative rate from then on; see `gsched.arrivals.draw_arrivals`.
        weights: relative frequency of workflows by id, in place of their `weight` in the config.
        tiers: relative frequency of tiers; without them, all requests are of tier 1.
        deadlines: deadlines by tier: `30s`, `2x` the request's critical path, their sum `10s+2x`, or `none`, as of the
            tiers that are left out.

    Returns:
        A workload with the `details` columns `input_data`, `node_configs` and `metadata`, and arrivals in ascending
        order, rounded to the microsecond. Execution times are rounded to the nanosecond.

    Raises:
        InputError: an argument makes no sense, or a workflow cannot be drawn from the config.
    """
    _check_numbers(requests, duration, seed)
    first = _nanoseconds(start, duration)
    share = _shares(config, weights)
    tiers = {1: 1.0} if tiers is None else dict(sorted(tiers.items()))
    check_tiers(tiers)
    _check_nodes(config, share)
    minutes = draw_arrivals(requests, duration, _stream(seed, "arrivals"), arrivals, burstiness, profile)
    timestamp = first + np.rint(minutes * 60e6).astype(np.int64) * 1000
    workflow = _draw(share, requests, _stream(seed, "workflows"))
    duration_of, details, critical_path = _draw_nodes(config, workflow, seed)
    tier = np.array(list(tiers), np.int32)[_draw(tiers, requests, _stream(seed, "tiers"))]
    deadline = deadlines_of(deadlines or {}, tiers, tier, critical_path)
    width = max(4, len(str(requests - 1)))
    request_ids = _texts(["req_", _numbers(np.arange(requests), width)], requests).to_pylist()
    return Workload(
        config,
        request_ids,
        workflow,
        timestamp,
        duration_of,
        details,
        deadline=deadline if np.isfinite(deadline).any() else None,
        tier=tier if (tier != 1).any() else None,
    )


def _stream(seed: int, *names: str) -> np.random.Generator:
    """Return the random stream of a name. `hash()` would differ from process to process."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, int.from_bytes(digest[:16], "little")])))


def _check_numbers(requests: int, duration: float, seed: int) -> None:
    if not 1 <= requests <= MOST_REQUESTS:
        message = f"must be between 1 and {MOST_REQUESTS:,}, not {requests:,}"
        raise InputError.one("requests", "", message, "for example 500")
    if not 0 < duration < math.inf:
        message = f"must be a positive number of minutes, not {duration}"
        raise InputError.one("duration", "", message, "for example 20")
    if seed < 0:
        raise InputError.one("seed", "", f"must not be negative, but is {seed}", "for example 42")


def _nanoseconds(start: str, duration: float) -> int:
    """Return a time in nanoseconds since 1970, UTC, if the arrivals that follow it can be counted so too."""
    try:
        moment = datetime.fromisoformat(start)
    except ValueError:
        message = f"{start!r} is not a date and time"
        raise InputError.one("start", "", message, f"for example {START}, or {START}+02:00") from None
    moment = moment.replace(tzinfo=moment.tzinfo or UTC)
    nanoseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    if nanoseconds < 0 or nanoseconds + duration * 60e9 >= LAST:
        hint = "start later or earlier, or shorten the duration"
        raise InputError.one("start", "", f"arrivals must lie in the years {YEARS}", hint)
    return nanoseconds


def parse_weights(text: str) -> dict[str, float]:
    """Read weights of workflows such as `workflow1=3,workflow2=1`.

    Raises:
        InputError: the text is not a list of WORKFLOW=WEIGHT, or names a workflow twice.
    """
    hint = "for example workflow1=3,workflow2=1"
    try:
        pairs = [part.strip().rsplit("=", 1) for part in text.split(",")]
        weights = {name: float(weight) for name, weight in pairs}
    except ValueError:
        raise InputError.one("weights", "", f"{text!r} is not a list of WORKFLOW=WEIGHT", hint) from None
    if len(weights) < len(pairs):
        raise InputError.one("weights", "", f"{text!r} names a workflow twice", hint)
    return weights


def _shares(config: Config, weights: Mapping[str, float] | None) -> dict[str, float]:
    """Return how often each workflow is drawn, relative to the others."""
    weights = weights or {}
    if unknown := sorted(weights.keys() - config.workflows.keys()):
        hint = f"the config has {', '.join(config.workflows)}"
        raise InputError.one("weights", "", f"no such workflow: {', '.join(map(repr, unknown))}", hint)
    share = {name: weights.get(name, workflow.weight) for name, workflow in config.workflows.items()}
    for name, weight in share.items():
        if not 0 <= weight < math.inf:
            raise InputError.one(
                "weights", name, f"must be a number that is not negative, not {weight}", "for example 1"
            )
    if not any(share.values()):
        raise InputError.one("weights", "", "no workflow has a weight above 0", "give one of them the weight 1")
    return share


def _check_nodes(config: Config, share: Mapping[str, float]) -> None:
    """Raise an `InputError` with every node whose execution time or config could only be guessed."""
    problems = Problems("config")
    for workflow in config.workflows.values():
        for node in workflow.nodes if share[workflow.id] else ():
            place = f"workflows.{workflow.id}.nodes.{node.id}"
            model = config.models[node.model]
            if model.mean_duration is None:
                fields = "tokens_per_second and token_mean, or inference_time_mean,"
                problems.error(place, f"model {model.id} has no execution time profile", f"add {fields} to the model")
            for option in node.config_options:
                if not _values(model, option):
                    hint = f"list them under models.{model.id}.config.{option}"
                    problems.error(place, f"no values are known for the config option {option}", hint)
    problems.raise_found()


def _values(model: Model, option: str) -> Sequence[Any]:
    """Return the values from which a config option is drawn: the model's own, else the usual ones."""
    values = model.config.get(option, USUAL_VALUES.get(option, ()))
    return values if isinstance(values, list | tuple) else (values,)


def _draw(share: Mapping[Any, float], requests: int, rng: np.random.Generator) -> Ints:
    """Return positions in `share`, each as often as it says."""
    weights = np.array(list(share.values())) / max(share.values())  # scaled first, as huge ones overflow in the sum
    return rng.choice(len(weights), requests, p=weights / weights.sum()).astype(np.int32)


def _draw_nodes(config: Config, workflow: Ints, seed: int) -> tuple[Floats, "dict[str, pa.Array]", Floats]:
    """Return the execution times of all nodes, the `details` columns and the critical paths of the requests."""
    import pyarrow as pa

    flows = tuple(config.workflows.values())
    first = np.concatenate([[0], np.cumsum(np.array([len(flow.nodes) for flow in flows])[workflow])])
    times, critical_path = np.empty(first[-1]), np.empty(len(workflow))
    rows = [np.flatnonzero(workflow == position) for position in range(len(flows))]
    columns: dict[str, list[pa.Array]] = {"input_data": [], "node_configs": [], "metadata": []}
    for flow, members in zip(flows, rows, strict=True):
        drawn = [_draw_times(config.models[node.model], len(members), seed, flow, node) for node in flow.nodes]
        for position, column in enumerate(drawn):
            times[first[members] + position] = column
        critical_path[members] = _critical_path(flow, drawn)
        columns["input_data"].append(_texts(_input_data(flow, members), len(members)))
        columns["node_configs"].append(_texts(_node_configs(config, flow, len(members), seed), len(members)))
        metadata = _metadata(config, flow, drawn, critical_path[members])
        columns["metadata"].append(_texts(metadata, len(members)))
    place = pa.array(np.argsort(np.concatenate(rows)))
    return times, {name: pa.concat_arrays(parts).take(place) for name, parts in columns.items()}, critical_path


def _draw_times(model: Model, count: int, seed: int, workflow: Workflow, node: Node) -> Floats:
    """Return `count` execution times of a node in seconds."""
    rng = _stream(seed, "duration", workflow.id, node.id)
    if model.tokens_per_second is not None and model.token_mean is not None:
        tokens = np.rint(rng.normal(model.token_mean, model.token_std, count))
        times: Floats = np.maximum(tokens, 1.0) / model.tokens_per_second
    else:
        assert model.inference_time_mean is not None, "_check_nodes has seen to it"
        drawn = rng.normal(model.inference_time_mean, model.inference_time_std, count)
        times = np.maximum(drawn, SHORTEST * model.inference_time_mean)
    return times.round(9)


def _input_data(workflow: Workflow, requests: Longs) -> "Parts":
    """Return a made-up text for each input of the workflow that none of its nodes produces."""
    produced = {output for node in workflow.nodes for output in node.outputs}
    inputs = dict.fromkeys(name for node in workflow.nodes for name in node.inputs if name not in produced)
    numbers = _numbers(requests)
    samples = {name: f"Sample {name.removeprefix('user_').replace('_', ' ')} for request " for name in inputs}
    return _object({name: [json.dumps(sample)[:-1], numbers, '"'] for name, sample in samples.items()})


def _node_configs(config: Config, workflow: Workflow, count: int, seed: int) -> "Parts":
    """Return a value for each config option of each node that has any, drawn uniformly."""
    import pyarrow as pa

    configs: dict[str, Parts] = {}
    for node in workflow.nodes:
        options: dict[str, Parts] = {}
        for option in node.config_options:
            values = _values(config.models[node.model], option)
            drawn = _stream(seed, "config", workflow.id, node.id, option).integers(len(values), size=count)
            options[option] = [pa.array(map(json.dumps, values), pa.large_string()).take(pa.array(drawn))]
        if options:
            configs[node.id] = _object(options)
    return _object(configs)


def _critical_path(workflow: Workflow, times: Sequence[Floats]) -> Floats:
    """Return how long requests take without waiting or switching, given the times of each node."""
    ends: dict[int, Floats] = {}
    for node in workflow.order:
        begin = np.max([ends[parent] for parent in workflow.parents[node]], axis=0, initial=0.0)
        ends[node] = begin + times[node]
    longest: Floats = np.max([*ends.values()], axis=0)
    return longest


def _metadata(config: Config, workflow: Workflow, times: Sequence[Floats], critical_path: Floats) -> "Parts":
    """Return the base models in the order of their first use, and the request's time without waiting or switching."""
    models = [config.models[workflow.nodes[node].model] for node in workflow.order]
    bases = list(dict.fromkeys(model.base_model or model.id for model in models))
    totals = {"total_estimated_time": np.sum(times, axis=0), "critical_path_time": critical_path}
    columns = {name: [_numbers(np.round(seconds, 9))] for name, seconds in totals.items()}
    return _object({"base_models_used": [json.dumps(bases)], **columns})


def _object(members: "Mapping[str, Parts]") -> "Parts":
    """Return the parts of a JSON object, given the parts of its values."""
    parts: list[str | pa.Array] = []
    for key, value in members.items():
        parts += [", " if parts else "", json.dumps(key) + ": ", *value]
    return ["{", *parts, "}"]


def _numbers(values: Floats | Longs, width: int = 0) -> "pa.Array":
    """Return numbers as texts in the fewest digits that tell them apart, padded with zeros to `width`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.utf8_lpad(pa.array(values).cast(pa.large_string()), width, "0")


def _texts(parts: "Parts", count: int) -> "pa.Array":
    """Return `count` texts, each made of the parts in order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = pa.large_string()  # its offsets have 64 bits: all texts together may pass 2 GB
    columns = [pa.scalar(part, kind) if isinstance(part, str) else part for part in parts]
    texts = pc.binary_join_element_wise(*columns, pa.scalar("", kind))
    return texts if isinstance(texts, pa.Array) else pa.repeat(texts, count)


def statistics(workload: Workload, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was generated in figures; nothing in them depends on the clock or the machine.

    Args:
        workload: what `generate` returned.
        arguments: what `generate` was called with; `duration` is needed for the requested rate.

    Returns:
        Totals, requested and realised duration (minutes) and rate (requests a minute; None for fewer than two different
        timestamps), requests by workflow and, where any has a tier or deadline, by tier, GPU-hours by model and by
        type of model, executions by base model, and under `generation` the arguments, first and last timestamp and the
        version of gsched.
    """
    first, last = int(workload.timestamp.min()), int(workload.timestamp.max())
    requests, duration, realised = workload.request_count, float(arguments["duration"]), (last - first) / 60e9
    counts = np.bincount(workload.workflow, minlength=len(workload.workflows)).tolist()
    return {
        "total_requests": requests,
        "total_nodes": workload.node_count,
        "requested_duration_minutes": duration,
        "realised_duration_minutes": realised,
        "requested_rate_per_minute": round(requests / duration, 6),
        "realised_rate_per_minute": round((requests - 1) / realised, 6) if realised else None,
        "workflows": {
            flow.id: {"requests": count, "percent": round(100 * count / requests, 2)}
            for flow, count in zip(workload.workflows, counts, strict=True)
        },
        "tiers": tier_figures(workload),
        **_usage(workload),
        "generation": {
            "gsched_version": __version__,
            **arguments,
            "first_timestamp": _iso(first),
            "last_timestamp": _iso(last),
        },
    }


def _usage(workload: Workload) -> dict[str, Any]:
    """Return GPU-hours and executions, summed over the models of one name, type or base."""
    seconds = np.bincount(workload.model, workload.duration, len(workload.models))
    executions = np.bincount(workload.model, minlength=len(workload.models)).tolist()
    by_model: dict[str, float] = {}
    by_type: dict[str, float] = {}
    by_base: dict[str, int] = {}
    for model, time, count in zip(workload.models, seconds.tolist(), executions, strict=True):
        hours = time * model.gpus_required / 3600
        kind, base = model.type or "unspecified", model.base_model or model.id
        by_model[model.id] = hours
        by_type[kind] = by_type.get(kind, 0.0) + hours
        by_base[base] = by_base.get(base, 0) + count
    return {
        "estimated_gpu_hours": {
            "total": round(sum(by_model.values()), 6),
            "by_model": {model: round(hours, 6) for model, hours in by_model.items()},
            "by_model_type": {kind: round(hours, 6) for kind, hours in by_type.items()},
        },
        "base_model_usage": by_base,
    }


def _iso(nanoseconds: int) -> str:
    return str(np.datetime64(nanoseconds, "ns").astype("datetime64[us]"))
