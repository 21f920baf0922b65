"""The model server over HTTP: its wire format, its refusals, and what happens when things happen at once."""

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from model_servers import Held, model_server
from serving import in_loop, until

from gsched.errors import InputError
from gsched.live.model_server.app import MAX_BODY
from gsched.live.model_server.backends import UnknownModelError
from gsched.live.model_server.backends.emulated import Emulated
from gsched.live.model_server.images import ImageFolder
from gsched.live.model_server.launch import Access, serve
from gsched.workload import Model

LLM = Model("writer", 30.0, name="Small/Writer", tokens_per_second=10.0, token_mean=40.0)
PAINTER = Model("painter", 12.0, type="image_generation", inference_time_mean=6.0, config={"steps": 20})


def instant(tmp_path: Path | None = None) -> Emulated:
    return Emulated(time_scale=1e-6, images=ImageFolder(tmp_path))


# The wire format


@in_loop
async def test_client_that_knows_the_wire_format_only(tmp_path: Path) -> None:
    async with model_server(instant(tmp_path), models=[LLM, PAINTER], time_scale=1e-6) as server:
        status, health = await server.ask("GET", "/health")
        assert (status, health["status"]) == (200, "healthy")
        name = "Small/Writer"
        await server.done("POST", "/standalone/download", {"model_name": name, "source": "huggingface"})
        await server.done("POST", "/standalone/load", {"model_name": name, "target": "dram"})
        made = await server.done("POST", "/standalone/serve", {"model_name": name, "device": ["cuda:0", "cuda:1"]})
        id = made["instance_id"]
        assert len(id) == 6
        assert made["model_name"] == name
        assert (made["device"], made["devices"]) == ("cuda:0,1", ["cuda:0", "cuda:1"])
        assert made["port"] == server.port
        assert made["endpoint"] == f"/standalone/call/{id}"
        assert made["url"] == f"http://127.0.0.1:{server.port}/standalone/call/{id}"
        assert "created_at" in made
        data = {"prompt": "Hello", "max_length": 20, "temperature": 0.7, "of the client's own": [1, {}]}
        asked = {"instance_id": id, "data": data}
        answer = await server.done("POST", f"/standalone/call/{id}", asked)
        assert isinstance(answer["response"], str)
        assert "image_path" not in answer
        assert answer["instance_id"] == id
        assert answer["port"] == server.port
        assert answer["device_used"] == "cuda:0,1"
        assert answer["model_type"] == "llm"
        assert answer["execution_seconds"] >= 0
        assert answer["queue_seconds"] >= 0
        guess = await server.done("POST", f"/standalone/estimate/{id}", asked)
        assert guess["estimated_time_unit"] == "seconds"
        assert guess["device"] == "cuda:0,1"
        for body in ({"model_name": name, "target": "dram"}, {"model_name": name, "target": "disk"}):
            await server.done("POST", "/standalone/offload", body)
        assert (await server.status())["instances"] == []


@in_loop
async def test_images_lie_where_the_answer_says(tmp_path: Path) -> None:
    async with model_server(instant(tmp_path / "made"), models=[PAINTER]) as server:
        answer = await server.call(await server.serve("painter"), "a cat", steps=2, guidance_scale=7.5, width=64)
        assert "response" not in answer
        path = Path(answer["image_path"])
        assert path.parent == tmp_path / "made"
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@in_loop
async def test_status_tells_everything() -> None:
    async with model_server(Held(), models=[LLM], dram=100.0, time_scale=0.5, max_queue=7) as server:
        id = await server.serve("writer", "cuda:0,1")
        await server.call(id, "x")
        await server.done("POST", "/standalone/load", {"model_name": "writer"})
        status = await server.status()
        assert (status["backend"], status["time_scale"], status["max_queue"]) == ("held", 0.5, 7)
        cpu, first, second = status["devices"]
        assert (cpu["memory_total_gb"], cpu["memory_used_gb"]) == (100, 30)
        assert first | {"name": "cuda:1"} == second
        assert first == {
            "name": "cuda:0",
            "memory_total_gb": 80,
            "memory_used_gb": 15,
            "busy": False,
            "instances": [id],
        }
        [model] = status["models"]
        assert (model["model_name"], model["status"], model["in_dram"]) == ("writer", "served", True)
        [instance] = status["instances"]
        assert (instance["status"], instance["calls_served"], instance["calls_waiting"]) == ("serving", 1, 0)


