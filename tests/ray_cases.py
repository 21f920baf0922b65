"""What is asked of Ray; `test_executor_ray.py` runs it in a process of its own, as Ray leaves warnings behind."""

import asyncio
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster as RayCluster

import gsched.live.run.executors.ray as executor_module
from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.live.model_server.backends import BackendError, Output
from gsched.live.model_server.backends.emulated import Emulated
from gsched.live.run.executors import Call, ExecutorError, LostError
from gsched.live.run.executors.ray import RayExecutor, connect, require_shareable
from gsched.live.run.executors.ray_nodes import servers_of
from gsched.workload import Model

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

LONG = 60.0  # seconds within which whatever is waited for has happened

# Ray notices within seconds, not half a minute, that a node is gone; but later than calls to it fail.
HEALTH = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 10}


class Probe:
    """A backend whose models tell where they are, and do as they are told."""

    name = "probe"

    def load(self, model: Model, devices: Sequence[int], *, fresh: bool) -> "ProbeModel":
        if model.id == "broken":
            raise BackendError("there are no weights")
        if "load_until" in model.config:
            wait_for(model.config["load_until"])
        return ProbeModel(model, list(devices), fresh)


class ProbeModel:
    def __init__(self, model: Model, devices: list[int], fresh: bool) -> None:
        self.model, self.devices, self.fresh = model, devices, fresh

    def call(self, data: Mapping[str, Any]) -> Output:
        match data.get("do"):
            case "die":
                os._exit(1)
            case "fail":
                raise BackendError("the prompt is bad")
            case "trip":
                raise ZeroDivisionError("a bug")
            case "wait":
                Path(data["touch"]).touch()
                wait_for(data["until"])
        told = {
            "gpus": os.environ["CUDA_VISIBLE_DEVICES"].split(","),
            "address": ray.util.get_node_ip_address(),
            "devices": self.devices,
            "fresh": self.fresh,
            "seconds": data["seconds"],
        }
        return Output(response=json.dumps(told))

    def close(self) -> None:
        if "closed" in self.model.config:
            Path(self.model.config["closed"]).touch()


def wait_for(path: str) -> None:
    end = time.monotonic() + LONG
    while not Path(path).exists():
        assert time.monotonic() < end
        time.sleep(0.01)


async def appears(path: Path) -> None:
    await asyncio.to_thread(wait_for, str(path))


def model(id: str = "m", gpus: int = 1, memory_gb: float = 1.0, **config: Any) -> Model:
    return Model(id, memory_gb, gpus, config=config)


def node(address: str, gpus: float, id: str = "") -> dict[str, Any]:
    return {"NodeID": id or f"id-{address}", "NodeManagerAddress": address, "Alive": True, "Resources": {"GPU": gpus}}


# Without a cluster


def test_nodes_become_servers_in_a_stable_order() -> None:
    nodes = [node("10.0.0.3", 2), node("10.0.0.2", 4), node("10.0.0.1", 4, "b"), node("10.0.0.1", 4, "a")]
    nodes.append({"NodeID": "cpu", "NodeManagerAddress": "10.0.0.0", "Resources": {}})
    for _ in range(5):
        random.shuffle(nodes)
        servers = servers_of(nodes, None)
        assert [(server.node, server.gpus) for server in servers] == [
            ("a", range(4)),
            ("b", range(4, 8)),
            ("id-10.0.0.2", range(8, 12)),
            ("id-10.0.0.3", range(12, 14)),
        ]
    assert [server.gpus for server in servers_of(nodes, 6)] == [range(4), range(4, 6)]
    assert [server.gpus for server in servers_of(nodes, 4)] == [range(4)]


def test_nodes_of_different_sizes_are_refused() -> None:
    nodes = [node("10.0.0.1", 4), node("10.0.0.2", 2), node("10.0.0.3", 2)]
    with pytest.raises(InputError, match=r"different numbers of GPUs \(10.0.0.1 with 4, 10.0.0.2 with 2\)"):
        servers_of(nodes, None)
    assert [server.gpus for server in servers_of(nodes, 6)] == [range(4), range(4, 6)]


@pytest.mark.parametrize(("nodes", "gpus"), [([], None), ([node("10.0.0.1", 0)], None), ([node("10.0.0.1", 4)], 5)])
def test_too_few_gpus_are_refused(nodes: list[dict[str, Any]], gpus: int | None) -> None:
    with pytest.raises(InputError, match=r"has [04] GPUs"):
        servers_of(nodes, gpus)


