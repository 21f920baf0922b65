"""MLPerf LoadGen against the scheduler: `gsched loadgen`, whose defaults are those of its document."""

from gsched.cli.scripts import run

if __name__ == "__main__":  # the processes of the classes import this file, too
    run("loadgen")
