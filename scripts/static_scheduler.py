"""A static deployment over a workload: `gsched simulate --policy static` with the defaults of its document."""

from gsched.cli.scripts import run

run(
    "simulate",
    "--policy",
    "static",
    defaults={
        "config": "simple_config.json",
        "requests": "simple_requests.yaml",
        "gpus_per_server": 4,
        "verbose": True,
    },
)
