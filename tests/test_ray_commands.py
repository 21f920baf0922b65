"""Commands that use a Ray cluster: a real one of two nodes with four imaginary GPUs each."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from test_run_cli import CONFIG, GSCHED, checked
from test_sweep import without_time

from gsched.generator import generate
from gsched.load import load_config, save_requests
from gsched.sweep.results import read_results

NODES = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster()
for address in ("127.0.0.2", "127.0.0.3"):
    cluster.add_node(num_gpus=4, num_cpus=1, node_ip_address=address, include_dashboard=False)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("home")
    return os.environ | {"HOME": str(home), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="module")
def address(environment: dict[str, str]) -> Iterator[str]:
    if find_spec("ray") is None:
        reason = "ray is missing; install the extra ray"
        (pytest.fail if os.environ.get("GSCHED_REQUIRE_ALL") else pytest.skip)(reason)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", NODES], **pipes, text=True, env=environment) as cluster:
        assert cluster.stdout
        yield next(line for line in cluster.stdout if re.match(r"127\.", line)).strip()
        cluster.communicate(timeout=60)


def test_a_workload_runs_on_two_nodes(tmp_path: Path, address: str, environment: dict[str, str]) -> None:
    """8 imaginary GPUs, gangs of up to four."""
    few = tmp_path / "few.yaml"
    save_requests(generate(load_config(CONFIG), 12, seed=5), few)
    words = ["--config", CONFIG, "--requests", few, "--executor", "ray", "--ray-address", address]
    more = ["--time-scale", "0.001", "--policy", "improved", "--out", tmp_path, "--json"]
    done = subprocess.run([GSCHED, "run", *words, *more], capture_output=True, text=True, env=environment, timeout=150)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)["summary"]
    assert (summary["executor"], summary["gpus_per_server"], len(summary["gpus"])) == ("ray", 4, 8)
    assert summary["completed_requests"] == 12
    checked(tmp_path, few, "improved")


def test_a_sweep_on_two_nodes_is_the_same_as_here(tmp_path: Path, address: str, environment: dict[str, str]) -> None:
    words = ["--config", CONFIG, "--num-requests", "10", "--gpus", "4,8", "--seeds", "2", "--policy", "improved"]
    for place in (["--ray", address], ["--workers", "1"]):
        command = [GSCHED, "bench", *words, *place, "--out", tmp_path / place[0], "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=150)
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    there, here = read_results(tmp_path / "--ray"), read_results(tmp_path / "--workers")
    assert len(there.runs) == 4
    assert without_time(there.runs) == without_time(here.runs)


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path, environment: dict[str, str]) -> None:
    words = ["--config", CONFIG, "--num-requests", "5", "--gpus", "8", "--ray", "nowhere", "--out", tmp_path / "x"]
    done = subprocess.run([GSCHED, "bench", *words], capture_output=True, text=True, env=environment, timeout=100)
    assert done.returncode == 2
    assert done.stderr.startswith("error: Ray cluster nowhere: cannot be joined")
    assert done.stderr.count("\n") == 1
