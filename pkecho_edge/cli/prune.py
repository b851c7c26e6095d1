"""`pkecho-edge prune`: a smaller checkpoint that answers like the one it was cut from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.cli.compile_options import CheckpointArgument, check_target_name
from pkecho_edge.cli.console import (
    Bars,
    DebugOption,
    JsonOption,
    QuietOption,
    attempt,
    check_place,
    console,
    parse_size,
    plain,
    write_json,
)
from pkecho_edge.cli.dry_run import DryRunOption, show_plan
from pkecho_edge.cli.pruning_options import (
    BaselineOption,
    ImportanceOption,
    LessonPhantomsOption,
    RoundToOption,
    ScopeOption,
    StepsOption,
    check_ratio,
    check_rounds,
    steps_of,
)
from pkecho_edge.cli.settings import Setting, check_settings
from pkecho_edge.cli.settings_command import settings_command
from pkecho_edge.cli.settings_file import check_record, write_record
from pkecho_edge.errors import UsageError

if TYPE_CHECKING:
    from pkecho_edge.pruning_stage import Pruned

__all__ = ["PruneSettings", "prune", "prune_command"]


def _check_sizes(texts: list[str]) -> None:
    for text in texts:
        parse_size(text)


def _check_device(name: str) -> None:
    from pkecho_edge.training.processes import chosen_device

    chosen_device(name)


@dataclass(frozen=True)
class PruneSettings:
    """What `prune` is told; every field is an option of its command line.

    Raises:
        UsageError: a value that cannot be, whatever the others are.
    """

    checkpoint: CheckpointArgument = None
    ratio: Annotated[
        float,
        typer.Option(help="Share of the GMACs that goes: 0.8 leaves a fifth."),
        Setting(check=check_ratio),
    ] = 0.5
    data: Annotated[
        Path | None,
        typer.Option(help="Recordings to recover on, labelled or not.", metavar="DIR"),
        Setting(example="recordings"),
    ] = None
    phantoms: LessonPhantomsOption = 400
    size: Annotated[
        list[str],
        typer.Option(
            help="Frame size, N or HxW, to recover on; again for several: GMACs are those of the "
            "first.",
            metavar="SIZE",
        ),
        Setting(check=_check_sizes),
    ] = field(default_factory=lambda: ["128"])
    scope: ScopeOption = "global"
    importance: ImportanceOption = "reconstruction"
    round_to: RoundToOption = None
    target: Annotated[
        str,
        typer.Option(help="Whose widths to round to, and whose times scope latency takes."),
        Setting(check=check_target_name),
    ] = "cpu"
    rounds: Annotated[
        int | None,
        typer.Option(
            help="Of pruning and recovery, up to 4; default: more for higher ratios.", min=1
        ),
        Setting(example=2, check=check_rounds),
    ] = None
    refit: Annotated[
        bool,
        typer.Option(
            help="Refit what stays to what it said before, in closed form, before it learns."
        ),
    ] = True
    steps: StepsOption = None
    baseline: BaselineOption = None
    device: Annotated[
        str, typer.Option(help="To learn on: auto, cpu or cuda."), Setting(check=_check_device)
    ] = "auto"
    out: Annotated[
        Path | None,
        typer.Option(
            help="The pruned checkpoint; default: NAME-pruned.safetensors here.", metavar="FILE"
        ),
        Setting(example="small.safetensors"),
    ] = None

    def __post_init__(self) -> None:
        check_settings(self)


def prune(
    settings: PruneSettings,
    dry_run: DryRunOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace it.")] = False,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Remove channels, refit what stays to what it said before, and learn where that is too little.

    The unpruned baseline is the teacher. By default nothing is learned up to a ratio of 0.85. An
    interrupted recovery goes on where it was when the same command is given again.
    """
    from pkecho_edge import targets
    from pkecho_edge.files import write_atomically
    from pkecho_edge.lesson_source import LessonSource
    from pkecho_edge.model.checkpoint import default_checkpoint_path
    from pkecho_edge.planning import plan_prune
    from pkecho_edge.pruning_stage import (
        check_scope,
        load_lineaged,
        prune_checkpoint,
        read_lineaged,
    )
    from pkecho_edge.records import forget_record, record_path
    from pkecho_edge.recovering import PruningOrder, recipe_of
    from pkecho_edge.stages import StageCache, default_cache
    from pkecho_edge.training.processes import chosen_device

    s = settings
    check_scope(s.scope, s.target)
    round_to = s.round_to or targets.get(s.target).capabilities.round_to
    recipe = recipe_of(s.ratio, s.steps, s.refit)
    order = PruningOrder(s.ratio, s.scope, s.importance, round_to, s.rounds, recipe, s.refit)
    sizes = list(dict.fromkeys(parse_size(text) for text in s.size))
    learns_on = chosen_device(s.device)
    source = s.checkpoint or default_checkpoint_path()
    out = s.out or Path(f"{source.stem}-pruned.safetensors")
    _check_out(out, source, overwrite)
    lessons, stages = LessonSource(s.data, s.phantoms), StageCache(default_cache())
    if dry_run:
        parent = read_lineaged(source, s.baseline, stages)
        show_plan(plan_prune(parent, order, lessons, sizes, stages), json, quiet)
        return
    with Bars(quiet) as bars:
        parent = load_lineaged(source, s.baseline, stages)
        pruned = prune_checkpoint(parent, order, lessons, sizes, stages, bars, device=learns_on)
    try:
        forget_record(record_path(out))  # it tells of the old one
        write_atomically(out, pruned.path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", path=out, remedy="Choose another --out"
        ) from error
    if not quiet:
        _tell(pruned, out, s.data)
    kept = replace(s, out=out, round_to=round_to, steps=steps_of(recipe))
    unwritten = attempt(lambda: write_record(record_path(out), "prune", kept))
    if json:
        write_json(json, dict(pruned.report))
    if unwritten:
        raise unwritten


prune_command = settings_command("prune", PruneSettings, prune)


def _check_out(out: Path, source: Path, overwrite: bool) -> None:
    from pkecho_edge.records import record_path

    record = record_path(out)
    check_place(out)
    check_record(record, "prune")
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
    for name in ("GMACs", "of before", "steps", "agreement", "after learning"):
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
