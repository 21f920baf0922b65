"""Draw what scripts/run_benchmark.py found, a file for each workload: `gsched plot --separate`."""

from gsched.cli.scripts import run

run("plot", "--separate", defaults={"sources": ["benchmark_results"]})
