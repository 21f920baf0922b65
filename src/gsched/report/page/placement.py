"""The map of a static deployment: servers, their GPUs, and which models stand there."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from gsched.checker.deployment import read_deployment
from gsched.report.page.views import Palette, View
from gsched.workload import Config

MOST_GPUS = 512


def placement_map(view: View, palette: Palette, config: Config | None) -> str:
    """Return the map, or nothing where the log tells of no deployment.

    Args:
        view: the log.
        palette: colours of the models.
        config: tells how much memory models take; without it all on a GPU look alike.
    """
    models_on = read_deployment(view.run.log.extra).models_on
    if not models_on:
        return ""
    shares = _memory_shares(view, config)
    gpus = sorted({*models_on, *view.schedule.gpus.tolist()})[:MOST_GPUS]
    cluster = view.schedule.cluster
    size = cluster.server_size if cluster else len(gpus)
    order = palette.numbers
    servers = "".join(
        f'<li><h4>Server {server}</h4><ul class="gpus">'
        + "".join(
            _gpu(gpu, sorted(models_on.get(gpu, ()), key=lambda m: order.get(m, -1)), shares, palette) for gpu in of
        )
        + "</ul></li>"
        for server, of in groupby(gpus, key=lambda gpu: gpu // size)
    )
    memory = f"{cluster.gpu_memory_gb:g} GB" if cluster else ""
    what = f"Height is the share of a GPU's memory, {memory}." if shares else "How much memory they take is not known."
    count = f" The first {MOST_GPUS} GPUs." if len(gpus) == MOST_GPUS else ""
    text = f"Which models stand on which GPUs, from before time 0 to the end. {what}{count}"
    return f'<h3>Static placement</h3><p class="quiet">{text}</p><ul class="servers">{servers}</ul>'


def _memory_shares(view: View, config: Config | None) -> Mapping[str, float]:
    """Return which share of a GPU each model takes; nothing where that is not known of all."""
    cluster = view.schedule.cluster
    models = set().union(*read_deployment(view.run.log.extra).models_on.values())
    if cluster is None or config is None or not models <= config.models.keys():
        return {}
    known = {id: config.models[id] for id in models}
    return {id: model.memory_gb / model.gpus_required / cluster.gpu_memory_gb for id, model in known.items()}


def _gpu(gpu: int, models: Sequence[str], shares: Mapping[str, float], palette: Palette) -> str:
    parts = "".join(_segment(model, shares.get(model, 1 / len(models)), bool(shares), palette) for model in models)
    return f'<li><div class="memory">{parts}</div>{gpu}</li>'


def _segment(model: str, share: float, known: bool, palette: Palette) -> str:
    name = escape(model)
    title = f"{name}, {100 * share:.0f}% of the memory" if known else name
    colour = palette.model(model) if model in palette.models else "var(--quiet)"
    return f'<div title="{title}" style="background:{colour};height:{min(100 * share, 100):.2f}%">{name}</div>'