@in_loop
async def test_root_leads_to_documents_and_every_route_is_typed() -> None:
    async with model_server(Held()) as server:
        async with server.http.get("/", allow_redirects=False) as response:
            assert response.headers["location"] == "/docs"
        async with server.http.get("/openapi.json") as response:
            paths = (await response.json())["paths"]
        assert sorted(paths) == [
            "/health",
            *(
                f"/standalone/{name}"
                for name in ("call/{instance_id}", "download", "estimate", "estimate/{instance_id}")
            ),
            *(f"/standalone/{name}" for name in ("instance/{instance_id}", "load", "offload", "serve", "status")),
        ]
        for routes in paths.values():
            for route in routes.values():
                assert route["responses"]["200"]["content"]["application/json"]["schema"]


# Estimates


@in_loop
async def test_estimates_go_by_profile_then_by_what_was_measured() -> None:
    async with model_server(instant(), models=[LLM, PAINTER]) as server:

        async def estimated(name: str, **data: Any) -> tuple[float, str]:
            body = {"model_name": name, "device": "cuda:0", "data": data}
            found = await server.done("POST", "/standalone/estimate", body)
            return found["estimated_execution_time"], found["data_features"]["basis"]

        assert await estimated("writer", max_length=20) == (2.0, "tokens")
        assert await estimated("writer") == (4.0, "profile")
        assert await estimated("painter", steps=10) == (3.0, "steps")
        assert await estimated("painter") == (6.0, "profile")
        assert await estimated("writer", seconds=9, max_length=20) == (9.0, "seconds")
        server.service.estimates.measured(LLM, {"max_length": 20}, 3.0)
        assert await estimated("writer", max_length=40) == (6.0, "tokens")
        server.service.estimates.measured(LLM, {"max_length": 20}, 1.0)
        assert await estimated("writer", max_length=40) == (4.0, "tokens")


@in_loop
async def test_calls_are_measured_in_seconds_of_the_workload() -> None:
    async with model_server(Held(), models=[LLM], time_scale=0.01) as server:
        answer = await server.call(await server.serve("writer"), "x", max_length=10)
        guess = server.service.estimates.seconds(LLM, {"max_length": 10})
        assert guess == pytest.approx(answer["execution_seconds"] / 0.01)


# Refusals


@in_loop
async def test_what_is_not_there() -> None:
    async with model_server(Held()) as server:
        body = {"data": {"prompt": "x"}}
        for method, path, given in (
            ("POST", "/standalone/call/abc123", body),
            ("POST", "/standalone/estimate/abc123", body),
            ("DELETE", "/standalone/instance/abc123", None),
        ):
            assert "abc123 does not exist" in await server.refused(404, method, path, given)
        offload = {"model_name": "nobody/knows", "target": "disk"}
        assert "nobody/knows is not here" in await server.refused(404, "POST", "/standalone/offload", offload)
        await server.refused(404, "GET", "/standalone/nothing")


