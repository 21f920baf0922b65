"""Check an execution log: `gsched check`, by default baseline_execution_log.json."""

from gsched.cli.scripts import run

run("check", defaults={"log": "baseline_execution_log.json"})
