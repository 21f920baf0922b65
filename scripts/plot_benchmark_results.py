"""Draw what scripts/run_benchmark.py found: `gsched plot`, by default of the folder benchmark_results."""

from gsched.cli.scripts import run

run("plot", defaults={"sources": ["benchmark_results"]})
