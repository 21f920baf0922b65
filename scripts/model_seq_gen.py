"""Generate a workload: `gsched generate`."""

from gsched.cli.scripts import run

run("generate")
