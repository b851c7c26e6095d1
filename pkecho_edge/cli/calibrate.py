"""`pkecho-edge calibrate`: choose the clips that set the INT8 ranges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pkecho_edge.cli.calibrate_curve import report_curve
from pkecho_edge.cli.console import (
    Bars,
    DebugOption,
    JsonOption,
    QuietOption,
    SizeOption,
    check_file,
    console,
    errors,
    parse_size,
    parse_split,
    plain,
    write_json,
)
from pkecho_edge.errors import CalibrationError, DatasetError, UsageError

if TYPE_CHECKING:
    from pkecho_edge.calibration.calibration_set import CalibrationSet
    from pkecho_edge.data.clip import Clip

__all__ = ["calibrate"]


def calibrate(
    data: Annotated[Path, typer.Argument(help="Folder of recordings.", metavar="DATA")],
    clips: Annotated[int, typer.Option(help="How many clips to choose.", min=1)] = 32,
    rule: Annotated[
        str, typer.Option(help="How to choose: random, stratified or coverage.")
    ] = "random",
    split: Annotated[str, typer.Option(help="TRAIN, VAL, TEST or ALL.")] = "TRAIN",
    against: Annotated[
        Path | None,
        typer.Option(
            help="Verification data that may share nothing; default: DATA.", metavar="DIR"
        ),
    ] = None,
    against_split: Annotated[
        str, typer.Option(help="Of the verification data; NONE looks at nothing.")
    ] = "TEST",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Network of --rule coverage and --curve.", metavar="FILE")
    ] = None,
    curve: Annotated[
        Path | None,
        typer.Option(help="Also draw drift against the size of the set.", metavar="PNG"),
    ] = None,
    scheme: Annotated[str, typer.Option(help="Of --curve.")] = "cpu",
    pack: Annotated[
        bool, typer.Option("--pack", help="Write the frames beside it: the set travels.")
    ] = False,
    size: SizeOption = "128",
    seed: Annotated[int, typer.Option(help="Of the choice.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="File to write.", metavar="FILE")] = Path(
        "calibration.json"
    ),
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a small file that names the calibration clips and hashes their frames."""
    from pkecho_edge.calibration.calibration_set import CalibrationSet
    from pkecho_edge.calibration.frames import check_clips
    from pkecho_edge.calibration.pack import drop_pack, write_pack
    from pkecho_edge.calibration.selection import SELECTION_RULES, coverage, select_clips
    from pkecho_edge.model.checkpoint import default_checkpoint_path

    if rule not in SELECTION_RULES:
        raise UsageError(
            f"unknown rule {rule!r}", remedy=f"Use --rule {', '.join(SELECTION_RULES)}"
        )
    check_file(out)
    network = checkpoint or default_checkpoint_path()
    found, skipped = _clips(data, split, size, quiet)
    ranges = _ranges(network, found, quiet) if rule == "coverage" else None
    picked = select_clips(found, clips, seed, rule, ranges)
    warnings = check_clips(picked)
    chosen = CalibrationSet.of(picked, rule, seed)
    if against_split.upper() != "NONE":
        try:
            _check_against(chosen, against or data, against_split, size, quiet, given=bool(against))
        except CalibrationError as error:
            if against is None and split.upper() in ("ALL", against_split.upper()):
                remedy = f"Use another --split: {split.upper()} takes in what is verified on"
                raise CalibrationError(error.what, path=error.path, remedy=remedy) from error
            raise
    if curve is not None:
        report_curve(found, network, scheme, "minmax/minmax+bias", seed, curve, quiet=quiet)
    if pack:
        write_pack(picked, out)
    else:
        drop_pack(out)
    chosen.save(out)
    for warning in (*chosen.warnings(), *warnings, *(f"left out {why}" for why in skipped)):
        errors.print(f"[yellow]warning:[/] {plain(warning)}", soft_wrap=True)
    figures = _figures(picked, chosen)
    if ranges is not None:
        numbers = [found.index(clip) for clip in picked]
        figures["coverage"] = coverage(ranges, numbers)
    if json is not None:
        write_json(json, {**figures, "warnings": [*chosen.warnings(), *warnings]})
    if not quiet:
        _print(figures, data, out)


