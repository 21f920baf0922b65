"""The model server with models of Hugging Face, tiny ones of random weights that are made on the spot."""

from pathlib import Path
from typing import Any

import pytest

REASON = "the Hugging Face backend is NOT tested: install the extra hf (pip install 'gsched[hf]')"
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)
diffusers = pytest.importorskip("diffusers", reason=REASON)

from gsched.errors import InputError  # noqa: E402
from gsched.live.model_server.backends import Backend, BackendError, Fetching, UnknownModelError  # noqa: E402
from gsched.live.model_server.backends.hf import HuggingFace  # noqa: E402
from gsched.live.model_server.images import ImageFolder  # noqa: E402
from gsched.workload import Model  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")

TEXT, PICTURE = Model("me/writer", 1.0, type="llm"), Model("me/painter", 1.0, type="image_generation")
CONTEXT = 64


def tokenizer(folder: Path, kind: str) -> Any:
    """A tokenizer of single characters, made without a download."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split

    letters = ["<end>", *map(chr, range(32, 127))]
    raw = Tokenizer(WordLevel({letter: i for i, letter in enumerate(letters)}, unk_token="<end>"))
    raw.pre_tokenizer = Split("", "isolated")
    kinds = {"eos_token": "<end>", "pad_token": "<end>", "unk_token": "<end>", "bos_token": "<end>"}
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=CONTEXT, **kinds)
    made.save_pretrained(folder / kind)
    return made


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "writer"
    tokenizer(folder, "")
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=96, n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "painter"
    torch.manual_seed(1)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
    )
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=96,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=CONTEXT,
        )
    )
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer(folder, "tokenizer"),
        unet=unet,
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def test_it_is_a_backend_that_fetches(writer: Path, tmp_path: Path) -> None:
    backend: Backend = HuggingFace({TEXT.id: writer}, ImageFolder(tmp_path))
    assert isinstance(backend, Fetching)
    backend.fetch(TEXT)


def test_text_is_generated_and_repeatable_without_temperature(writer: Path, tmp_path: Path) -> None:
    loaded = HuggingFace({TEXT.id: writer}, ImageFolder(tmp_path)).load(TEXT, [], fresh=True)
    first = loaded.call({"prompt": "Hello", "max_length": 20})
    assert first.response
    assert first == loaded.call({"prompt": "Hello", "max_length": 20, "temperature": 0})
    assert first != loaded.call({"prompt": "Other", "max_length": 20})
    assert len(loaded.call({"prompt": "Hello", "max_length": 5}).response) <= 2 * 5  # a blank after each
    loaded.close()


@pytest.mark.parametrize("data", [{}, {"prompt": "a" * 500}, {"prompt": "a" * 500, "max_length": 10**6}])
def test_text_beyond_what_the_model_holds_is_cut(data: dict[str, Any], writer: Path, tmp_path: Path) -> None:
    loaded = HuggingFace({TEXT.id: writer}, ImageFolder(tmp_path)).load(TEXT, [], fresh=True)
    assert loaded.call({"temperature": 1.0, **data}).response is not None


def test_images_are_png_of_the_size_asked_for(painter: Path, tmp_path: Path) -> None:
    from PIL import Image

    loaded = HuggingFace({PICTURE.id: painter}, ImageFolder(tmp_path / "out")).load(PICTURE, [], fresh=True)
    made = loaded.call({"prompt": "a cat", "steps": 2, "width": 32, "height": 16})
    assert Path(made.image_path).parent == tmp_path / "out"
    with Image.open(made.image_path) as image:
        assert (image.format, image.size) == ("PNG", (32, 16))
    with pytest.raises(BackendError, match="me/painter: "):
        loaded.call({"prompt": "a cat", "steps": 2, "width": 33, "height": 16})


def test_pickled_weights_are_refused(writer: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "pickled"
    shutil.copytree(writer, folder)
    (folder / "model.safetensors").unlink()
    torch.save(transformers.GPT2LMHeadModel.from_pretrained(writer).state_dict(), folder / "pytorch_model.bin")
    backend = HuggingFace({TEXT.id: folder}, ImageFolder(tmp_path))
    with pytest.raises(BackendError, match="safetensors"):
        backend.load(TEXT, [], fresh=True)


def test_gpu_that_is_not_there(writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    backend = HuggingFace({TEXT.id: writer}, ImageFolder(tmp_path))
    with pytest.raises(BackendError, match="cuda:2 is not there, torch sees 2 GPUs"):
        backend.load(TEXT, [0, 2], fresh=True)


def test_folder_without_a_model_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds neither"):
        HuggingFace({"x": tmp_path}, ImageFolder(tmp_path))


@pytest.mark.parametrize("name", ["../writer", "/etc", "a/b/c", "a..b/c", "", "a/.b"])
def test_names_are_never_paths(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="no name on the hub"):
        HuggingFace({}, ImageFolder(tmp_path)).fetch(Model(name, 1.0))


def test_model_that_is_not_here_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BackendError, match="is not here, and the hub cannot be reached"):
        HuggingFace({}, ImageFolder(tmp_path)).fetch(Model("gsched-tests/no-such-model", 1.0))
