"""gsched as a process: full disks, closed pipes, signals, plain terminals, caches that cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gsched import jit
from gsched.cluster import Cluster
from gsched.simulator import simulate
from gsched.workload import Config, Model, Node, Workflow, Workload

ROOT = Path(__file__).parent.parent
GSCHED = Path(sys.executable).parent / "gsched"
CONFIG = ROOT / "examples" / "documents.json"
GIVEN = ["--config", CONFIG, "--requests", ROOT / "examples" / "documents_requests.yaml"]


def run(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [GSCHED, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)


def test_full_disk_behind_the_output_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [GSCHED, "validate", "--config", CONFIG], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output: cannot be written (No space left on device)")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["validate", "--config", CONFIG], ["simulate", *GIVEN, "--gpus", "8"], ["demo"]])
def test_closed_pipe_is_no_finding(command: list[object], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([GSCHED, *map(str, command)], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_terminal_without_unicode_shows_escapes(tmp_path: Path) -> None:
    done = run("demo", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert r"\xd7 assistant" in done.stdout


@pytest.mark.parametrize(("signal", "status", "told"), [(15, 143, ""), (2, 130, "stopped\n")])
def test_a_signal_leaves_no_files(tmp_path: Path, signal: int, status: int, told: str) -> None:
    policy = f"class Doomed:\n    def choose(self, view):\n        import os\n        os.kill(os.getpid(), {signal})\n"
    (tmp_path / "doomed.py").write_text(policy)
    done = run("simulate", *GIVEN, "--gpus", "8", "--policy", "doomed.py:Doomed", "--out", "out", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", told)
    assert not (tmp_path / "out").exists()


def test_termination_removes_unfinished_files(tmp_path: Path) -> None:
    code = """
import os, pathlib, gsched.cli, gsched.files
gsched.cli._prepare_process()
with gsched.files.whole_file(pathlib.Path("log.json")) as file:
    assert os.listdir()
    os.kill(os.getpid(), 15)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "_Termination" in done.stderr
    assert list(tmp_path.iterdir()) == []


def chain(count: int) -> Workload:
    config = Config({"m": Model("m", 1.0)}, {"w": Workflow("w", (Node("a", "m"), Node("b", "m")), ((0, 1),))})
    ids = [f"r{i}" for i in range(count)]
    return Workload(config, ids, np.zeros(count, np.int32), np.zeros(count, np.int64), np.ones(2 * count))


CODE = """
import sys; sys.path.insert(0, {tests!r})
from test_process import chain
import gsched
print(gsched.simulate(chain(9), gsched.Cluster(2), compile=True).summary["makespan"])
"""


def test_unusable_cache_is_told_and_nothing_is_kept_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code = CODE.format(tests=str(Path(__file__).parent))
    environment = os.environ | {"GSCHED_CACHE_DIR": str(tmp_path / "file" / "x")}
    before = sorted(Path(jit.__file__).parent.rglob("*.nb?"))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    expected = simulate(chain(9), Cluster(2), compile=False).summary["makespan"]
    assert done.stdout == f"{expected}\n"
    assert "compiled code cannot be kept in" in done.stderr
    assert sorted(Path(jit.__file__).parent.rglob("*.nb?")) == before


USER_POLICY = """
import sys; sys.path.insert(0, {tests!r}); sys.path.insert(0, {here!r})
from test_process import chain
import gsched, mine
policy = gsched.Policy("mine", mine.choose, compilable=True)
print(gsched.simulate(chain(9), gsched.Cluster(4), policy, compile=True).summary["makespan"])
"""

MINE = """
from gsched.core import WAIT, backlog, idle_gang
from gsched.jit import kernel

@kernel
def choose(core, table):
    if backlog(core, 0) == 0 or core.gpus.count[0] <= {spare}:
        return WAIT
    return 0, idle_gang(core, 0)
"""


def test_compiled_policy_follows_its_source(tmp_path: Path) -> None:
    """numba alone would not notice that a function in another file has changed."""
    code = USER_POLICY.format(tests=str(Path(__file__).parent), here=str(tmp_path))
    environment = os.environ | {"GSCHED_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    makespans = []
    for spare in (0, 3):
        (tmp_path / "mine.py").write_text(MINE.format(spare=spare))
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        makespans.append(float(done.stdout))
    assert makespans[0] < makespans[1]
