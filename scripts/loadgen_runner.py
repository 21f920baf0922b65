"""MLPerf LoadGen against the scheduler: `gsched loadgen` with the defaults of its document."""

from gsched.cli.scripts import run

run("loadgen", defaults={"output_dir": "./loadgen_logs", "metrics_csv": "./metrics.csv"})
