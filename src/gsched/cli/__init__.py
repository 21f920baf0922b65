"""The command `gsched`: exit status 0; 1 for a finding, such as a schedule that breaks a rule; 2 for bad input."""

import inspect
import io
import os
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NoReturn

import typer

from gsched import __version__
from gsched.cli.bench import bench
from gsched.cli.calibrate import calibrate
from gsched.cli.check import check
from gsched.cli.compare import compare
from gsched.cli.demo import demo
from gsched.cli.generate import generate
from gsched.cli.loadgen import loadgen
from gsched.cli.model_server import model_server
from gsched.cli.plan import plan
from gsched.cli.plot import plot
from gsched.cli.report import report
from gsched.cli.run import run
from gsched.cli.serve import serve
from gsched.cli.simulate import simulate
from gsched.cli.trace import trace
from gsched.cli.validate import validate
from gsched.cli.whatif import whatif
from gsched.errors import InputError, PolicyError, one_line

app = typer.Typer(
    name="gsched",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)
for command in (
    demo,
    generate,
    validate,
    simulate,
    check,
    compare,
    report,
    bench,
    plot,
    plan,
    whatif,
    trace,
    run,
    calibrate,
    model_server,
    serve,
    loadgen,
):
    # Within a paragraph, typer keeps the line breaks of the source, which no terminal has asked for.
    paragraphs = inspect.getdoc(command).split("\n\n")  # type: ignore[union-attr]
    app.command(help="\n\n".join(" ".join(text.split()) for text in paragraphs))(command)


# Typer carries a copy of click, and of its errors exports only this subclass.
_UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gsched {__version__}")
        raise typer.Exit


@app.callback()
def gsched(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Schedule multi-model AI workflows on GPU clusters.

    Generate a workload, simulate a scheduling policy on it, check the schedule,
    and see how far it is from a proven bound. New here? Try [bold]gsched demo[/bold].
    """


def main(arguments: Sequence[str] | None = None, defaults: Mapping[str, Any] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        arguments: the words after `gsched`; by default those of the process.
        defaults: default values of options, by command and option name, that differ from gsched's own.
    """
    _prepare_process()
    try:
        status = _run(arguments, defaults)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads the output has seen enough
        _discard_output()
        status = _BROKEN_PIPE
    except OSError as error:
        _discard_output()
        print(f"error: standard output: cannot be written ({error.strerror}); send it elsewhere", file=sys.stderr)
        status = 2
    sys.exit(status)


_INTERRUPTED, _BROKEN_PIPE, _TERMINATED = 130, 141, 143


def _run(arguments: Sequence[str] | None, defaults: Mapping[str, Any] | None) -> int:
    """Run the command line and return its exit status."""
    from gsched.cli.console import print_problems

    try:
        status = app(args=arguments, prog_name="gsched", standalone_mode=False, default_map=defaults) or 0
        if status == _INTERRUPTED:  # typer's own answer to Ctrl-C
            print("stopped", file=sys.stderr)
        return status
    except InputError as error:
        print_problems(error.problems)
    except PolicyError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
    except _UsageError as error:
        if message := error.format_message():  # none where the help was shown instead
            print(f"error: {one_line(message).removesuffix('.')}; see --help", file=sys.stderr)
    except (typer.Abort, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        return _INTERRUPTED
    except _Termination:
        return _TERMINATED
    except SystemExit:  # the libraries' answer to a broken pipe is status 1, which means a finding here
        return _BROKEN_PIPE
    return 2


class _Termination(BaseException):
    """The process is asked to end: like KeyboardInterrupt, it passes through everything that cleans up."""


def _terminate(*_: object) -> None:
    raise _Termination


def _prepare_process() -> None:
    """Let texts of any script be printed, warnings be one line, and a termination clean up like an interruption."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    signal.signal(signal.SIGTERM, _terminate)


def _discard_output() -> None:
    """Send what is still buffered to nowhere, so that the interpreter does not fail on it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
