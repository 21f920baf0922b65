"""A page of what scripts/run_benchmark.py found: `gsched report`, by default of the folder benchmark_results."""

from gsched.cli.scripts import run

run("report", defaults={"results": "benchmark_results", "output": "final_report.html"})
