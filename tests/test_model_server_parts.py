"""The parts of the model server without HTTP: turns, memory, profiles, images, and the backends that need no torch."""

import asyncio
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from model_servers import Held
from serving import PATIENCE, in_loop

from gsched.errors import InputError
from gsched.live.model_server.backends import Backend, BackendError, Fetching
from gsched.live.model_server.backends.emulated import Emulated
from gsched.live.model_server.backends.onnx import OnnxBackend, passes_of
from gsched.live.model_server.devices import Devices, joined, numbers
from gsched.live.model_server.images import ImageFolder
from gsched.live.model_server.profiles import KINDS, Profiles, load_seconds, makes_images, profile_seconds
from gsched.live.model_server.refusals import RefusedError
from gsched.live.model_server.service import Service
from gsched.live.model_server.turns import Turn, Turns
from gsched.live.scheduler.backends.onnx import Onnx
from gsched.workload import Model

# Turns

GPUS = range(4)
Sets = st.lists(st.sampled_from(GPUS), min_size=1, unique=True)


@given(steps=st.lists(st.one_of(Sets, st.integers(0, 9))))
@example([[0], [0, 1], [1], 2])  # one leaves that was not the first, behind one that still waits elsewhere
def test_turn_is_ready_once_no_earlier_one_needs_its_devices(steps: list[list[int] | int]) -> None:
    async def play() -> None:
        turns, there = Turns(GPUS), list[Turn]()
        for step in steps:
            if isinstance(step, list):
                there.append(turns.join(step))
            elif there:
                turns.leave(there.pop(step % len(there)))  # whether it was ready or has waited
            for i, turn in enumerate(there):
                free = all(set(turn.devices).isdisjoint(earlier.devices) for earlier in there[:i])
                assert turn.ready.done() == free
            assert turns.waiting == sum(not turn.ready.done() for turn in there)
            assert [turns.busy(gpu) for gpu in GPUS] == [any(gpu in turn.devices for turn in there) for gpu in GPUS]

    asyncio.run(play())


@in_loop
async def test_refused_turns_do_not_count_as_waiting_once_they_have_left() -> None:
    turns = Turns(GPUS)
    first, second, third = (turns.join([0]) for _ in range(3))
    second.ready.cancel()
    turns.refuse(RefusedError(503, "no"))
    with pytest.raises(RefusedError):
        await third.ready
    await first.ready
    for turn in (second, third, first):
        turns.leave(turn)
    assert turns.waiting == 0
    await turns.empty()


# Memory

NAMES = {"small": 7.0, "half": 40.0, "large": 80.0, "huge": 130.0, "none": 0.0}
MODELS = [Model(name, gb, inference_time_mean=0.0) for name, gb in NAMES.items()]
PLACES = [("cpu",), ("cuda:0",), ("cuda:1",), ("cuda:0", "cuda:1"), ("cuda:2", "cuda:0", "cuda:1")]
CAPACITY = {"cpu": 200.0, "cuda:0": 80.0, "cuda:1": 80.0, "cuda:2": 80.0}


async def never() -> None:
    await asyncio.Event().wait()


