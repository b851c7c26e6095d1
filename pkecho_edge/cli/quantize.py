"""`pkecho-edge quantize`: Q/DQ graphs, and why they are quantized as they are."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.cli.compile_options import (
    CalibrationOption,
    CheckpointArgument,
    ClipSeedOption,
    ClipsOption,
    DataOption,
    KeepFloatOption,
    RestoreOption,
    RuleOption,
)
from pkecho_edge.cli.console import (
    Bars,
    DebugOption,
    GatesOption,
    JsonOption,
    QuietOption,
    SizeOption,
    check_folder,
    console,
    parse_size,
    plain,
    write_json,
)
from pkecho_edge.errors import AccuracyGateFailed

if TYPE_CHECKING:
    from pkecho_edge.quantizing import Explanation, QuantizeResult

__all__ = ["quantize"]


def quantize(
    checkpoint: CheckpointArgument = None,
    data: DataOption = None,
    phantoms: Annotated[
        bool, typer.Option("--phantoms", help="Calibrate and try on phantoms instead.")
    ] = False,
    calibration: CalibrationOption = None,
    clips: ClipsOption = 32,
    size: SizeOption = "128",
    scheme: Annotated[str, typer.Option(help="How numbers are quantized.")] = "cpu",
    rule: RuleOption = "auto",
    restore: RestoreOption = True,
    keep_float: KeepFloatOption = None,
    gates: GatesOption = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show which blocks hurt, and why.")
    ] = False,
    seed: ClipSeedOption = 0,
    out: Annotated[Path, typer.Option(help="Folder to write into.", metavar="DIR")] = Path(
        "quantized"
    ),
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write Q/DQ graphs of a checkpoint; --explain shows what hurts."""
    from pkecho_edge import quantizing
    from pkecho_edge.calibration.calibration_set import CalibrationSet
    from pkecho_edge.clip_roles import clip_sources
    from pkecho_edge.model.checkpoint import default_checkpoint_path
    from pkecho_edge.tuning.choose import QuantizationOrder, rules_of
    from pkecho_edge.verify.gates import DEFAULT_LIMITS, load_gates

    order = QuantizationOrder(scheme, rules_of(rule), restore, tuple(keep_float or ()))
    limits = load_gates(gates) if gates else DEFAULT_LIMITS
    check_folder(out)
    phantoms = phantoms or (checkpoint is None and data is None)
    source, _, trial = clip_sources(data, phantoms, parse_size(size), clips)
    with Bars(quiet) as bars:
        result = quantizing.quantize(
            checkpoint or default_checkpoint_path(),
            out,
            calibration=source,
            trial=trial,
            calibration_clips=clips,
            calibration_set=CalibrationSet.load(calibration) if calibration else None,
            order=order,
            limits=limits,
            explain=explain,
            seed=seed,
            observer=bars,
        )
    if not quiet:
        _print(result)
    if json:
        why = result.explanation
        document = {**result.chosen.as_dict(), "explanation": why and why.as_dict()}
        write_json(json, document)
    if result.failed:
        raise AccuracyGateFailed(
            f"accuracy gate failed on the trial clips: {'; '.join(result.failed)}",
            path=out / "plan.json",
            remedy="See explain.json beside it: which block hurts, and why",
        )


def _print(result: QuantizeResult) -> None:
    """The rules that were tried, what was restored, the explanation, what was written."""
    from rich.table import Table

    chosen = result.chosen
    if chosen.trials:
        table = Table(title=f"range rules, {chosen.clips} trial clips", title_justify="left")
        table.add_column("rule")
        for name in ("pixels %", "DSC %", "DSC drift", "SNR dB"):
            table.add_column(name, justify="right")
        for trial in chosen.trials:
            figures = (f"{trial.pixel_disagreement:.4f}", f"{trial.agreement_dsc:.2f}")
            drift = f"{trial.dsc_drift:+.3f}" if isfinite(trial.dsc_drift) else "-"
            more = (drift, f"{trial.snr_db:.1f}")
            table.add_row(trial.plan.rule.name, *figures, *more)
        console.print(table)
    if chosen.restoring is not None:
        for layer in chosen.restoring.restored:
            console.print(
                f"back to float: {plain(layer.layer)}, {layer.gain:.4f} % of pixels less, "
                f"{layer.gmacs:.2f} GMACs",
                soft_wrap=True,
            )
    if result.explanation is not None:
        _print_explanation(result.explanation)
    console.print(f"Written:  {plain(result.folder)}/clip.qdq.onnx, stream.qdq.onnx, plan.json")
    if result.explanation is not None:
        picture = result.folder / "sensitivity.png"
        console.print(
            f"Picture:  {plain(picture)}"
            if picture.is_file()
            else "No picture: pip install 'pkecho-edge[report]'"
        )


def _print_explanation(why: Explanation) -> None:
    from rich.table import Table

    table = Table(
        title=f"by block; with all in INT8 {why.whole:.4f} % of pixels differ",
        title_justify="left",
    )
    table.add_column("block")
    for name in ("only, %", "all but, %", "SNR dB", "time %", "GMACs"):
        table.add_column(name, justify="right")
    for row in why.rows:
        table.add_row(
            row.block,
            f"{row.only.pixel_disagreement:.4f}",
            "-" if row.all_but is None else f"{row.all_but.pixel_disagreement:.4f}",
            f"{row.snr_db:.1f}" if isfinite(row.snr_db) else "-",
            "-" if row.time_share is None else f"{100 * row.time_share:.0f}",
            f"{row.gmacs:.2f}",
        )
    console.print(table)
    for diagnosis in why.diagnoses:
        console.print(f"[yellow]finding:[/] {plain(diagnosis.message)}", soft_wrap=True)
    first = why.triage.first
    if first is None:
        console.print("No stage from the network to the engine diverges.")
    else:
        console.print(
            f"[red]First stage that diverges:[/] {plain(first.name)}, "
            f"{first.pixel_disagreement:.2f} % of pixels",
            soft_wrap=True,
        )
        for reason in why.reasons:
            console.print(f"It has {plain(reason.kind)}: {plain(reason.layer)}", soft_wrap=True)
