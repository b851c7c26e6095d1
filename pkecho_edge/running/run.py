"""Run a bundle on a recording and write everything that is to be seen of it into one folder.

overlay.mp4   the recording with the outline on it
sheet.png     frames in time, ED and ES marked
frames.csv    figures of each frame
beats.csv     figures of each beat
summary.json  what was run on what, the beats, speed, notes
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pkecho_edge import targets
from pkecho_edge.data.opening import open_recording
from pkecho_edge.data.timed_recording import TimedRecording
from pkecho_edge.errors import EnvironmentMismatch
from pkecho_edge.metrics.beats import Beat, find_beats
from pkecho_edge.metrics.ejection_fraction import lv_volume
from pkecho_edge.running.drawing import check_pillow
from pkecho_edge.running.output import SUMMARY, check_output, output_folder
from pkecho_edge.running.overlay import UNTIMED_HZ, write_overlay
from pkecho_edge.running.segmentation import Segmentation, segment
from pkecho_edge.running.sheet import write_sheet
from pkecho_edge.running.tables import (
    beats_csv,
    beats_document,
    frames_csv,
    mean_ejection_fraction,
)
from pkecho_edge.runtime.engine import Engine, open_bundle
from pkecho_edge.stages import Observer, SilentObserver

__all__ = ["RunResult", "run_bundle"]

_SCHEMA = "pkecho-edge/run/1"


@dataclass(frozen=True, eq=False)
class RunResult:
    """What came of a run.

    Attributes:
        document: summary.json.
        beats: in time order.
        timed: the recording.
        found: its masks and figures.
        seconds: wall time of it all: reading, segmenting, drawing, encoding.
    """

    document: dict[str, Any]
    beats: tuple[Beat, ...]
    timed: TimedRecording
    found: Segmentation
    seconds: float


def run_bundle(
    bundle: Path,
    source: Path,
    out: Path,
    *,
    regions: bool = True,
    frame_rate_hz: float | None = None,
    spacing_mm: tuple[float, float] | None = None,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> RunResult:
    """Segment a recording and write the folder `out`.

    Args:
        bundle: its folder.
        source: a video, a DICOM file, an image or a folder of images.
        out: folder to make.
        regions, frame_rate_hz, spacing_mm: see `open_recording`.
        overwrite: replace `out` where an earlier run wrote it.
        observer: hears how it goes.

    Raises:
        UsageError: no such bundle, or `out` exists or cannot be written.
        IntegrityError: the bundle is damaged.
        EnvironmentMismatch: it is for a device, or its runtime or another package is not installed.
        RecordingError: the recording cannot be used.
    """
    began = time.perf_counter()
    observer = observer or SilentObserver()
    check_output(out, bundle, source, overwrite=overwrite)
    check_pillow()
    with open_bundle(bundle) as engine:
        _check_target(engine)
        observer.start("read", None)
        timed = open_recording(
            source, regions=regions, frame_rate_hz=frame_rate_hz, spacing_mm=spacing_mm
        )
        observer.done(_described(timed))
        found = segment(engine, timed, observer)
        beats = _beats(timed, found)
        with output_folder(out, bundle, source, overwrite=overwrite) as folder:
            write_overlay(folder / "overlay.mp4", timed, found, beats, observer)
            write_sheet(folder / "sheet.png", timed, found, beats, _titles(timed, found, beats))
            (folder / "frames.csv").write_text(frames_csv(found, beats), encoding="utf-8")
            (folder / "beats.csv").write_text(beats_csv(found, beats), encoding="utf-8")
            seconds = time.perf_counter() - began
            document = _document(engine, source, timed, found, beats, seconds)
            text = json.dumps(document, indent=2, allow_nan=False) + "\n"
            (folder / SUMMARY).write_text(text, encoding="utf-8")
    return RunResult(document, tuple(beats), timed, found, seconds)


def _check_target(engine: Engine) -> None:
    """Refuse a bundle whose engine another machine builds: here it would not be that engine."""
    manifest = engine.bundle.manifest
    if targets.get(manifest.target).capabilities.device_kit:
        raise EnvironmentMismatch(
            f"it is for target {manifest.target}, whose engine a device builds and runs",
            path=engine.bundle.path,
            remedy="Run one for this machine: pkecho-edge compile --target cpu",
        )


def _described(timed: TimedRecording) -> str:
    """Frames, size, time and spacing in one line."""
    recording = timed.recording
    count, height, width = recording.frames.shape
    words = [f"{count} frames" if count > 1 else "1 frame", f"{width}x{height}"]
    if timed.times_s is not None and count > 1:
        words.append(f"{timed.times_s[-1]:.2f} s")
    if recording.spacing_mm is not None:
        row, column = recording.spacing_mm
        words.append(f"pixels {row:.3g} mm" + (f" by {column:.3g} mm" if row != column else ""))
    return ", ".join(words)


def _beats(timed: TimedRecording, found: Segmentation) -> list[Beat]:
    spacing_mm = timed.recording.spacing_mm
    starts = [f.index for f in found.figures if f.restarted or not f.index]
    return find_beats(
        np.array([f.area_px for f in found.figures], dtype=np.float64),
        [f.valid for f in found.figures],
        lambda index: lv_volume(found.masks[index], spacing_mm),
        times_s=timed.times_s,
        starts=starts,
        spaced=spacing_mm is not None,
    )


def _titles(timed: TimedRecording, found: Segmentation, beats: list[Beat]) -> tuple[str, str]:
    """Of the sheet: what is shown, and what was found in it."""
    mean, counted = mean_ejection_fraction(beats)
    words = [_described(timed), f"{found.mode} engine"]
    if counted:
        words.append(f"EF {mean:.1f} %, mean of {counted} beat{'s' * (counted > 1)}")
    else:
        words.append("no beat that counts")
    name = "".join(c if c.isprintable() else " " for c in timed.recording.identifier)
    return name, "; ".join(words)


def _notes(timed: TimedRecording, found: Segmentation) -> list[str]:
    notes = list(timed.notes)
    if timed.times_s is None and len(found.figures) > 1:
        notes.append(
            "nothing says when frames were taken: no times, and the overlay plays at "
            f"{UNTIMED_HZ} frames/s"
        )
    if not timed.is_even:
        notes.append("frames are unevenly spaced in time; times are those of the file")
    restarts = [f.index for f in found.figures if f.restarted and f.index]
    if restarts:
        more = f" and {len(restarts) - 8} more" if len(restarts) > 8 else ""
        shown = ", ".join(map(str, restarts[:8]))
        notes.append(f"the window began anew at frames {shown}{more}")
    spacing_mm, problem = timed.recording.spacing_mm, timed.scale_problem
    if spacing_mm is not None and problem:
        notes.append(f"the spacing is the one given; the file's own is not believed: {problem}")
    elif problem:
        notes.append(f"no spacing: {problem}; areas and volumes are in pixels")
    elif spacing_mm is None:
        notes.append("no spacing: volumes are in cubic pixels, and EF takes pixels to be square")
    return notes


def _document(
    engine: Engine,
    source: Path,
    timed: TimedRecording,
    found: Segmentation,
    beats: list[Beat],
    seconds: float,
) -> dict[str, Any]:
    manifest, recording = engine.bundle.manifest, timed.recording
    latencies = [f.latency_ms for f in found.figures]
    count, height, width = recording.frames.shape
    return {
        "schema": _SCHEMA,
        "input": {
            "name": source.name or source.resolve().name,
            "kind": recording.source,
            "frames": count,
            "height": height,
            "width": width,
            "frame_rate_hz": recording.frame_rate_hz,
            "even": timed.is_even,
            "duration_s": None if timed.times_s is None else float(timed.times_s[-1]),
            "spacing_mm": None if recording.spacing_mm is None else list(recording.spacing_mm),
        },
        "bundle": {
            "id": manifest.bundle_id,
            "manifest_sha256": engine.bundle.manifest_sha256,
            "target": manifest.target,
            "mode": found.mode,
            "size": list(manifest.preprocessing.size),
            "window": manifest.window.length,
        },
        **beats_document(found, beats),
        "frames": {
            "valid": sum(f.valid for f in found.figures),
            "warming_up": sum("warming_up" in f.flags for f in found.figures),
            "empty": sum("empty" in f.flags for f in found.figures),
        },
        "speed": {
            "segment_frames_per_s": found.frames_per_s,
            "latency_ms_p50": float(np.percentile(latencies, 50)),
            "latency_ms_p99": float(np.percentile(latencies, 99)),
            "seconds": seconds,
        },
        "notes": _notes(timed, found),
    }
