"""The command `gsched`: exit status 0; 1 for a finding, such as a schedule that breaks a rule; 2 for bad input."""

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NoReturn

import typer

from gsched import __version__
from gsched.cli.check import check
from gsched.cli.demo import demo
from gsched.cli.generate import generate
from gsched.cli.simulate import simulate
from gsched.cli.validate import validate
from gsched.errors import InputError, PolicyError

app = typer.Typer(
    name="gsched",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)
for command in (demo, generate, validate, simulate, check):
    app.command()(command)


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

    Generate a workload, simulate a scheduling policy on it, check the schedule, and see how far it is from a proven
    bound. New here? Try [bold]gsched demo[/bold].
    """


def main(arguments: Sequence[str] | None = None, defaults: Mapping[str, Any] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        arguments: the words after `gsched`; by default those of the process.
        defaults: default values of options, by command and option name, that differ from gsched's own.
    """
    from gsched.cli.console import print_problems

    try:
        status = app(args=arguments, prog_name="gsched", standalone_mode=False, default_map=defaults)
    except InputError as error:
        print_problems(error.problems)
        status = 2
    except PolicyError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except _UsageError as error:
        if message := error.format_message():  # none where the help was shown instead
            print(f"error: {message.removesuffix('.')}; see --help", file=sys.stderr)
        status = 2
    except (typer.Abort, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        status = 130
    sys.exit(status or 0)
