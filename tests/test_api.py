"""The public interface."""

import subprocess
import sys

import pytest

import gsched


def test_every_public_name_is_there() -> None:
    assert gsched.__all__ == sorted(gsched.__all__)
    assert set(gsched._HOME) == set(gsched.__all__)
    for name in gsched.__all__:
        assert getattr(gsched, name).__name__ == name
        assert name in dir(gsched)


def test_no_public_name_is_hidden_by_a_module() -> None:
    """Importing a module sets its name on the package, so no module may be called like a function."""
    code = "import pkgutil, gsched; print(*{m.name for m in pkgutil.iter_modules(gsched.__path__)} & {*gsched.__all__})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "\n"


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fly'"):
        gsched.fly  # noqa: B018


def test_import_is_light() -> None:
    code = (
        "import sys, gsched, gsched.cli; print([m for m in ('numpy', 'numba', 'pyarrow', 'yaml') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
