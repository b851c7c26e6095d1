"""`pkecho-edge run`: a bundle on a recording, with an overlay, a contact sheet and EF per beat."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.cli.console import (
    Bars,
    DebugOption,
    JsonOption,
    QuietOption,
    check_folder,
    console,
    plain,
    write_json,
)
from pkecho_edge.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from pkecho_edge.running.run import RunResult

__all__ = ["parse_spacing", "run"]

_BAR_WIDTH = 10  # beside it stands the curve
_SHOWN_BEATS, _TABLE_WIDTH = 12, 72


def run(
    bundle: Annotated[Path, typer.Argument(help="A *.pkb folder.", metavar="BUNDLE")],
    recording: Annotated[
        Path,
        typer.Argument(help="A video, DICOM ultrasound, or a folder of images.", metavar="INPUT"),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder; default: NAME.run here.", metavar="DIR")
    ] = None,
    frame_rate: Annotated[
        float | None,
        typer.Option(help="Frames per second, of a recording that does not say.", metavar="HZ"),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(help="Millimetres per pixel, N or ROWxCOLUMN, where unknown.", metavar="MM"),
    ] = None,
    regions: Annotated[
        bool,
        typer.Option("--regions/--no-regions", help="Keep to the 2D tissue region of a DICOM."),
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DIR.")] = False,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Segment a recording: overlay video, contact sheet, area per frame, EF per beat."""
    from pkecho_edge.running.output import default_output
    from pkecho_edge.running.run import run_bundle

    spacing_mm = None if spacing is None else parse_spacing(spacing)
    out = out or default_output(recording)
    check_folder(out)
    with Bars(quiet, width=_BAR_WIDTH) as bars:
        result = run_bundle(
            bundle,
            recording,
            out,
            regions=regions,
            frame_rate_hz=frame_rate,
            spacing_mm=spacing_mm,
            overwrite=overwrite,
            observer=bars,
        )
    if not quiet:
        _print_summary(result, out)
    if json:
        write_json(json, result.document)


def parse_spacing(text: str) -> tuple[float, float]:
    """ "0.3" -> (0.3, 0.3), "0.3x0.25" -> (0.3, 0.25): height of a pixel in mm, then width.

    Raises:
        UsageError: another form.
    """
    found = re.fullmatch(r"(\d*\.?\d+)(?:x(\d*\.?\d+))?", text)
    if not found:
        raise UsageError(f"spacing {text!r} is not N or ROWxCOLUMN", remedy="Write for example 0.3")
    return float(found[1]), float(found[2] or found[1])


def _print_summary(result: RunResult, out: Path) -> None:
    document = result.document
    if result.beats and console.width >= _TABLE_WIDTH:
        console.print(_beats_table(result))
    else:
        for beat in result.beats[:_SHOWN_BEATS]:
            flags = f" ({', '.join(beat.flags)})" if beat.flags else ""
            console.print(f"beat {beat.number}: EF {beat.ejection_fraction:.1f} %{flags}")
    left = len(result.beats) - _SHOWN_BEATS
    if left > 0:
        console.print(f"and {left} more in beats.csv")
    console.print(_mean_line(result), soft_wrap=True)
    for note in document["notes"]:
        console.print(f"note: {plain(note)}", soft_wrap=True)
    frames, window = document["frames"], document["bundle"]["window"]
    total = len(result.found.figures)
    console.print(
        f"{frames['valid']} of {total} frames valid; {frames['warming_up']} while the window of "
        f"{window} warmed up",
        soft_wrap=True,
    )
    duration = document["input"]["duration_s"]
    of = f" for {duration:.1f} s of recording" if duration else ""
    console.print(
        f"{document['speed']['segment_frames_per_s']:.1f} frames/s segmented; "
        f"{result.seconds:.1f} s in all{of}",
        soft_wrap=True,
    )
    console.print(
        f"Files:   {plain(out)}/ overlay.mp4, sheet.png, frames.csv, beats.csv, summary.json",
        soft_wrap=True,
    )


def _beats_table(result: RunResult) -> Table:
    from rich import box
    from rich.table import Table

    unit = "ml" if result.timed.recording.spacing_mm is not None else "px³"
    timed = result.timed.times_s is not None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    at = "s" if timed else "frame"
    for name in ("beat", f"ED ({at})", f"ES ({at})", f"EDV ({unit})", f"ESV ({unit})", "EF (%)"):
        table.add_column(name, justify="right")
    table.add_column("flags")
    for beat in result.beats[:_SHOWN_BEATS]:
        ends = [result.found.figures[index] for index in (beat.ed_index, beat.es_index)]
        table.add_row(
            str(beat.number),
            *(f"{end.time_s:.2f}" if timed else str(end.index) for end in ends),
            f"{beat.ed_volume:.0f}",
            f"{beat.es_volume:.0f}",
            f"{beat.ejection_fraction:.1f}",
            ", ".join(beat.flags),
        )
    return table


def _mean_line(result: RunResult) -> str:
    """The mean EF and what it is a mean of, or why there is none."""
    found = result.document["ejection_fraction"]
    if not result.beats:
        return "EF: none, no heart beat was found"
    if not found["beats"]:
        (first, *others) = result.beats
        if "partial" in first.flags and not others:
            return (
                f"EF {first.ejection_fraction:.1f} % from the largest to the smallest area of all "
                f"frames: no beat is whole ({found['method']})"
            )
        return f"EF: none that counts, see the flags ({found['method']})"
    mean = f"[bold]EF {found['mean']:.1f} %[/]"
    flagged = f"; {found['flagged']} flagged left out" if found["flagged"] else ""
    beats = f"{found['beats']} beat" + "s" * (found["beats"] > 1)
    return f"{mean}, mean of {beats}{flagged} ({found['method']})"
