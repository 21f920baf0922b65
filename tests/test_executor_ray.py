"""The Ray executor. Its tests are in `ray_cases.py`, and run in a process of their own, which they share."""

import ast
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

CASES = Path(__file__).with_name("ray_cases.py")
NAMES = [part.name for part in ast.parse(CASES.read_text()).body if getattr(part, "name", "").startswith("test_")]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Run all cases, and return what went wrong in each."""
    if find_spec("ray") is None:
        reason = "ray is missing; install the extra ray"
        (pytest.fail if os.environ.get("GSCHED_REQUIRE_ALL") else pytest.skip)(reason)
    folder = tmp_path_factory.mktemp("ray")
    env = os.environ | {"HOME": str(folder), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    env.pop("RAY_ADDRESS", None)
    report = folder / "report.xml"
    options = ["-q", "-W", "default", "-p", "no:cacheprovider", f"--junitxml={report}", f"--basetemp={folder / 'tmp'}"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(CASES)], env=env, capture_output=True, text=True, timeout=300
    )
    assert report.exists(), ran.stdout + ran.stderr
    found: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        wrong = [part.text or part.get("message", "") for part in case if part.tag in ("failure", "error", "skipped")]
        found.setdefault(case.attrib["name"].partition("[")[0], []).extend(wrong)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str, outcomes: dict[str, list[str]]) -> None:
    assert name in outcomes
    assert not outcomes[name], "\n\n".join(outcomes[name])
