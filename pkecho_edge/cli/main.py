"""pkecho-edge: from a trained network to a verified engine, from the command line."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NoReturn

from pkecho_edge.cli.console import debugging, errors, plain
from pkecho_edge.cli.verbs import build_app
from pkecho_edge.errors import EnvironmentMismatch, MissingDependency, PkechoEdgeError

__all__ = ["main"]

_INTERRUPTED, _TERMINATED = 130, 143


class _Terminated(BaseException):
    """SIGTERM: what was begun is cleaned up, as after Ctrl-C."""


@contextmanager
def _termination() -> Iterator[None]:
    """SIGTERM raises _Terminated meanwhile, in this process: what it forks just ends."""
    owner = os.getpid()

    def terminate(number: int, frame: object) -> NoReturn:
        if os.getpid() != owner:
            os._exit(_TERMINATED)
        raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not in the main thread: somebody's tool calls this
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _load_help_alone() -> None:
    """Load typer's help pages, where one is asked for, without what only its other uses want.

    Markdown and tracebacks, with the parsers and lexers that they bring, take half of its time.
    """
    if len(sys.argv) > 1 and "--help" not in sys.argv:
        return
    unused = {"rich.markdown": "Markdown", "rich.traceback": "Traceback"}
    spared = [name for name in unused if name not in sys.modules]
    for name in spared:
        stand_in = ModuleType(name)
        setattr(stand_in, unused[name], None)  # only ever imported
        sys.modules[name] = stand_in
    try:
        import typer.rich_utils  # noqa: F401 # so that it is there when typer asks for it
    finally:
        for name in spared:
            del sys.modules[name]


def _typed() -> list[str]:
    """The verb that was typed: the first word, for what may stand before it takes no value."""
    return [word for word in sys.argv[1:] if not word.startswith("-")][:1]


def main() -> None:
    """Run the command line; every error ends as one line and its documented exit code."""
    _load_help_alone()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without Unicode gets a ? for a ✓
            stream.reconfigure(errors="replace")
    try:
        with _termination():
            # standalone, typer would explain its own errors, in a box of several lines
            code = build_app(*_typed())(prog_name="pkecho-edge", standalone_mode=False)
    except PkechoEdgeError as error:
        _explain(_pointed(str(error), error.exit_code))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except _Terminated:
        code = _TERMINATED
    except ModuleNotFoundError as error:
        missing = f"{error.name} is not installed. Run: pip install 'pkecho-edge[all]'"
        _explain(_pointed(missing, MissingDependency.exit_code))
        sys.exit(MissingDependency.exit_code)
    except Exception as error:
        if (line := _misuse(error)) is not None:
            if line:
                _explain(line)
            sys.exit(2)
        _explain(f"internal error: {type(error).__name__}: {error}. Run again with --debug")
        sys.exit(1)
    if code in (_INTERRUPTED, _TERMINATED):  # typer passes KeyboardInterrupt on as a number
        what = "interrupted" if code == _INTERRUPTED else "terminated"
        _explain(f"{what}. Run the same command again: finished stages are kept")
    sys.exit(code or 0)


def _pointed(line: str, exit_code: int) -> str:
    """With the command that shows what is here, where the error is of the environment."""
    if exit_code != EnvironmentMismatch.exit_code or "pkecho-edge doctor" in line:
        return line
    return f"{line.rstrip('.')}. See what is here: pkecho-edge doctor"


def _misuse(error: Exception) -> str | None:
    """typer's own line about a wrong command line; "" where it has shown the help, else None.

    Its exceptions are click's in some versions and a copy of them in others, so they are known by
    what they offer.
    """
    message = getattr(error, "format_message", None)
    if message is None:
        return None
    what = str(message())
    if not what:
        return ""
    what = what if what.endswith((".", "?")) else f"{what}."
    context = getattr(error, "ctx", None)
    command = "pkecho-edge" if context is None else context.command_path
    return f"{what} Run: {command} --help"


def _explain(line: str) -> None:
    if debugging() and sys.exc_info()[0] is not None:
        errors.print_exception()
    errors.print(f"[red]error:[/] {plain(line)}")


if __name__ == "__main__":
    main()