def test_models_of_several_gpus_cannot_share() -> None:
    require_shareable([model("a"), model("b")])
    with pytest.raises(InputError, match="model c: needs 2 GPUs"):
        require_shareable([model("a"), model("c", 2)])


def test_a_cluster_that_does_not_answer_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with pytest.raises(InputError, match=rf"127.0.0.1:{port}: cannot be joined \(nothing has answered") as caught:
            connect(Probe, address=f"127.0.0.1:{port}", patience=2.0)
    assert len(str(caught.value).splitlines()) == 1


def test_an_address_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match=r"Ray cluster nonsense: cannot be joined \(.*nonsense") as caught:
        connect(Probe, address="nonsense")
    assert len(str(caught.value).splitlines()) == 1


def test_a_cluster_of_its_own() -> None:
    async def use(executor: RayExecutor) -> None:
        instance = await executor.load(Model("m", 16.0, 2, load_time_seconds=1.0), range(1, 3))
        answer = await executor.call(instance, Call({"prompt": "x"}, 2.0))
        assert "2 seconds" in answer.output
        assert answer.seconds is not None
        assert 0.02 <= answer.seconds < LONG
        await executor.close()

    before = signal.getsignal(signal.SIGTERM)
    executor = connect(partial(Emulated, time_scale=0.01), gpus=3)
    assert signal.getsignal(signal.SIGTERM) is before
    assert (executor.servers, executor.gpus, executor.gpus_per_server) == ([range(3)], 3, 3)
    with pytest.raises(InputError, match="connected to a cluster already"):
        connect(Probe, gpus=1)
    asyncio.run(use(executor))
    assert not ray.is_initialized()


# On one cluster of two nodes; the node is lost in the end


@pytest.fixture(scope="module")
def cluster() -> Any:
    head = {"num_cpus": 0, "include_dashboard": False, "node_ip_address": "127.0.0.2", "_system_config": HEALTH}
    cluster = RayCluster(initialize_head=True, head_node_args=head)
    for last in (3, 4):
        cluster.add_node(num_cpus=0, num_gpus=4, node_ip_address=f"127.0.0.{last}")
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def runner() -> Any:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def executor(cluster: RayCluster, runner: asyncio.Runner) -> Any:
    executor = connect(Probe, address=cluster.address)
    yield executor
    runner.run(executor.close())
    assert not ray.is_initialized()


async def ask(executor: RayExecutor, instance: Any, **data: Any) -> dict[str, Any]:
    async with asyncio.timeout(LONG):
        return json.loads((await executor.call(instance, Call(data, 1.5))).output)


def free_gpus() -> float:
    return ray.available_resources().get("GPU", 0.0)


def test_gangs_get_their_gpus_on_their_nodes(executor: RayExecutor, runner: asyncio.Runner) -> None:
    gangs = [range(0, 4), range(4, 6), range(6, 7), range(7, 8)]

    async def use() -> None:
        instances = await asyncio.gather(*(executor.load(model(gpus=len(gang)), gang) for gang in gangs))
        assert free_gpus() == 0
        with pytest.raises(ExecutorError, match="there is no room for other on GPU 5, which holds m"):
            await executor.load(model("other"), range(5, 6))
        told = await asyncio.gather(*(ask(executor, instance) for instance in instances))
        assert [answer["address"] for answer in told] == ["127.0.0.3"] + 3 * ["127.0.0.4"]
        assert [answer["devices"] for answer in told] == [[0, 1, 2, 3], [0, 1], [0], [0]]
        assert sorted(told[0]["gpus"]) == ["0", "1", "2", "3"]
        assert sorted(told[1]["gpus"] + told[2]["gpus"] + told[3]["gpus"]) == ["0", "1", "2", "3"]
        assert [(answer["fresh"], answer["seconds"]) for answer in told] == 4 * [(True, 1.5)]
        await executor.unload(instances[1])
        assert free_gpus() == 2
        again = await executor.load(model(), range(5, 6))
        assert not (await ask(executor, again))["fresh"]
        await asyncio.gather(*map(executor.unload, (*instances, again)))
        with pytest.raises(ExecutorError, match="m is not loaded"):
            await executor.call(again, Call())
        assert free_gpus() == 8

    assert Cluster(executor.gpus, executor.gpus_per_server).server_size == 4
    runner.run(use())


def test_gangs_of_two_nodes_are_refused(executor: RayExecutor, runner: asyncio.Runner) -> None:
    for gpus in (range(3, 5), range(7, 9), range(8, 9)):
        with pytest.raises(ExecutorError, match="no server owns"):
            runner.run(executor.load(model(gpus=len(gpus)), gpus))


