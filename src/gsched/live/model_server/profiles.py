"""What is known of models: from a configuration, else by their names; and how long calls to them should take."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gsched.workload import Model

STEPS = 30  # of an image for which neither client nor configuration names a number
IMAGE_TYPES = frozenset({"image", "image_generation", "text_to_image", "text-to-image", "diffusion"})

GB_PER_BILLION = 2.0  # parameters of 16 bits


@dataclass(frozen=True, slots=True)
class Kind:
    """Models of a type about which nothing else is known.

    Attributes:
        words: that names of such models contain.
        profile: stands in for a configuration.
    """

    words: tuple[str, ...]
    profile: Model


# Round numbers of the size that one data-centre GPU shows; a name that fits several is of the first.
KINDS: Mapping[str, Kind] = {
    kind.profile.type: kind
    for kind in (
        Kind(
            ("embed", "minilm", "bge-", "gte-", "e5-", "sentence-"),
            Model("", 2.0, type="embedding", inference_time_mean=0.1),
        ),
        Kind(
            ("diffusion", "sdxl", "flux", "image-gen", "painter"),
            Model("", 12.0, type="image_generation", inference_time_mean=6.0),
        ),
        Kind(
            ("whisper", "wav2vec", "speech", "asr"),
            Model("", 10.0, type="audio_transcription", inference_time_mean=5.0),
        ),
        Kind(
            ("resnet", "vit-", "clip", "yolo", "detr", "classif", "bert"),
            Model("", 2.0, type="classification", inference_time_mean=0.1),
        ),
        Kind((), Model("", 16.0, type="llm", tokens_per_second=50.0, token_mean=200.0)),  # whatever is left
    )
}


class Profiles:
    """Finds what is known of the models that clients name."""

    def __init__(self, models: Iterable[Model] = ()) -> None:
        """Remember the models of a configuration; of several with one name, the first counts."""
        self._known: dict[str, Model] = {}
        listed = list(models)
        for model in listed:
            self._known[model.id] = model
        for model in listed:
            if model.name:
                self._known.setdefault(model.name, model)

    def find(self, name: str) -> Model:
        """Return a model with a type and a profile; its id is the name that was asked for."""
        found = self._known.get(name)
        if found is None:
            return replace(_default(kind_of(name), name), id=name)
        found = replace(found, id=name, type=found.type or kind_of(f"{name} {found.name}"))
        if found.mean_duration is not None:
            return found
        if found.tokens_per_second is not None:
            return replace(found, token_mean=KINDS["llm"].profile.token_mean)
        default = _default(found.type, name)
        return replace(
            found,
            tokens_per_second=default.tokens_per_second,
            token_mean=default.token_mean,
            inference_time_mean=default.inference_time_mean,
        )


def kind_of(name: str) -> str:
    """Return the type of model that a name suggests."""
    lower = name.lower()
    return next((kind for kind, known in KINDS.items() if any(word in lower for word in known.words)), "llm")


def _default(kind: str, name: str) -> Model:
    """Return the profile of a type, with the memory that a name such as `llama-70b` tells."""
    profile = KINDS["image_generation" if kind in IMAGE_TYPES else kind if kind in KINDS else "llm"].profile
    billions = re.search(r"(?<![a-z0-9.])(\d{1,4}(?:\.\d{1,3})?)b(?![a-z0-9])", name.lower())
    if profile.type == "llm" and billions and float(billions[1]) > 0:
        return replace(profile, memory_gb=GB_PER_BILLION * float(billions[1]))
    return profile


def makes_images(model: Model) -> bool:
    """Tell whether calls are answered with an image rather than a text."""
    return model.type.lower() in IMAGE_TYPES


def steps_of(model: Model) -> float:
    """Return the denoising steps that the profile of a model speaks of."""
    given = model.config.get("steps")
    return given if isinstance(given, int | float) and given > 0 else STEPS


def profile_seconds(model: Model, data: Mapping[str, Any]) -> float | None:
    """Return how long a call should take by the model's profile, in seconds of the workload; None without a profile.

    Tokens count as `max_length / tokens_per_second` where both are given; images take longer with more `steps`.
    """
    length = data.get("max_length")
    if length is not None and model.tokens_per_second is not None:
        return float(length) / model.tokens_per_second
    mean = model.mean_duration
    if mean is not None and makes_images(model) and (steps := data.get("steps")) is not None:
        return mean * float(steps) / steps_of(model)
    return mean


def load_seconds(model: Model, pcie_bandwidth: float, switch_overhead: float, *, fresh: bool) -> float:
    """Return how long loading a model takes: its own load time on GPUs that never held anything, else a transfer."""
    if fresh and model.load_time_seconds is not None:
        return model.load_time_seconds
    return unload_seconds(model, pcie_bandwidth) + switch_overhead


def unload_seconds(model: Model, pcie_bandwidth: float) -> float:
    """Return how long it takes to move a model out of its GPUs."""
    return model.memory_gb / pcie_bandwidth