def _clips(data: Path, split: str, size: str, quiet: bool) -> tuple[list[Clip], list[str]]:
    """Every usable clip of a split, and what was left out."""
    from pkecho_edge.data import sources

    found = []
    with Bars(quiet) as bars:
        bars.start("clips", None)
        wanted = parse_split(split)
        source = sources.dataset(data, parse_size(size), split=wanted)
        for clip in source:
            found.append(clip)
            bars.advance()
        bars.done(f"{len(found)} usable in {data}")
    return found, source.skipped


def _ranges(checkpoint: Path, clips: Sequence[Clip], quiet: bool) -> Any:
    """What each clip's channels reach, f32 [clips, channels, 2]."""
    import tempfile

    from pkecho_edge.calibration.activations import channel_ranges
    from pkecho_edge.lowering.onnx_export import export_clip_onnx
    from pkecho_edge.model.identity import load_identified

    network, _ = load_identified(checkpoint)
    height, width = clips[0].frames.shape[-2:]
    with Bars(quiet) as bars, tempfile.TemporaryDirectory() as folder:
        bars.start("activation ranges", None)
        graph = Path(folder, "clip.onnx")
        export_clip_onnx(network, (height, width), graph, clips[0].frames)
        ranges = channel_ranges(graph, clips)
        bars.done(f"{ranges.shape[1]} channels")
    return ranges


def _check_against(
    chosen: CalibrationSet, data: Path, split: str, size: str, quiet: bool, *, given: bool
) -> None:
    """Refuse a set that shares a clip, a patient or pictures with the verification data.

    Where none was named, DATA without such a split is nothing to look at.

    Raises:
        CalibrationError: it does.
        DatasetError: the named data cannot be read.
    """
    from pkecho_edge.data import sources

    with Bars(quiet) as bars:
        bars.start("leakage", None)
        wanted = parse_split(split)
        source = sources.dataset(data, parse_size(size), split=wanted)
        count = 0
        try:
            for clip in source:
                chosen.check_disjoint([clip])
                count += 1
                bars.advance()
        except DatasetError:
            if given:
                raise
            bars.done(f"{data} has no split {split.upper()} to look at")
            return
        bars.done(f"none: {count} clips of {data}, split {split.upper()}, share nothing")


def _figures(clips: Sequence[Clip], chosen: CalibrationSet) -> dict[str, Any]:
    from collections import Counter

    brightness = sorted(float(clip.frames.mean()) for clip in clips)
    return {
        "clips": len(clips),
        "patients": len({clip.patient for clip in clips}),
        "recordings": len({clip.recording for clip in clips}),
        "rule": chosen.rule,
        "quality": dict(sorted(Counter(clip.quality or "unknown" for clip in clips).items())),
        "grey_mean": [brightness[0], brightness[len(brightness) // 2], brightness[-1]],
        "sha256": chosen.sha256,
    }


def _print(figures: dict[str, Any], data: Path, out: Path) -> None:
    low, middle, high = figures["grey_mean"]
    quality = ", ".join(f"{plain(name)} {count}" for name, count in figures["quality"].items())
    console.print(
        f"{figures['clips']} clips of {figures['patients']} patients, {figures['rule']}; quality: "
        f"{quality}; mean grey {low:.0f} to {high:.0f}, median {middle:.0f}",
        soft_wrap=True,
    )
    if "coverage" in figures:
        console.print(f"They reach {100 * figures['coverage']:.1f} % of what all clips reach.")
    console.print(f"SHA-256 {figures['sha256'][:16]}…, in {plain(out)}")
    console.print(
        f"Next: pkecho-edge compile CHECKPOINT --data {plain(data)} --calibration {plain(out)}",
        soft_wrap=True,
    )