class Instances(RuleBasedStateMachine):
    """Whatever is loaded and unloaded: memory is what is there, and is refused exactly where it does not suffice."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.service = self.run(self.made())
        self.there: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.copies: set[str] = set()

    async def made(self) -> Service:
        return Service(Held(fail={"load fails"}), Devices(3, 80.0, 200.0), Profiles(MODELS))

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, PATIENCE))

    def tried(self, work: Any) -> tuple[int, Any]:
        """Return the status that says how it went, and the result."""
        try:
            return 200, self.run(work)
        except RefusedError as error:
            return error.status, None

    def used(self, device: str) -> float:
        shares = [NAMES[name] / len(devices) for name, devices in self.there.values() if device in devices]
        return sum(shares) + (sum(NAMES[name] for name in self.copies) if device == "cpu" else 0)

    def fits(self, name: str, devices: tuple[str, ...]) -> bool:
        return all(self.used(device) + NAMES[name] / len(devices) <= CAPACITY[device] + 1e-6 for device in devices)

    @rule(name=st.sampled_from(list(NAMES)), devices=st.sampled_from(PLACES))
    def serve(self, name: str, devices: tuple[str, ...]) -> None:
        fits = self.fits(name, devices)
        status, instance = self.tried(self.service.load(name, devices, serve=True))
        assert status == (200 if fits else 507)
        if fits:
            self.there[instance.id] = (name, devices)

    @rule(devices=st.sampled_from(PLACES))
    def fail(self, devices: tuple[str, ...]) -> None:
        assert self.tried(self.service.load("fails", devices, serve=True))[0] in (500, 507)

    @rule(name=st.sampled_from(list(NAMES)))
    def copy(self, name: str) -> None:
        fits = name in self.copies or self.fits(name, ("cpu",))
        assert self.tried(self.service.load_to_dram(name))[0] == (200 if fits else 507)
        if fits:
            self.copies.add(name)

    @rule(which=st.integers(0, 99), calls=st.integers(0, 3))
    def call_and_unload_at_once(self, which: int, calls: int) -> None:
        if not self.there:
            return
        id = sorted(self.there)[which % len(self.there)]

        async def both() -> list[Any]:
            work = [self.service.call(id, {"prompt": str(i)}, never) for i in range(calls)]
            return await asyncio.gather(*work, self.service.unload(id))

        *answers, instance = self.run(both())
        assert [answer.output.response for answer in answers] == [f"{i} answered" for i in range(calls)]
        assert instance.calls == calls
        del self.there[id]

    @rule(name=st.sampled_from(list(NAMES)), keep=st.booleans())
    def offload(self, name: str, keep: bool) -> None:
        known = name in self.service.models
        fits = not keep or name in self.copies or self.fits(name, ("cpu",))
        assert self.tried(self.service.offload(name, keep_in_dram=keep))[0] == (
            404 if not known else 200 if fits else 507
        )
        if not (known and fits):
            return
        self.there = {id: held for id, held in self.there.items() if held[0] != name}
        self.copies = self.copies | {name} if keep else self.copies - {name}

    @invariant()
    def memory_is_what_is_there(self) -> None:
        assert set(self.service.instances) == set(self.there)
        for name, device in self.service.devices.by_name.items():
            assert device.used_gb == pytest.approx(self.used(name), abs=1e-9)
            assert 0 <= device.used_gb <= CAPACITY[name] + 1e-6
        assert not any(map(self.service.turns.busy, CAPACITY))
        assert self.service.turns.waiting == 0

    def teardown(self) -> None:
        self.loop.close()


TestInstances = Instances.TestCase
TestInstances.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_shares_that_fill_a_gpu_fit() -> None:
    devices = Devices(2, 0.3, None)
    names = devices.parse("cuda:0,1")
    for i in range(3):
        devices.place(str(i), names, 0.2)  # three times 0.1 is a little more than 0.3
    with pytest.raises(RefusedError, match=r"which has 0.3 GB: 0 holds 0.1 GB, 1 holds 0.1 GB"):
        devices.place("4", names, 1e-3)
    devices.free("1", names)
    assert all(devices.by_name[name].used_gb == 0.2 for name in names)


@pytest.mark.parametrize(
    ("given", "names", "text"),
    [
        ("cpu", ["cpu"], "cpu"),
        ("cuda:0", ["cuda:0"], "cuda:0"),
        ("cuda:2,0", ["cuda:2", "cuda:0"], "cuda:2,0"),
        (["cuda:1", "cuda:0"], ["cuda:1", "cuda:0"], "cuda:1,0"),
        ("cuda:0,cuda:1", ["cuda:0", "cuda:1"], "cuda:0,1"),
        (" CUDA:01 ", ["cuda:1"], "cuda:1"),
    ],
)
def test_ways_to_name_devices(given: str | list[str], names: list[str], text: str) -> None:
    parsed = Devices(3, 80.0, None).parse(given)
    assert (list(parsed), joined(parsed)) == (names, text)
    assert numbers(parsed) == [int(name[-1]) for name in names if name != "cpu"]


# Profiles


@pytest.mark.parametrize(
    ("name", "kind", "gb"),
    [
        ("meta-llama/Llama-3.1-70B-Instruct", "llm", 140),
        ("Qwen/Qwen2-0.5B", "llm", 1),
        ("gpt2", "llm", 16),
        ("model-v1b2", "llm", 16),
        ("mixtral-8x7b", "llm", 16),
        ("stabilityai/stable-diffusion-xl-base-1.0", "image_generation", 12),
        ("sentence-transformers/all-MiniLM-L6-v2", "embedding", 2),
        ("openai/whisper-large-v3", "audio_transcription", 10),
        ("microsoft/resnet-50", "classification", 2),
        ("bert-0b", "classification", 2),
    ],
)
def test_unknown_names_get_the_profile_of_their_type(name: str, kind: str, gb: float) -> None:
    model = Profiles().find(name)
    assert (model.id, model.type, model.memory_gb) == (name, kind, gb)
    assert makes_images(model) == (kind == "image_generation")
    assert profile_seconds(model, {})
    assert replace(model, id="", memory_gb=0.0) == replace(KINDS[kind].profile, memory_gb=0.0)


def test_configuration_comes_first_by_id_then_by_name() -> None:
    a, b = Model("a", 1.0, name="b", inference_time_mean=1.0), Model("b", 2.0, name="Org/B", inference_time_mean=2.0)
    profiles = Profiles([a, b, Model("c", 3.0, name="Org/B")])
    assert [profiles.find(name).memory_gb for name in ("a", "b", "Org/B", "c")] == [1, 2, 2, 3]
    assert profiles.find("Org/B").id == "Org/B"
    assert profiles.find("c").mean_duration == KINDS["llm"].profile.mean_duration
    slow = Profiles([Model("c", 3.0, tokens_per_second=1.0)]).find("c")
    assert (slow.tokens_per_second, slow.mean_duration) == (1.0, 200.0)


def test_loading_costs_what_the_simulator_says() -> None:
    model = Model("a", 32.0, load_time_seconds=9.0)
    assert load_seconds(model, 16.0, 2.0, fresh=True) == 9.0
    assert load_seconds(model, 16.0, 2.0, fresh=False) == 4.0
    assert load_seconds(replace(model, load_time_seconds=None), 16.0, 2.0, fresh=True) == 4.0


# Backends


class Clock:
    """Time that goes by only when somebody sleeps, and then a little less than asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("gsched.live.model_server.backends.emulated.perf_counter", lambda: self.now)
        monkeypatch.setattr("gsched.live.model_server.backends.emulated.sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 3600
        self.now += max(0.9 * seconds, 1e-4)

    def took(self, work: Any, *given: Any, **named: Any) -> tuple[Any, float]:
        began = self.now
        return work(*given, **named), self.now - began


def test_emulated_backend_takes_the_time_of_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    backend: Backend = Emulated(time_scale=0.5, pcie_bandwidth=8.0, switch_overhead=3.0)
    assert not isinstance(backend, Fetching)
    model = Model("a", 32.0, load_time_seconds=20.0, tokens_per_second=10.0, token_mean=50.0)
    close = pytest.approx
    loaded, seconds = clock.took(backend.load, model, [0], fresh=True)
    assert seconds == close(10.0, abs=1e-3)
    assert clock.took(backend.load, model, [0], fresh=False)[1] == close(3.5, abs=1e-3)
    assert clock.took(loaded.call, {})[1] == close(2.5, abs=1e-3)
    assert clock.took(loaded.call, {"max_length": 20})[1] == close(1.0, abs=1e-3)
    assert clock.took(loaded.call, {"max_length": 20, "seconds": 20_000.0})[1] == close(10_000, abs=1e-3)
    assert clock.took(loaded.call, {"seconds": 0.0})[1] == 0
    assert clock.took(loaded.close)[1] == close(2.0, abs=1e-3)


def test_emulated_call_without_any_time_is_an_error() -> None:
    with pytest.raises(BackendError, match="a has no profile"):
        Emulated(0.0).load(Model("a", 0.0), [], fresh=True).call({})


def test_images_that_cannot_be_written_are_an_error_of_the_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    backend = Emulated(0.0, images=ImageFolder(tmp_path / "file"))
    with pytest.raises(BackendError, match="the image cannot be written"):
        backend.load(Model("a", 0.0, type="image", inference_time_mean=1.0), [], fresh=True).call({})


def test_temporary_folder_of_images_ends_with_its_owner() -> None:
    images = ImageFolder()
    path = images.write_grey()
    assert path.read_bytes() == images.write_grey().read_bytes()
    assert len(list(path.parent.iterdir())) == 2
    del images
    assert not path.parent.exists()


@pytest.fixture(scope="module")
def onnx_backend(tmp_path_factory: pytest.TempPathFactory) -> OnnxBackend:
    return OnnxBackend({}, ImageFolder(tmp_path_factory.mktemp("images")), "cpu")


def test_onnx_runs_a_pass_for_each_token(onnx_backend: OnnxBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    original = Onnx.run
    monkeypatch.setattr(Onnx, "run", lambda self, number, *rest: (passes.append(number), original(self, number, *rest)))
    backend: Backend = onnx_backend
    assert isinstance(backend, Fetching)
    model = Profiles().find("some/llm")
    backend.fetch(model)
    loaded = backend.load(model, [0, 1], fresh=True)
    assert loaded.call({"prompt": "x", "max_length": 3}).response == "some/llm has run 3 passes"
    assert passes == [0, 1, 2]
    loaded.close()


@pytest.mark.parametrize(
    ("name", "data", "passes"),
    [("gpt", {}, 32), ("gpt", {"max_length": 5}, 5), ("sdxl", {}, 30), ("sdxl", {"steps": 4}, 4), ("resnet", {}, 1)],
)
def test_work_follows_from_the_data(name: str, data: dict[str, Any], passes: int) -> None:
    assert passes_of(Profiles().find(name), data) == passes


def test_onnx_answers_for_image_models_with_a_file(onnx_backend: OnnxBackend) -> None:
    loaded = onnx_backend.load(Profiles().find("sdxl"), [], fresh=True)
    path = loaded.call({"steps": 1}).image_path
    assert path
    assert Path(path).is_file()


def test_onnx_files_of_ones_own(tmp_path: Path) -> None:
    from gsched.live.scheduler.graphs import graph

    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    good.write_bytes(graph("resnet50", "small").SerializeToString())
    bad.write_bytes(b"no graph")
    backend = OnnxBackend({"my/model": good, "bad": bad}, ImageFolder(tmp_path), "cpu")
    loaded = backend.load(Profiles().find("my/model"), [], fresh=True)
    assert loaded.call({"max_length": 1}).response
    with pytest.raises(BackendError, match=r"bad.onnx: cannot be loaded"):
        backend.load(Profiles().find("bad"), [], fresh=True)
    with pytest.raises(InputError, match="no such file"):
        OnnxBackend({"a": tmp_path / "none.onnx"}, ImageFolder(tmp_path), "cpu")


def test_real_sleep_is_never_short() -> None:
    backend = Emulated(1.0)
    for seconds in (0.0, 0.001, 0.01):
        began = perf_counter()
        backend.wait(seconds)
        assert perf_counter() - began >= seconds
