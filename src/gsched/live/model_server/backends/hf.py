"""Hugging Face: text generation with transformers, images with diffusers; safetensors only, and no code of models."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from transformers import AutoModelForCausalLM, AutoTokenizer

from gsched.errors import InputError
from gsched.live.model_server.backends import BackendError, Output, UnknownModelError
from gsched.live.model_server.images import ImageFolder
from gsched.live.model_server.profiles import STEPS
from gsched.workload import Model

TOKENS = 128  # of a text for which the client names no number
CONTEXT = 2048  # tokens of a model that does not say how many it takes
GUIDANCE = 7.5

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]  # no pickles, no code
_SAFE: dict[str, Any] = {"use_safetensors": True, "local_files_only": True, "trust_remote_code": False}

# What the libraries raise when files are bad, memory ends or a model does not take its input.
_FAILURES = (RuntimeError, ValueError, OSError, LookupError, TypeError, AttributeError, ImportError)


class HuggingFace:
    """Loads models from local folders, or from the hub under their names there."""

    name: str = "hf"

    def __init__(self, folders: Mapping[str, Path], images: ImageFolder) -> None:
        """Check what is there.

        Args:
            folders: of models by name; others are taken from the hub.
            images: where images are written.

        Raises:
            InputError: a folder does not hold a model.
        """
        for path in folders.values():
            if not any((path / name).is_file() for name in ("config.json", "model_index.json")):
                hint = "name a folder that save_pretrained has written"
                raise InputError.one(path, "", "holds neither config.json nor model_index.json", hint)
        self._folders = dict(folders)
        self._images = images

    def fetch(self, model: Model) -> None:
        """Take a model from the hub, or from its cache here when the hub does not answer."""
        if model.id in self._folders:
            return
        if not _HUB_NAME.fullmatch(model.id) or ".." in model.id:
            raise UnknownModelError(f"{model.id} is no name on the hub; name its folder with --model")
        try:
            self._folders[model.id] = Path(snapshot_download(model.id, allow_patterns=_FILES))
        except RepositoryNotFoundError as error:
            raise UnknownModelError(f"the hub knows no model {model.id}, or does not show it to you") from error
        except LocalEntryNotFoundError as error:
            raise BackendError(f"{model.id} is not here, and the hub cannot be reached") from error
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise BackendError(f"{model.id} cannot be fetched: {_line(error)}") from error

    def load(self, model: Model, devices: Sequence[int], *, fresh: bool) -> "TextModel | ImageModel":  # noqa: ARG002
        """Load a model onto the CPU or GPUs, split over several."""
        folder = self._folders[model.id]
        if (count := torch.cuda.device_count()) <= max(devices, default=-1):
            raise BackendError(f"{model.id}: cuda:{max(devices)} is not there, torch sees {count} GPUs; use the CPU")
        with _failing(model):
            if (folder / "model_index.json").is_file():
                return ImageModel(model, _pipeline(folder, devices), self._images)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            return TextModel(model, tokenizer, _network(folder, devices))


def _network(folder: Path, devices: Sequence[int]) -> Any:
    kind = AutoModelForCausalLM
    if len(devices) > 1:
        return kind.from_pretrained(folder, dtype="auto", device_map="auto", max_memory=_room(devices), **_SAFE).eval()
    return kind.from_pretrained(folder, dtype="auto", **_SAFE).to(_place(devices)).eval()


def _pipeline(folder: Path, devices: Sequence[int]) -> Any:
    numbers = torch.float16 if devices else torch.float32
    if len(devices) > 1:
        room = _room(devices)
        found = DiffusionPipeline.from_pretrained(
            folder, torch_dtype=numbers, device_map="balanced", max_memory=room, **_SAFE
        )
    else:
        found = DiffusionPipeline.from_pretrained(folder, torch_dtype=numbers, **_SAFE).to(_place(devices))
    found.set_progress_bar_config(disable=True)
    return found


def _place(devices: Sequence[int]) -> str:
    return f"cuda:{devices[0]}" if devices else "cpu"


def _room(devices: Sequence[int]) -> dict[int, int]:
    """Return the free bytes of the GPUs, so that the model is split over them and no others."""
    return {device: torch.cuda.mem_get_info(device)[0] for device in devices}


@dataclass(slots=True)
class TextModel:
    """A language model."""

    model: Model
    tokenizer: Any
    network: Any

    def call(self, data: Mapping[str, Any]) -> Output:
        """Go on with the prompt for `max_length` tokens at most, by chance above a `temperature` of 0."""
        with _failing(self.model), torch.inference_mode():
            limit = getattr(self.network.config, "max_position_embeddings", CONTEXT)
            fresh = min(int(data.get("max_length", TOKENS)), limit - 1)
            given = self._tokens(data.get("prompt", ""))[:, -(limit - fresh) :]
            temperature = float(data.get("temperature", 0.0))
            chance = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
            found = self.network.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=fresh,
                pad_token_id=self.tokenizer.eos_token_id,
                **chance,
            )
            return Output(response=self.tokenizer.decode(found[0, given.shape[1] :], skip_special_tokens=True))

    def _tokens(self, prompt: str) -> Any:
        """Return the prompt as tokens [1, n]; an empty one is the token that texts begin or end with."""
        tokens = self.tokenizer(prompt)["input_ids"]
        if not tokens:
            first = self.tokenizer.bos_token_id
            tokens = [self.tokenizer.eos_token_id if first is None else first]
        return torch.tensor([tokens], device=self.network.device)

    def close(self) -> None:
        """Give the memory back."""
        self.network = None
        _release()


@dataclass(slots=True)
class ImageModel:
    """A pipeline that makes images."""

    model: Model
    pipeline: Any
    images: ImageFolder

    def call(self, data: Mapping[str, Any]) -> Output:
        """Make an image and write it as PNG."""
        size = {name: int(data[name]) for name in ("width", "height") if name in data}
        with _failing(self.model), torch.inference_mode():
            found = self.pipeline(
                data.get("prompt", ""),
                num_inference_steps=int(data.get("steps", STEPS)),
                guidance_scale=float(data.get("guidance_scale", GUIDANCE)),
                **size,
            )
            path = self.images.new()
            found.images[0].save(path)
        return Output(image_path=str(path))

    def close(self) -> None:
        """Give the memory back."""
        self.pipeline = None
        _release()


def _release() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _failing(model: Model) -> Iterator[None]:
    """Say what went wrong with a model in one line."""
    try:
        yield
    except _FAILURES as error:
        raise BackendError(f"{model.id}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__
