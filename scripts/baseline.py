"""FIFO with affinity over a workload: `gsched simulate --policy baseline` with the defaults of its document."""

from gsched.cli.scripts import run

run(
    "simulate",
    "--policy",
    "baseline",
    defaults={"config": "system_config.yaml", "requests": "workflow_requests.yaml", "verbose": True},
)