@in_loop
@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("serve", {"device": "cuda:0"}, "model_name"),
        ("serve", {"model_name": "a", "device": "cuda:2"}, "cuda:2 does not exist"),
        ("serve", {"model_name": "a", "device": "cuda:0,0"}, "each once"),
        ("serve", {"model_name": "a", "device": ["cpu", "cuda:0"]}, "or else cpu"),
        ("serve", {"model_name": "a", "device": []}, "device"),
        ("serve", {"model_name": "a", "device": "tpu:0"}, "'tpu:0' is not of the form"),
        ("serve", {"model_name": "a", "device": "cuda:0,\n1"}, "is not of the form"),
        ("serve", {"model_name": "a", "device": "cuda:\u0661"}, "is not of the form"),
        ("serve", {"model_name": "", "device": "cpu"}, "model_name"),
        ("serve", {"model_name": "a\nb", "device": "cpu"}, "printable"),
        ("serve", {"model_name": "a" * 257, "device": "cpu"}, "256"),
        ("serve", ["no object"], "body"),
        ("load", {"model_name": "a", "target": "moon"}, "target"),
        ("load", {"model_name": "a", "target": "gpu"}, "device must name"),
        ("offload", {"model_name": "a", "target": "gpu"}, "target"),
        ("estimate", {"model_name": "a", "device": "cpu", "data": 1}, "data"),
    ],
)
async def test_malformed_requests_are_told_in_one_line(path: str, body: Any, told: str) -> None:
    async with model_server(Held()) as server:
        assert told in await server.refused(422, "POST", f"/standalone/{path}", body)


@in_loop
@pytest.mark.parametrize(
    "data",
    [
        {"max_length": 0},
        {"max_length": 1.5},
        {"max_length": 10**7},
        {"temperature": -1},
        {"steps": 10**5},
        {"guidance_scale": float("nan")},
        {"width": 10**6},
        {"seconds": float("inf")},
        {"seconds": -1},
        {"prompt": 1},
        [],
    ],
    ids=str,
)
async def test_data_out_of_bounds(data: Any) -> None:
    async with model_server(Held()) as server:
        id = await server.serve("a")
        for kind in ("call", "estimate"):
            detail = await server.refused(422, "POST", f"/standalone/{kind}/{id}", {"data": data})
            assert detail.startswith("body.data")
        other = {"instance_id": "000000", "data": {}}
        assert "not that of the path" in await server.refused(422, "POST", f"/standalone/call/{id}", other)


@in_loop
async def test_bodies_are_bounded_also_in_chunks() -> None:
    async with model_server(Held()) as server:
        body = json.dumps({"model_name": "a", "source": "x" * MAX_BODY}).encode()

        async def chunks() -> Any:
            for at in range(0, len(body), 1 << 16):
                yield body[at : at + (1 << 16)]

        headers = {"content-type": "application/json"}
        for sent in (io.BytesIO(body), chunks()):
            async with server.http.post("/standalone/download", data=sent, headers=headers) as response:
                assert response.status == 413
                assert "1,048,576 bytes" in (await response.json())["detail"]
        fits = {"instance_id": "x", "data": {"prompt": "x" * (MAX_BODY - 100)}}
        await server.refused(404, "POST", "/standalone/call/x", fits)
        for bad in (b"{", b"[" * 100_000, b"\xff", b"1" * 10_000):
            async with server.http.post("/standalone/download", data=bad, headers=headers) as response:
                assert response.status in (400, 422)
                assert isinstance((await response.json())["detail"], str)


@in_loop
async def test_token_is_asked_for_everywhere_but_in_health() -> None:
    async with model_server(Held(), access=Access(port=0, token="secret")) as server:
        await server.serve("a")
        for given in ({"Authorization": "Bearer secreT"}, {"Authorization": "secret"}, {"Authorization": ""}):
            status, answer = await server.ask("GET", "/standalone/status", headers=given)
            assert (status, list(answer)) == (401, ["detail"])
            assert (await server.ask("GET", "/health", headers=given))[0] == 200


# Memory


@in_loop
async def test_memory_is_shared_out_and_given_back() -> None:
    async with model_server(Held(), models=[LLM]) as server:  # 30 GB each, 80 GB a GPU
        ids = [await server.serve("writer"), await server.serve("writer")]
        body = {"model_name": "writer", "device": "cuda:0"}
        for path, more in (("serve", {}), ("load", {"target": "gpu"})):
            detail = await server.refused(507, "POST", f"/standalone/{path}", body | more)
            assert "needs 30 GB on cuda:0, which has 80 GB" in detail
            assert f"writer ({ids[0]}) holds 30 GB, writer ({ids[1]}) holds 30 GB" in detail
        await server.serve("writer", "cuda:0,1")
        assert [device["memory_used_gb"] for device in (await server.status())["devices"]] == [0, 75, 15]
        await server.unload(ids[0])
        await server.serve("writer")
        assert [device["memory_used_gb"] for device in (await server.status())["devices"]] == [0, 75, 15]


