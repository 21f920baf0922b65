"""A static plan by dependency level and model: `gsched simulate --policy offline` with the defaults of its document."""

from gsched.cli.scripts import run

run(
    "simulate",
    "--policy",
    "offline",
    defaults={"config": "simple_config.json", "requests": "simple_requests.yaml", "verbose": True},
)
