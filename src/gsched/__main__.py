"""Run the command line as `python -m gsched`."""

from gsched.cli import main

main()
