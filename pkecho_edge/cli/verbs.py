"""The verbs of the command line, and where each is defined.

Importing them all takes longer than any help should: whoever types one verb loads that one, and
the list of verbs is printed from what stands here. A test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Annotated

import typer

__all__ = ["VERBS", "Verb", "build_app"]


@dataclass(frozen=True)
class Verb:
    """Where it is defined in pkecho_edge.cli, and the first line of its help.

    Attributes:
        module, attribute: of a function, or of a Typer with verbs of its own.
        summary: in one line.
    """

    module: str
    attribute: str
    summary: str


VERBS = {
    "demo": Verb(
        "demo",
        "demo",
        "Write phantoms as an EchoNet dataset, compile the packaged network, verify the engine.",
    ),
    "init": Verb(
        "init",
        "init",
        "Write pkecho-edge.toml: every setting of compile with its default and what it means.",
    ),
    "compile": Verb(
        "compile",
        "compile_command",
        "Prune if asked, calibrate, quantize, compile, verify and bundle a checkpoint.",
    ),
    "verify": Verb(
        "verify",
        "verify_",
        "Measure accuracy drift and speed, check the gates, and write a report.",
    ),
    "prune": Verb(
        "prune",
        "prune_command",
        "Remove channels, refit what stays to what it said before, and learn where that is too "
        "little.",
    ),
    "tune": Verb(
        "tune",
        "tune_command",
        "Search pruning, INT8 and mixed precision for the fastest engine inside a budget.",
    ),
    "calibrate": Verb(
        "calibrate",
        "calibrate",
        "Write a small file that names the calibration clips and hashes their frames.",
    ),
    "quantize": Verb(
        "quantize",
        "quantize",
        "Write Q/DQ graphs of a checkpoint; --explain shows what hurts.",
    ),
    "evaluate": Verb(
        "evaluate",
        "evaluate_",
        "Score a network against ground truth: the row of the paper's Table 1.",
    ),
    "train": Verb(
        "train",
        "train_",
        "Train PKEcho-Net with labels on the first and the last frame only.",
    ),
    "ablate": Verb(
        "ablate",
        "ablate",
        "Train every variant of the paper's ablations and tabulate DSC, HD95, ASD and P-values.",
    ),
    "phantom": Verb(
        "phantom",
        "phantom",
        "Write synthetic echocardiograms with exact ground truth in a real dataset's layout.",
    ),
    "data": Verb(
        "data",
        "app",
        "Look into datasets.",
    ),
    "bench": Verb(
        "bench",
        "app",
        "Measure speed, interleaved in one run.",
    ),
    "run": Verb(
        "run",
        "run",
        "Segment a recording: overlay video, contact sheet, area per frame, EF per beat.",
    ),
    "inspect": Verb(
        "inspect",
        "inspect_",
        "Check every file of a bundle against its manifest, its signature where a key is "
        "given and its security version where a minimum is, and show what it says.",
    ),
    "keygen": Verb(
        "keygen",
        "keygen",
        "Write a secret key, mode 600 and not encrypted, and its public key, in minisign's format.",
    ),
    "sign": Verb(
        "sign",
        "sign",
        "Check every file of a bundle, then sign its manifest, which lists them all.",
    ),
    "firmware": Verb(
        "firmware",
        "app",
        "The C library that a scanner links.",
    ),
    "targets": Verb(
        "targets",
        "targets_",
        "List targets and device profiles: precisions, what is made where, what is missing.",
    ),
    "doctor": Verb(
        "doctor",
        "doctor",
        "Say what this machine has for pkecho-edge, what works here, and what to install "
        "for the rest.",
    ),
}
"""In the order of the help."""


def build_app(*wanted: str) -> typer.Typer:
    """The command line with these verbs; the others are listed, and do nothing.

    Args:
        wanted: names of VERBS; what is none of them is passed over.
    """
    app = typer.Typer(
        name="pkecho-edge",
        help="From a trained echocardiography segmentation network to a verified INT8 engine.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for name, verb in VERBS.items():
        if name not in wanted:
            app.command(name, help=verb.summary)(_listed)
            continue
        found = getattr(import_module(f"pkecho_edge.cli.{verb.module}"), verb.attribute)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)
    return app


def _listed() -> None:
    """Stands for a verb that was not typed."""
    raise AssertionError("a verb that was typed must be loaded")


def _show_version(value: bool) -> None:
    if value:
        from pkecho_edge import __version__

        typer.echo(f"pkecho-edge {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    pass
