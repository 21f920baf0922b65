"""The executor for model servers, against real ones whose backend the tests hold by the hand."""

import asyncio

import pytest
from model_servers import Held, model_server
from serving import in_loop, until

from gsched.errors import InputError
from gsched.live.run.executors import Call, ExecutorError, LostError, http
from gsched.workload import Model

MODEL = Model("a", 8.0)


@in_loop
async def test_a_load_that_is_given_up_is_freed_once_it_is_there() -> None:
    held = Held(hold={"load a"})
    async with model_server(held) as running:
        executor = http.connect([f"http://127.0.0.1:{running.port}"])
        executor.own([1])
        loading = asyncio.create_task(executor.load(MODEL, range(1)))
        await held.began("load a")
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        held.let_go("load a")
        await held.began("close a")
        await until(lambda: not running.service.instances)
        held.hold.clear()
        await executor.load(MODEL, range(1))
        assert len(running.service.instances) == 1
        await executor.close()
        assert not running.service.instances


@in_loop
async def test_failures_are_told_apart_from_lost_servers() -> None:
    held = Held(fail={"bad"})
    async with model_server(held) as running:
        executor = http.connect([f"http://127.0.0.1:{running.port}"])
        executor.own([1])
        instance = await executor.load(MODEL, range(1))
        answer = await executor.call(instance, Call({"prompt": "good"}))
        assert answer.output == "good answered"
        with pytest.raises(ExecutorError, match=r"500: .*bad has failed") as failed:
            await executor.call(instance, Call({"prompt": "bad"}))
        assert not isinstance(failed.value, LostError)
        assert await executor.healthy(0)
        await executor.unload(instance)
        await executor.unload(instance)  # it is gone already
    assert not await executor.healthy(0)
    with pytest.raises(LostError, match="cannot be reached"):
        await executor.load(MODEL, range(1))
    await executor.close()


@in_loop
async def test_servers_must_agree_on_the_time_scale() -> None:
    async with model_server(Held()) as one, model_server(Held()) as other:
        other.service.time_scale = 0.5
        executor = http.connect([f"http://127.0.0.1:{server.port}" for server in (one, other)])
        with pytest.raises(InputError, match="different time scales"):
            await executor.ask()
        await executor.close()
