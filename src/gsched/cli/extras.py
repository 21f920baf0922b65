"""Parts that are installed only where they are wanted."""

from importlib.util import find_spec

from gsched.errors import InputError


def require_extra(extra: str, *modules: str) -> None:
    """Raise an `InputError` that names the extra to install where a module is missing."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        hint = f"install it with pip install 'gsched[{extra}]'"
        raise InputError.one("", f"extra {extra}", f"is not installed (no module {missing[0]})", hint)