def test_gpus_that_others_use_are_waited_for(
    executor: RayExecutor, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "_RESERVE", 0.5)
    theirs = ray.util.placement_group([{"GPU": 3, "node:127.0.0.4": 0.001}])
    ray.get(theirs.ready())
    with pytest.raises(ExecutorError, match=r"2 GPUs of node 127.0.0.4 are not free after 0.5 s"):
        runner.run(executor.load(model(gpus=2), range(4, 6)))
    monkeypatch.undo()

    async def use() -> None:
        waits = asyncio.create_task(executor.load(model(gpus=2), range(4, 6)))
        done, _ = await asyncio.wait({waits}, timeout=1.0)
        assert not done
        ray.util.remove_placement_group(theirs)
        await executor.unload(await waits)

    runner.run(use())
    assert free_gpus() == 8


def test_calls_to_different_instances_go_on_together(
    executor: RayExecutor, runner: asyncio.Runner, tmp_path: Path
) -> None:
    here, there = str(tmp_path / "here"), str(tmp_path / "there")

    async def use() -> None:
        one, other = await asyncio.gather(*(executor.load(model(), range(gpu, gpu + 1)) for gpu in (0, 4)))
        await asyncio.gather(
            ask(executor, one, do="wait", touch=here, until=there),
            ask(executor, other, do="wait", touch=there, until=here),
        )
        await asyncio.gather(executor.unload(one), executor.unload(other))

    runner.run(use())


def test_failures_are_told_from_each_other(executor: RayExecutor, runner: asyncio.Runner) -> None:
    async def fails(work: Any, message: str) -> None:
        with pytest.raises(ExecutorError, match=message) as caught:
            async with asyncio.timeout(LONG):
                await work
        assert not isinstance(caught.value, LostError)
        assert str(caught.value).isprintable()

    async def use() -> None:
        await fails(executor.load(model("broken"), range(1)), "^there are no weights$")
        instance = await executor.load(model(), range(1))
        await fails(executor.call(instance, Call({"do": "fail"})), "^the prompt is bad$")
        await fails(executor.call(instance, Call({"do": "trip"})), "^a bug$")
        await ask(executor, instance)
        await fails(executor.call(instance, Call({"do": "die"})), "the process of m has ended")
        await fails(executor.call(instance, Call()), "the process of m has ended")
        await executor.unload(instance)
        await executor.unload(instance)
        await executor.unload(await executor.load(model(gpus=4), range(4)))
        assert free_gpus() == 8

    runner.run(use())


def test_unloading_waits_for_calls_and_lets_the_model_close(
    executor: RayExecutor, runner: asyncio.Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "_CLOSE", 0.1)  # it counts from the end of the calls
    begun, end, closed = tmp_path / "begun", tmp_path / "end", tmp_path / "closed"

    async def use() -> None:
        instance = await executor.load(model(closed=str(closed)), range(1))
        call = asyncio.create_task(ask(executor, instance, do="wait", touch=str(begun), until=str(end)))
        await appears(begun)
        unloading = asyncio.create_task(executor.unload(instance))
        done, _ = await asyncio.wait({call, unloading}, timeout=0.5)
        assert not done
        assert not closed.exists()
        monkeypatch.undo()
        end.touch()
        await call
        await unloading
        assert closed.exists()

    runner.run(use())


def test_a_call_that_was_given_up_does_not_keep_its_gpus(
    executor: RayExecutor, runner: asyncio.Runner, tmp_path: Path
) -> None:
    begun, closed = tmp_path / "begun", tmp_path / "closed"

    async def use() -> None:
        instance = await executor.load(model(closed=str(closed)), range(1))
        call = asyncio.create_task(ask(executor, instance, do="wait", touch=str(begun), until="never"))
        await appears(begun)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(LONG / 2):
            await executor.unload(instance)
        assert free_gpus() == 8
        assert not closed.exists()

    runner.run(use())


def test_loading_that_was_given_up_does_not_keep_its_gpus(executor: RayExecutor, runner: asyncio.Runner) -> None:
    async def use() -> None:
        loading = asyncio.create_task(executor.load(model(gpus=4, load_until="never"), range(4)))
        while free_gpus() == 8:
            await asyncio.sleep(0.01)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        async with asyncio.timeout(LONG / 2):
            await executor.unload(await executor.load(model(gpus=2), range(2, 4)))
        assert free_gpus() == 8

    runner.run(use())


