"""Sweeps of the shipped suite on 4 to 30 GPUs: `gsched bench --suite offline`, or of a file of one's own."""

import sys

from gsched.cli.scripts import run

if __name__ == "__main__":  # the processes of the sweep import this file, too
    own = any(not word.startswith("-") for word in sys.argv[1:2])
    run("bench", *(() if own else ("--suite", "offline")))
