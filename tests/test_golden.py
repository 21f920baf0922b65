"""What a run writes, byte for byte. `python tests/test_golden.py` renews the files after a change that is meant."""

import contextlib
from pathlib import Path

import pytest

from gsched.cli import main

GOLDEN = Path(__file__).parent / "golden"
CONFIG = Path(__file__).parent.parent / "examples" / "documents.json"
FILES = ("baseline_execution_log.json", "baseline_scheduler.log")


def run(folder: Path) -> None:
    words = ["--config", CONFIG, "--requests", GOLDEN / "requests.yaml", "--gpus", "6", "--gpus-per-server", "4"]
    with contextlib.suppress(SystemExit):
        main(["simulate", *map(str, words), "--mode", "online", "--out", str(folder), "--quiet"])


@pytest.mark.parametrize("name", FILES)
def test_run_writes_the_same_bytes(name: str, tmp_path: Path) -> None:
    run(tmp_path)
    assert (tmp_path / name).read_text() == (GOLDEN / name).read_text()


if __name__ == "__main__":
    run(GOLDEN)
