"""Every command and every piece of Python that the documents show works, run as a reader would."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BIN = Path(sys.executable).parent


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


def commands(document: Path) -> list[str]:
    lines = "".join(blocks(document, "bash")).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what a reader has: examples and scripts, and gsched in .venv."""
    for name in ("examples", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(BIN.parent)
    return tmp_path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_work(document: Path, checkout: Path) -> None:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    with Background(checkout, environment) as background:
        for command in commands(document):
            if command.startswith("make ") or " make " in command:
                target = command.split("make ")[1].split()[0]
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
            elif command.endswith("&"):
                background.start(command.removesuffix("&"))
            elif command == "kill %1":
                background.end()
            else:
                done = subprocess.run(
                    command, shell=True, cwd=checkout, env=environment, capture_output=True, text=True
                )
                assert done.returncode == 0 or busy(command, done.stderr), f"{command}\n{done.stdout}{done.stderr}"
                assert "Traceback" not in done.stderr


def busy(command: str, told: str) -> bool:
    """Whether all that a load test complains of is that this machine was too busy to send on time."""
    complaints = told.splitlines()[:-1]
    return "loadgen" in command and bool(complaints) and all("were sent late" in line for line in complaints)


class Background:
    """The command that a reader has put into the background."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Background":
        return self

    def start(self, command: str) -> None:
        assert self.process is None
        self.process = subprocess.Popen(
            shlex.split(command), cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, text=True
        )

    def end(self) -> None:
        """Ask it to end, as `kill` does."""
        assert self.process
        self.process.terminate()
        _, told = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, told
        assert "Traceback" not in told
        self.process = None

    def __exit__(self, *_: object) -> None:
        if self.process:
            self.process.kill()
            self.process.communicate()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_works(document: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    for code in blocks(document, "python"):
        exec(compile(code, document.name, "exec"), {"__name__": "example"})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_demo_is_shown_as_it_is(tmp_path: Path) -> None:
    """The table in the README is what `gsched demo` prints."""
    done = subprocess.run([BIN / "gsched", "demo"], cwd=tmp_path, capture_output=True, text=True, check=True)
    for line in blocks(ROOT / "README.md", "text")[0].splitlines():
        assert line in done.stdout
    assert "demo/report.html" in done.stdout
    assert "<canvas" in (tmp_path / "demo" / "report.html").read_text()


def test_example_in_the_policy_guide_is_the_shipped_one() -> None:
    shown = blocks(ROOT / "docs" / "policies.md", "python")[0]
    code = (ROOT / "examples" / "fewest_switches.py").read_text()
    assert shown.split("def choose")[1].strip() == code.split("def choose")[1].strip()