@in_loop
async def test_memory_of_the_cpu_is_counted_when_its_size_is_given() -> None:
    async with model_server(Held(), models=[LLM], dram=50.0) as server:
        await server.done("POST", "/standalone/load", {"model_name": "writer"})
        await server.done("POST", "/standalone/load", {"model_name": "writer"})  # is there already
        serve = {"model_name": "writer", "device": "cpu"}
        assert "writer (copy) holds 30 GB" in await server.refused(507, "POST", "/standalone/serve", serve)
        gone = await server.done("POST", "/standalone/offload", {"model_name": "writer", "target": "disk"})
        assert gone["status"] == "disk"
        await server.serve("writer", "cpu")


@in_loop
async def test_failed_load_leaves_nothing() -> None:
    held = Held(fail={"load a"})
    async with model_server(held) as server:
        serve = {"model_name": "a", "device": "cuda:0,1"}
        assert "load a has failed" in await server.refused(500, "POST", "/standalone/serve", serve)
        status = await server.status()
        assert status["instances"] == []
        assert all(not device["busy"] and device["memory_used_gb"] == 0 for device in status["devices"])
        await server.serve("b", "cuda:0,1")


@in_loop
async def test_devices_are_fresh_until_something_was_loaded() -> None:
    held = Held()
    async with model_server(held) as server:
        for device in ("cuda:0", "cuda:0,1", "cuda:1", "cpu"):
            await server.unload(await server.serve("a", device))
    assert held.fresh == [True, False, False, True]


@in_loop
async def test_what_was_loaded_onto_gpus_is_served_once() -> None:
    async with model_server(Held()) as server:
        body = {"model_name": "a", "device": "cuda:1"}
        loaded = await server.done("POST", "/standalone/load", body | {"target": "gpu"})
        assert loaded["status"] == "loaded"
        other = await server.serve("a", "cuda:0")
        assert other != loaded["instance_id"]
        assert await server.serve("a", "cuda:1") == loaded["instance_id"]
        assert await server.serve("a", "cuda:1") != loaded["instance_id"]


# At once


@in_loop
async def test_server_answers_during_calls_and_loads() -> None:
    held = Held(hold={"x", "load slow"})
    async with model_server(held) as server:
        id = await server.serve("a")
        calling = asyncio.create_task(server.call(id, "x"))
        loading = asyncio.create_task(server.serve("slow", "cuda:1"))
        await held.began("x")
        await held.began("load slow")
        assert (await server.ask("GET", "/health"))[0] == 200
        status = await server.status()
        assert [device["busy"] for device in status["devices"]] == [False, True, True]
        [_, slow] = status["instances"]
        assert slow["status"] == "loading"
        path = f"/standalone/call/{slow['instance_id']}"
        assert "is loading" in await server.refused(409, "POST", path, {"data": {}})
        await server.refused(409, "DELETE", f"/standalone/instance/{slow['instance_id']}")
        await server.refused(409, "POST", "/standalone/offload", {"model_name": "slow"})
        held.let_go("x", "load slow")
        await asyncio.gather(calling, loading)


@in_loop
async def test_calls_run_in_the_order_in_which_they_came_whatever_their_instance() -> None:
    held = Held(hold={"1"})
    async with model_server(held) as server:
        a, b = await server.serve("a"), await server.serve("b")
        wide = await server.serve("wide", "cuda:0,1")
        other = await server.serve("other", "cuda:1")
        first = asyncio.create_task(server.call(a, "1"))
        await held.began("1")
        names = {"2": a, "3": wide, "4": b, "5": other, "6": a}
        waiting = [await server.queued(id, prompt) for prompt, id in names.items()]
        assert held.begun[-1] == "1"  # nobody has overtaken, not even on the idle GPU
        held.let_go("1")
        answers = await asyncio.gather(first, *waiting)
        order = [prompt for prompt in held.begun if prompt.isdecimal()]
        assert order[:3] == ["1", "2", "3"]
        assert order.index("4") < order.index("6")
        assert answers[1]["queue_seconds"] > 0


