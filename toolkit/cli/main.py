"""The ``toolkit`` command. A subcommand's module is imported when that subcommand is used, so that help stays quick."""

from __future__ import annotations

import difflib
import errno
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from toolkit.cli.grouped_help import GroupedCommand
from toolkit.cli.memory import release_memory
from toolkit.cli.streams import PIPE_CLOSED, PipeClosedError, standard_streams
from toolkit.cli.versions import versions
from toolkit.errors import OutputError, ToolkitError, raise_interruption
from toolkit.printable import printable, printable_lines
from toolkit.telemetry import opt_out

COMMANDS = {
    "run": "Do the whole job: finetune, export, verify, bench and report.",
    "finetune": "Fine-tune a pretrained backbone in two stages.",
    "export": "Export a run to TorchScript, ONNX and other formats in one checked bundle.",
    "verify": "Prove that every artifact computes what PyTorch computes.",
    "bench": "Measure speed, latency and test accuracy of every artifact.",
    "compare": "Compare two reports, runs or bundles, or measure both now; a gate for CI.",
    "report": "Write the report of a run again, or one page on several runs.",
    "runs": "List the runs, or delete some.",
    "predict": "Classify images with a bundle; needs no PyTorch.",
    "batch": "Classify millions of images into Parquet files; goes on where it was stopped.",
    "serve": "Serve bundles over HTTP and gRPC: the Open Inference Protocol, and POST /predict.",
    "inspect": "Print what is in a bundle.",
    "selftest": "Run a bundle's own samples through it; needs no PyTorch.",
    "card": "Print a bundle's model card, or say in it what the model is for.",
    "sign": "Sign a bundle with an Ed25519 key.",
    "keygen": "Make a pair of keys for signing bundles.",
    "pack": "Write a bundle as one archive, the same bytes on every machine.",
    "unpack": "Check an archive and make a bundle of it.",
    "push": "Pack a bundle and write it to a URL, where others reach it.",
    "pull": "Fetch a packed bundle from a URL, check it and make a bundle of it.",
    "deploy": "Write a bundle as a model repository for Triton, a service for KServe or an image for Docker.",
    "backbones": "List backbones with their size and cost.",
    "formats": "List the export formats and say which can be used here.",
    "recipes": "List the shipped recipes, or print one as TOML.",
    "cache": "List or clear what was computed once and kept: activations of frozen prefixes.",
    "doctor": "Say what this machine can run, and why not.",
}
"""Name to one-line help, in the order of the work; ``toolkit.cli.NAME`` holds ``command`` and, where it has commands of
its own, ``SUBCOMMANDS``."""

TAKE_IMAGES = frozenset({"run", "finetune"})
"""Commands that take images by ``--data`` and no arguments."""
UNUSABLE_PATHS = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM})
"""What the system says of a path that no command can use, wherever it is first touched."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it (128 + SIGINT)."""
HELP_NAMES = {"help_option_names": ["--help", "-h"]}

NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EROFS, *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else [])}
"""What the system says where a disk is full, a quota is used up, or nothing may be written."""


class LazyGroup(TyperGroup):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the command; None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        module = import_module(f"toolkit.cli.{cmd_name}")
        if subcommands := getattr(module, "SUBCOMMANDS", None):
            app.callback(invoke_without_command=True)(module.command)
            for name, subcommand in subcommands.items():
                app.command(name=name, cls=GroupedCommand)(subcommand)
        else:
            app.command(name=cmd_name, cls=GroupedCommand)(module.command)
        return typer.main.get_command(app)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; say what was probably meant by a name that is none, or by images without an option."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            close = difflib.get_close_matches(name, COMMANDS, n=1)
            meant = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {printable(name)!r}.{meant}")
        if name in TAKE_IMAGES and len(args) > 1 and not args[1].startswith("-"):
            word = printable(args[1])
            ctx.fail(f"{word!r} stands there without an option. A folder of images is given as: --data {word}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: Any) -> Any:
        """Run the command; turn bad input into one sentence and exit code 2."""
        try:
            return self._invoke(ctx)
        except OutputError:  # also of --help, which is printed before any command is known: see main
            raise
        except ToolkitError as error:
            typer.echo(f"toolkit: {printable_lines(str(error))}", err=True)
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            if error.errno in NO_ROOM:
                where = "" if error.filename is None else f" ({printable(str(error.filename))})"
                said = (
                    f"a file cannot be written: {error.strerror}{where}. Free some space; files that are needed for a "
                    "moment lie in the folder for temporary files, which TMPDIR names."
                )
            elif error.errno in UNUSABLE_PATHS and error.filename is not None:
                said = f"{printable(error.filename)} cannot be used: {error.strerror}."
            else:
                raise
            typer.echo(f"toolkit: {said}", err=True)
            raise typer.Exit(ToolkitError.exit_code) from error
        except MemoryError as error:
            typer.echo("toolkit: there is not enough memory: close other programs, or use smaller batches.", err=True)
            raise typer.Exit(ToolkitError.exit_code) from error
        except KeyboardInterrupt as error:
            reason = str(error) or "stopped by Ctrl-C; nothing half-written was left behind."
            typer.echo(f"\ntoolkit: {reason}", err=True)
            raise typer.Exit(INTERRUPTED) from error
        finally:
            release_memory()

    def _invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ImportError as error:
            raise_interruption(error)
            raise


app = typer.Typer(
    cls=LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings=HELP_NAMES,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        for line in versions():
            typer.echo(line)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Print the versions of toolkit, Python and the engines.",
        ),
    ] = False,
) -> None:
    """Fine-tune a pretrained image backbone, export it, prove the exports are the same model, measure them.

    Exit codes: 0 done, 1 a gate failed, 2 bad input or output that cannot be written.
    """


def _require_values(arguments: Sequence[str]) -> None:
    """Refuse empty arguments: as a path each would be the current folder.

    Raises:
        ToolkitError: naming the first of them.
    """
    advice = "give one, or leave it out. Is it of a variable that the shell does not know?"
    for before, argument in zip(("toolkit", *arguments), arguments, strict=False):
        option, sign, value = argument.partition("=")
        if not argument:
            raise ToolkitError(f"the argument after {printable(before)} is empty: {advice}")
        if option.startswith("--") and sign and not value:
            raise ToolkitError(f"the value of {printable(option)} is empty: {advice}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ``arguments`` replace those of the process."""
    opt_out()
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with standard_streams():
            _require_values(given)
            app(args=given, prog_name="toolkit")
    except PipeClosedError:
        sys.exit(PIPE_CLOSED)
    except ToolkitError as error:
        typer.echo(f"toolkit: {printable_lines(str(error))}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
