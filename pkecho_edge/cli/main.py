"""pkecho-edge: from a trained network to a verified engine, from the command line."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pkecho_edge.cli import bench, calibrate, compile, demo, doctor, inspect
from pkecho_edge.cli import phantom, targets, train, verify
from pkecho_edge.cli.console import debugging, errors
from pkecho_edge.errors import PkechoEdgeError

__all__ = ["app", "main"]

app = typer.Typer(
    name="pkecho-edge",
    help="From a trained echocardiography segmentation network to a verified INT8 engine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("compile")(compile.compile_)
app.command("verify")(verify.verify_)
app.command("calibrate")(calibrate.calibrate)
app.command("train")(train.train_)
app.command("phantom")(phantom.phantom)
app.add_typer(bench.app, name="bench")
app.command("inspect")(inspect.inspect_)
app.command("targets")(targets.targets_)
app.command("doctor")(doctor.doctor)


def _show_version(value: bool) -> None:
    if value:
        from pkecho_edge import __version__

        typer.echo(f"pkecho-edge {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; every error ends as one line and its documented exit code."""
    try:
        app()
    except PkechoEdgeError as error:
        _explain(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _explain("interrupted; finished stages are kept, run the same command again")
        sys.exit(130)
    except Exception as error:
        _explain(f"internal error: {type(error).__name__}: {error}. Run again with --debug")
        sys.exit(1)


def _explain(line: str) -> None:
    if debugging():
        errors.print_exception()
    errors.print(f"[red]error:[/] {_plain(line)}")


def _plain(line: str) -> str:
    """On one line, and no markup or control character of a file's making."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else " " for c in line))


if __name__ == "__main__":
    main()