@in_loop
async def test_other_devices_go_on() -> None:
    held = Held(hold={"1"})
    async with model_server(held) as server:
        a, b, c = await server.serve("a"), await server.serve("b", "cuda:1"), await server.serve("c", "cpu")
        first = asyncio.create_task(server.call(a, "1"))
        await held.began("1")
        await server.call(b, "2")
        await server.call(c, "3")
        held.let_go("1")
        await first


@in_loop
async def test_queue_is_bounded() -> None:
    held = Held(hold={"1"})
    async with model_server(held, max_queue=2) as server:
        id = await server.serve("a")
        calls = [asyncio.create_task(server.call(id, "1"))]
        await held.began("1")
        calls += [await server.queued(id, prompt) for prompt in "23"]
        detail = await server.refused(503, "POST", f"/standalone/call/{id}", {"data": {"prompt": "4"}})
        assert "2 calls are waiting" in detail
        await server.refused(503, "POST", "/standalone/serve", {"model_name": "b", "device": "cuda:0"})
        await server.serve("b", "cuda:1")
        held.let_go("1")
        await asyncio.gather(*calls)
        await server.call(id, "5")
        assert "4" not in held.begun


@in_loop
@pytest.mark.parametrize("way", ["delete", "disk", "dram"])
async def test_unloading_waits_for_calls_and_takes_no_new_ones(way: str) -> None:
    held = Held(hold={"1"})
    async with model_server(held) as server:
        id = await server.serve("a")
        running = asyncio.create_task(server.call(id, "1"))
        await held.began("1")
        waiting = await server.queued(id, "2")
        if way == "delete":
            unloading = asyncio.create_task(server.unload(id))
        else:
            body = {"model_name": "a", "target": way}
            unloading = asyncio.create_task(server.done("POST", "/standalone/offload", body))
        await until(lambda: server.service.instances[id].leaving)
        call = {"data": {"prompt": "3"}}
        assert "is unloading" in await server.refused(409, "POST", f"/standalone/call/{id}", call)
        assert "is unloading" in await server.refused(409, "DELETE", f"/standalone/instance/{id}")
        assert not unloading.done()
        held.let_go("1")
        assert (await running)["response"] == "1 answered"
        assert (await waiting)["response"] == "2 answered"
        await unloading
        assert held.begun == ["load a", "1", "2", "close a"]
        status = await server.status()
        assert status["instances"] == []
        assert status["models"][0]["status"] == ("dram" if way == "dram" else "disk")


@in_loop
async def test_offload_waits_for_instances_that_are_leaving_already() -> None:
    held = Held(hold={"close a"})
    async with model_server(held) as server:
        id = await server.serve("a")
        unloading = asyncio.create_task(server.unload(id))
        await held.began("close a")
        offloading = asyncio.create_task(server.service.offload("a", keep_in_dram=False))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not offloading.done()
        held.let_go("close a")
        await asyncio.gather(unloading, offloading)


@in_loop
async def test_calls_of_clients_that_left_are_dropped() -> None:
    held = Held(hold={"1"})
    async with model_server(held) as server:
        id = await server.serve("a")
        running = asyncio.create_task(server.call(id, "1"))
        await held.began("1")
        leaving = await server.queued(id, "2")
        staying = await server.queued(id, "3")
        leaving.cancel()
        await until(lambda: server.service.turns.waiting == 1)
        held.let_go("1")
        await asyncio.gather(running, staying)
        assert held.begun == ["load a", "1", "3"]


