"""The rules of a static deployment: models are loaded before time 0, stay, and nodes run nowhere else."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from reprlib import repr as shortened

import numpy as np

from gsched.checker.columns import RELATIVE
from gsched.checker.deployment import Instance
from gsched.checker.facts import Facts
from gsched.checker.problems import Problem, Problems, known, listed, plain
from gsched.checker.totals import agrees, utilization
from gsched.cluster import Cluster
from gsched.workload import Model


def find_misplaced(facts: Facts) -> Problems:
    """Find parts that make no sense, and rows that run where their model was not placed."""
    deployment = facts.deployment
    yield from map(plain, deployment.wrong)
    twice = [_text(instance) for instance, times in Counter(deployment.placement).items() if times > 1]
    yield listed("places a model twice on one gang", twice)
    if deployment.tells_where:
        wrong, names = np.flatnonzero(~facts.placed), facts.log.model_name
        yield Problem("runs where its model was not placed", wrong, lambda i: names.values[names.codes[i]])


def find_unfit(facts: Facts) -> Problems:
    """Find placed instances that no rule allows, and GPUs that do not hold what is placed on them."""
    models, cluster = known(facts.workload).config.models, known(facts.cluster)
    placement = facts.deployment.placement or ()
    wrong = [f"{_text(one)} {why}" for one in placement for why in _faults(one, models.get(one.model), cluster)]
    yield listed("the placement is impossible", wrong)
    taken: dict[int, float] = defaultdict(float)
    for instance in placement:
        if instance.model in models:
            for gpu in instance.gpu_ids:
                taken[gpu] += models[instance.model].memory_gb / models[instance.model].gpus_required
    room = cluster.gpu_memory_gb
    full = [f"GPU {gpu} of {room} GB holds {gb} GB" for gpu, gb in taken.items() if gb > room * (1 + RELATIVE)]
    yield listed("the placement does not fit the memory", full)


def _faults(instance: Instance, model: Model | None, cluster: Cluster) -> Iterator[str]:
    gpus, server = instance.gpu_ids, cluster.server_size
    if model is None:
        yield "is no model of the workload"
    elif len(gpus) != model.gpus_required:
        yield f"needs {model.gpus_required} GPUs"
    if gpus != tuple(range(gpus[0], gpus[0] + len(gpus))):
        yield "is not on GPUs that follow each other"
    if max(gpus) >= cluster.gpus:
        yield f"is outside the cluster (0 to {cluster.gpus - 1})"
    place = gpus[0] % server
    if place + len(gpus) > server if len(gpus) <= server else place > 0:
        yield f"is neither inside a server of {server} GPUs nor, if larger, begins with one"


def find_wrong_assignments(facts: Facts) -> Problems:
    """Find what is said of GPUs and servers and does not follow from the placement, the rows and the cluster."""
    yield listed("gpu_assignments is wrong", list(_of_gpus(facts)))
    yield listed("server_assignments is wrong", list(_of_servers(facts)))


def _of_gpus(facts: Facts) -> Iterator[str]:
    told, size, percent = facts.deployment.gpu_assignments or {}, known(facts.cluster).server_size, utilization(facts)
    models_on = facts.deployment.models_on
    for gpu in sorted(models_on.keys() - told.keys() if told else ()):
        yield f"it lacks GPU {gpu}"
    for gpu, given in told.items():
        models = models_on.get(gpu, frozenset())
        if gpu >= known(facts.cluster).gpus:
            yield f"it has GPU {gpu}, which the cluster has not"
            continue
        if given.server_id not in (None, gpu // size):
            yield f"GPU {gpu} is in server {gpu // size}, not {given.server_id}"
        if given.assigned_models != models:
            yield f"GPU {gpu} has {_names(models)}, not {_names(given.assigned_models)}"
        if given.utilization is not None and percent is not None and not agrees(given.utilization, percent[gpu]):
            yield f"GPU {gpu} is in use for {percent[gpu]} % of the makespan, not {given.utilization}"


def _of_servers(facts: Facts) -> Iterator[str]:
    told, cluster, models_on = facts.deployment.server_assignments, known(facts.cluster), facts.deployment.models_on
    if told is None:
        return
    size = cluster.server_size
    for server in range(-(-cluster.gpus // size)):
        gpus = list(range(server * size, min((server + 1) * size, cluster.gpus)))
        models = frozenset(model for gpu in gpus for model in models_on.get(gpu, ()))
        given = told.get(server)
        if given is None:
            yield f"it lacks server {server}"
            continue
        if given.gpu_ids != gpus:
            yield f"server {server} has GPUs {gpus[0]} to {gpus[-1]}, not {shortened(given.gpu_ids)}"
        if given.models != models and facts.deployment.tells_where:
            yield f"server {server} has {_names(models)}, not {_names(given.models)}"
    for server in sorted(server for server in told if server * size >= cluster.gpus):
        yield f"it has server {server}, which the cluster has not"


def _text(instance: Instance) -> str:
    return f"{instance.model} on {shortened(list(instance.gpu_ids))}"


def _names(models: frozenset[str]) -> str:
    return ", ".join(sorted(models)) or "no models"
