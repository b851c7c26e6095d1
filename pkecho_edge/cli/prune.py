"""`pkecho-edge prune`: a smaller checkpoint that answers like the one it was cut from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.cli.compile import CheckpointArgument
from pkecho_edge.cli.console import (
    Bars,
    DebugOption,
    JsonOption,
    QuietOption,
    check_place,
    console,
    parse_size,
    plain,
    write_json,
)
from pkecho_edge.cli.pruning_options import (
    BaselineOption,
    ImportanceOption,
    LessonPhantomsOption,
    RoundToOption,
    ScopeOption,
    StepsOption,
    recovery_recipe,
)
from pkecho_edge.errors import UsageError

if TYPE_CHECKING:
    from pkecho_edge.pruning_stage import Pruned

__all__ = ["prune"]


def prune(
    checkpoint: CheckpointArgument = None,
    ratio: Annotated[
        float, typer.Option(help="Share of the GMACs that goes: 0.8 leaves a fifth.")
    ] = 0.5,
    data: Annotated[
        Path | None,
        typer.Option(help="Recordings to recover on, labelled or not.", metavar="DIR"),
    ] = None,
    phantoms: LessonPhantomsOption = 400,
    size: Annotated[
        list[str],
        typer.Option(
            help="Frame size, N or HxW, to recover on; again for several: GMACs are those of the "
            "first.",
            metavar="SIZE",
        ),
    ] = ["128"],  # noqa: B006 - typer copies it
    scope: ScopeOption = "global",
    importance: ImportanceOption = "magnitude",
    round_to: RoundToOption = None,
    target: Annotated[
        str, typer.Option(help="Whose widths to round to, and whose times scope latency takes.")
    ] = "cpu",
    rounds: Annotated[
        int | None,
        typer.Option(help="Of pruning and recovery; default: more for higher ratios.", min=1),
    ] = None,
    steps: StepsOption = None,
    baseline: BaselineOption = None,
    device: Annotated[str, typer.Option(help="To learn on: auto, cpu or cuda.")] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="The pruned checkpoint; default: NAME-pruned.safetensors here.", metavar="FILE"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace it.")] = False,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Remove channels, and let the network recover by learning from its unpruned baseline.

    An interrupted recovery goes on where it was when the same command is given again.
    """
    from pkecho_edge import targets
    from pkecho_edge.files import write_atomically
    from pkecho_edge.lesson_source import LessonSource
    from pkecho_edge.model.checkpoint import default_checkpoint_path
    from pkecho_edge.pruning_stage import check_scope, load_lineaged, prune_checkpoint
    from pkecho_edge.recovering import PruningOrder
    from pkecho_edge.stages import StageCache, default_cache
    from pkecho_edge.training.processes import chosen_device

    check_scope(scope, target)
    round_to = round_to or targets.get(target).capabilities.round_to
    order = PruningOrder(ratio, scope, importance, round_to, rounds, recovery_recipe(steps))
    sizes = list(dict.fromkeys(parse_size(text) for text in size))
    learns_on = chosen_device(device)
    source = checkpoint or default_checkpoint_path()
    out = out or Path(f"{source.stem}-pruned.safetensors")
    _check_out(out, source, overwrite)
    stages = StageCache(default_cache())
    with Bars(quiet) as bars:
        parent = load_lineaged(source, baseline, stages)
        lessons = LessonSource(data, phantoms)
        pruned = prune_checkpoint(parent, order, lessons, sizes, stages, bars, device=learns_on)
    try:
        write_atomically(out, pruned.path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", path=out, remedy="Choose another --out"
        ) from error
    if json:
        write_json(json, dict(pruned.report))
    if not quiet:
        _tell(pruned, out, data)


def _check_out(out: Path, source: Path, overwrite: bool) -> None:
    check_place(out)
    if not out.exists():
        return
    if out.is_dir() or out.resolve() == source.resolve():
        what = "is a folder" if out.is_dir() else "is the checkpoint to prune"
        raise UsageError(what, path=out, remedy="Choose another --out")
    if not overwrite:
        raise UsageError("exists", path=out, remedy="Choose another --out, or pass --overwrite")


def _tell(pruned: Pruned, out: Path, data: Path | None) -> None:
    from rich.table import Table

    report = pruned.report
    table = Table()
    table.add_column("round")
    for name in ("GMACs", "of before", "steps", "agreement cut", "recovered"):
        table.add_column(name, justify="right")
    for index, each in enumerate(report["rounds"], start=1):
        found = (each["agreement_before"], each["agreement"])
        said = ("-" if value is None else f"{value:.2f} %" for value in found)
        share = f"{100 * each['gmacs'] / report['gmacs']:.0f} %"
        table.add_row(str(index), f"{each['gmacs']:.2f}", share, str(each["steps"]), *said)
    console.print(table)
    if any(each["diverged"] for each in report["rounds"]):
        console.print(
            "[yellow]Learning diverged;[/] the best network before that is what was written."
        )
    console.print(f"Written: {plain(out)}", soft_wrap=True)
    on = "" if data is None else f" --data {plain(data)}"
    console.print(f"Next:    pkecho-edge compile {plain(out)}{on or ' --phantoms'}", soft_wrap=True)