@in_loop
async def test_failed_call_frees_the_device() -> None:
    held = Held(fail={"1"})
    async with model_server(held) as server:
        id = await server.serve("a")
        call = {"data": {"prompt": "1"}}
        assert await server.refused(500, "POST", f"/standalone/call/{id}", call) == "1 has failed"
        await server.call(id, "2")
        assert (await server.status())["instances"][0]["calls_served"] == 1


class Broken(Held):
    """Fails in a way that no backend may."""

    def work(self, what: str) -> None:
        if what == "bug":
            raise ZeroDivisionError


@in_loop
async def test_bug_in_a_backend_is_an_answer_too(caplog: pytest.LogCaptureFixture) -> None:
    async with model_server(Broken()) as server:
        id = await server.serve("a")
        detail = await server.refused(500, "POST", f"/standalone/call/{id}", {"data": {"prompt": "bug"}})
        assert "its log says more" in detail
        await server.call(id, "2")
    assert "ZeroDivisionError" in caplog.text


class Distant(Held):
    """Knows the models `a` and `b`, and counts how often they are fetched."""

    fetched: tuple[str, ...] = ()

    def fetch(self, model: Model) -> None:
        self.fetched += (model.id,)
        self.work(f"fetch {model.id}")
        if model.id not in ("a", "b"):
            raise UnknownModelError(f"no model {model.id}")


@in_loop
async def test_models_are_fetched_once() -> None:
    distant = Distant(hold={"fetch a"})
    async with model_server(distant) as server:
        serving = [asyncio.create_task(server.serve("a", f"cuda:{i}")) for i in range(2)]
        await distant.began("fetch a")
        assert (await server.status())["models"] == []
        await server.refused(404, "POST", "/standalone/offload", {"model_name": "a"})
        distant.let_go("fetch a")
        await asyncio.gather(*serving)
        assert distant.fetched == ("a",)
        for path in ("download", "load", "serve"):
            body = {"model_name": "c", "device": "cuda:0"}
            assert await server.refused(404, "POST", f"/standalone/{path}", body) == "no model c"
        assert [model["model_name"] for model in (await server.status())["models"]] == ["a"]


# The end


@in_loop
async def test_shutdown_finishes_calls_and_refuses_new_ones() -> None:
    held = Held(hold={"1"})
    async with model_server(held) as server:
        id = await server.serve("a")
        running = asyncio.create_task(server.call(id, "1"))
        await held.began("1")
        waiting = await server.queued(id, "2")
        server.stop.set()
        await until(lambda: server.service.closing)
        for method, path, body in (
            ("POST", f"/standalone/call/{id}", {"data": {}}),
            ("POST", "/standalone/serve", {"model_name": "a", "device": "cpu"}),
            ("POST", "/standalone/offload", {"model_name": "a"}),
            ("DELETE", f"/standalone/instance/{id}", None),
            ("GET", "/health", None),
        ):
            assert "shutting down" in await server.refused(503, method, path, body)
        held.let_go("1")
        assert (await running)["response"] == "1 answered"
        assert (await waiting)["response"] == "2 answered"
        assert await server.task is True


@in_loop
async def test_shutdown_without_grace_refuses_what_is_there() -> None:
    held = Held(hold={"1"})
    async with model_server(held, access=Access(port=0, grace=0)) as server:
        id = await server.serve("a")
        path = f"/standalone/call/{id}"
        running = asyncio.create_task(server.refused(503, "POST", path, {"data": {"prompt": "1"}}))
        await held.began("1")
        waiting = asyncio.create_task(server.refused(503, "POST", path, {"data": {"prompt": "2"}}))
        await until(lambda: server.service.turns.waiting == 1)
        server.stop.set()
        assert await asyncio.gather(running, waiting) == ["the server is shutting down"] * 2
        assert await server.task is False
        assert held.ended == ["load a"]
        held.let_go("1")


@in_loop
async def test_port_has_one_server() -> None:
    async with model_server(Held()) as server:
        with pytest.raises(InputError, match=r"cannot be listened on .*; choose another --port"):
            await serve(
                lambda: server.service, Access(port=server.port), lambda _: pytest.fail("it listens"), asyncio.Event()
            )
