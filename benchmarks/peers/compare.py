"""The same model behind gsched, NVIDIA Triton and Ray Serve, under the same load, side by side.

Usage: python compare.py --triton-python PATH --ray-python PATH

Triton (pytriton) and Ray are large and want dependencies of their own, so each has an environment of its own, with
`nvidia-pytriton onnxruntime` and `ray[serve] onnxruntime` in it. All compute the small ResNet-50 with onnxruntime on
one thread, one batch of up to 8 at a time, with at most 512 requests waiting. Triton gets tiers as its three priority
levels and SLOs as its timeouts in the queue; Ray Serve knows neither.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np

from gsched.live.loadgen.class_process import ClassPlan
from gsched.live.loadgen.metrics import latencies_ms
from gsched.live.loadgen.plans import class_seeds
from gsched.live.loadgen.protocols import Ask, OpenInferenceProtocol, SchedulerProtocol, WireProtocol
from gsched.live.loadgen.run import ClassRun, run_load
from gsched.live.loadgen.schedule import Schedule, draw_schedule
from gsched.live.loadgen.sut import Connection
from gsched.live.loadgen.workload_config import INPUT_SHAPE, WORKLOAD_DISTRIBUTIONS
from gsched.live.scheduler.graphs import model_file

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
GSCHED = Path(sys.executable).parent / "gsched"
PORT = 18_500


@contextmanager
def server(command: Sequence[object], protocol: WireProtocol, environment: Mapping[str, str]) -> Iterator[None]:
    """Run a server until it has answered a request; end it afterwards, with all that it started."""
    with tempfile.TemporaryDirectory() as home, (Path(home) / "log").open("w") as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            env=os.environ | environment | {"HOME": home},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_until_ready(protocol)
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_until_ready(protocol: WireProtocol) -> None:
    """Ask until there is an answer."""
    tensor = np.zeros(INPUT_SHAPE, np.float32)
    with grpc.insecure_channel(f"127.0.0.1:{PORT}") as channel:
        call = channel.unary_unary(protocol.method)
        end = time.monotonic() + 90
        while True:
            ask = Ask(1, time.time_ns() + 10**10, 10**10, "resnet50", tensor)
            try:
                if protocol.read(call(protocol.encode(ask), timeout=5), ask)[0] == "done":
                    return
            except grpc.RpcError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.2)


def offer(protocol: WireProtocol, qps: float, seconds: float) -> list[ClassRun]:
    """Offer a balanced load, all of it for one model."""
    seeds = class_seeds(1)
    plans = []
    for (tier, slo), share in WORKLOAD_DISTRIBUTIONS["balanced"].items():
        drawn = draw_schedule("poisson", share * qps, seconds, 1.0, seeds[tier, slo][0])
        schedule = Schedule(drawn.times, ["resnet50"] * len(drawn.times))
        connection = Connection(f"127.0.0.1:{PORT}", protocol=protocol)
        plans.append(ClassPlan(tier, slo, share * qps, seconds, connection, seeds[tier, slo], schedule=schedule))
    return run_load(plans)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--triton-python", type=Path)
    parser.add_argument("--ray-python", type=Path)
    parser.add_argument("--qps", type=float, nargs="*", default=[100.0, 300.0, 450.0])
    parser.add_argument("--seconds", type=float, default=15.0)
    arguments = parser.parse_args()
    model = model_file("resnet50", None, "small")
    gsched = [GSCHED, "serve", "--port", PORT, "--size", "small", "--model", "resnet50", "--log-level", "warning"]
    ours, theirs = SchedulerProtocol(), OpenInferenceProtocol()
    servers: dict[str, tuple[Sequence[object], WireProtocol, Mapping[str, str]]] = {
        "gsched tiered": (gsched, ours, {}),
        "gsched fifo": ([*gsched, "--policy", "fifo", "--no-admission", "--no-drop"], ours, {}),
    }
    if arguments.triton_python:
        library = Path(sys.base_prefix) / "lib"
        command = [arguments.triton_python, HERE / "triton_server.py", model, PORT]
        servers["Triton"] = (command, theirs, {"LD_LIBRARY_PATH": str(library)})
    if arguments.ray_python:
        command = [arguments.ray_python, HERE / "ray_server.py", model, PORT]
        path = f"{SOURCE}:{SOURCE / 'gsched/live/loadgen/generated'}"
        servers["Ray Serve"] = (command, ours, {"PYTHONPATH": path, "RAY_AUTH_MODE": "disabled"})
    print("server         offered/s  in time/s  tier 1  tier 2  tier 3   p50 ms   p99 ms")
    for qps in arguments.qps:
        for name, (command, protocol, environment) in servers.items():
            with server(command, protocol, environment):
                runs = offer(protocol, qps, arguments.seconds)
            records = [record for run in runs for record in run.records]
            shares = []
            for tier in (1, 2, 3):
                met = [record["slo_met"] for record in records if record["tier"] == tier]
                shares.append(f"{sum(met) / len(met):6.1%}")
            p50, p99 = np.percentile(latencies_ms(records), [50, 99])
            kept = sum(record["slo_met"] for record in records) / arguments.seconds
            offered = len(records) / arguments.seconds
            print(f"{name:14} {offered:9.1f}  {kept:9.1f}  {'  '.join(shares)}  {p50:7.1f}  {p99:7.1f}", flush=True)


if __name__ == "__main__":
    main()
