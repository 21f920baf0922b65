"""gsched's commands as single scripts, with names and defaults of their own."""

import sys
from collections.abc import Mapping
from typing import NoReturn

from gsched.cli import main


def run(command: str, *options: str, defaults: Mapping[str, object] | None = None) -> NoReturn:
    """Run a command of gsched with the words of this process, and exit.

    Args:
        command: the command of gsched.
        options: words put before those of the process.
        defaults: default values of its options that differ from gsched's own.
    """
    main([command, *options, *sys.argv[1:]], {command: defaults or {}})