def test_models_share_a_gpu(executor: RayExecutor, runner: asyncio.Runner) -> None:
    shared = RayExecutor(executor._nodes, Probe, gpu_memory_gb=3.0)

    async def use() -> None:
        gpu, other = range(5, 6), range(6, 7)
        thirds = await asyncio.gather(*(shared.load(model(f"m{i}"), gpu) for i in range(3)))
        alone = await shared.load(model("alone", memory_gb=3.0), other)
        assert free_gpus() == 6
        with pytest.raises(ExecutorError, match="no room for m on GPU 5, which holds m0, m1, m2"):
            await shared.load(model(), gpu)
        told = [(await ask(shared, instance))["gpus"] for instance in (*thirds, alone)]
        assert told[0] == told[1] == told[2] != told[3]
        await shared.unload(thirds[0])
        assert free_gpus() == 6
        again = await shared.load(model(), gpu)
        assert (await ask(shared, again))["gpus"] == told[1]
        await asyncio.gather(*map(shared.unload, (*thirds, alone, again)))
        assert free_gpus() == 8
        with pytest.raises(ExecutorError, match="cannot be shared"):
            await shared.load(model(gpus=2), range(5, 7))

    runner.run(use())


def test_estimates_come_from_profiles(executor: RayExecutor, runner: asyncio.Runner) -> None:
    tokens = Model("m", 1.0, tokens_per_second=10.0, token_mean=50.0)
    assert runner.run(executor.estimate(tokens, range(1), Call({"max_length": 20}, 7.0))) == 2.0
    assert runner.run(executor.estimate(model(), range(1), Call({}, 7.0))) == 7.0


def test_gpus_are_never_used_twice(executor: RayExecutor, runner: asyncio.Runner) -> None:
    rng = random.Random(1)
    gpus = [asyncio.Lock() for _ in range(8)]
    held: dict[tuple[str, str], int] = {}
    most = 0

    async def use(number: int, gang: range) -> None:
        nonlocal most
        for gpu in gang:
            await gpus[gpu].acquire()
        instance = await executor.load(model(gpus=len(gang)), gang)
        told = await ask(executor, instance)
        mine = [(told["address"], gpu) for gpu in told["gpus"]]
        assert len(mine) == len(gang)
        assert held.keys().isdisjoint(mine)
        held.update(dict.fromkeys(mine, number))
        most = max(most, len(held))
        await asyncio.sleep(rng.random() / 10)
        for gpu in mine:
            del held[gpu]
        await executor.unload(instance)
        for gpu in gang:
            gpus[gpu].release()

    async def use_all() -> None:
        async with asyncio.timeout(2 * LONG):
            sizes = [rng.choice((1, 1, 2, 3, 4)) for _ in range(16)]
            starts = [4 * rng.randrange(2) + rng.randrange(5 - size) for size in sizes]
            gangs = [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]
            await asyncio.gather(*(use(i, gang) for i, gang in enumerate(gangs)))

    runner.run(use_all())
    assert most >= 4  # how many at once is up to the machine; the widest gang alone has four
    assert free_gpus() == 8


def test_a_node_that_is_lost_is_replaced(
    cluster: RayCluster, executor: RayExecutor, runner: asyncio.Runner, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"

    async def lose() -> None:
        here, there = await asyncio.gather(*(executor.load(model(gpus=2), range(gpu, gpu + 2)) for gpu in (0, 4)))
        call = asyncio.create_task(ask(executor, there, do="wait", touch=str(begun), until="never"))
        await appears(begun)
        victim = next(node for node in cluster.worker_nodes if node.node_ip_address == "127.0.0.4")
        await asyncio.to_thread(cluster.remove_node, victim, allow_graceful=False)
        with pytest.raises(LostError, match=r"node 127.0.0.4 of the Ray cluster is gone"):
            await call
        assert (await executor.healthy(0), await executor.healthy(1)) == (True, False)
        with pytest.raises(LostError):
            await executor.load(model(), range(6, 7))
        assert (await ask(executor, here))["address"] == "127.0.0.3"

    async def find_another() -> None:
        assert await executor.healthy(1)
        await executor.reset(1)
        instance = await executor.load(model(gpus=4), range(4, 8))
        told = await ask(executor, instance)
        assert (told["address"], told["fresh"]) == ("127.0.0.5", True)
        await executor.unload(instance)
        await executor.reset(0)
        assert free_gpus() == 8

    runner.run(lose())
    cluster.add_node(num_cpus=0, num_gpus=2, node_ip_address="127.0.0.6")  # too small
    assert not runner.run(executor.healthy(1))
    cluster.remove_node(next(node for node in cluster.worker_nodes if node.node_ip_address == "127.0.0.6"))
    cluster.add_node(num_cpus=0, num_gpus=4, node_ip_address="127.0.0.5")
    runner.run(find_another())
