"""A small bundle for the C library's tests: both modes, frames of 96x96, engines that are bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pkecho_edge.bundle.golden import GoldenVectors
from pkecho_edge.bundle.manifest import (
    EngineEntry,
    GateLimit,
    GoldenTolerances,
    Lineage,
    Manifest,
    Postprocessing,
    Preprocessing,
    Reports,
    Window,
)
from pkecho_edge.bundle.strict_json import canonical_json
from pkecho_edge.bundle.writer import finish, staging
from pkecho_edge.targets.base import TensorSpec

WINDOW, SIDE, CHANNELS = 3, 96, 32

_SIZE = (SIDE, SIDE)
_HISTORY = (WINDOW - 1, CHANNELS, SIDE // 32, SIDE // 32)


def write_small_bundle(out: Path) -> Manifest:
    """Write it to `out`, unsigned, and return its manifest."""
    with staging(out) as folder:
        for mode in ("clip", "stream"):
            engine = folder / "engine" / mode
            engine.mkdir(parents=True)
            (engine / "net.xml").write_text(f"<net name='{mode}'/>\n")
            (engine / "net.bin").write_bytes(bytes(range(256)) * 5)
            _golden().write(folder / "golden" / mode)
        for name in ("model/network.json", "reports/report.json", "device/README.md"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("{}\n")
        return finish(folder, draft()).manifest


def copy_bundle(source: Path, out: Path, *changed: str) -> Path:
    """A copy whose files may be deleted or replaced at will; those in `changed` also overwritten.

    The other files are links to the same bytes on the disk, which costs next to nothing.
    """
    for below, _, names in os.walk(source):
        here = out / Path(below).relative_to(source)
        here.mkdir()
        for name in names:
            path = (here / name).relative_to(out).as_posix()
            copy = shutil.copyfile if path in changed else os.link
            copy(source / path, out / path)
    return out


def seal(document: dict[str, Any]) -> dict[str, Any]:
    """A manifest's hashes made to fit its content again, as far as it still has the form."""
    document = dict(document)
    try:
        lines = [
            f"{entry['sha256']}  {entry['path']}\n"
            for entry in sorted(document["files"], key=lambda entry: entry["path"])
            if entry["path"].startswith("engine/")
        ]
        hashed = hashlib.sha256("".join(lines).encode()).hexdigest()
        document["lineage"] = document["lineage"] | {"engine_sha256": hashed}
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    content = {k: v for k, v in document.items() if k not in ("bundle_id", "reports")}
    try:
        hashed = hashlib.sha256(canonical_json(content).encode()).hexdigest()
    except ValueError:  # a number that is not finite
        return document
    return document | {"bundle_id": f"pkb-{hashed[:32]}"}


def _golden() -> GoldenVectors:
    """A bright disc that shrinks from frame to frame."""
    rows, columns = np.ogrid[:SIDE, :SIDE]
    distance = np.hypot(rows - SIDE / 2, columns - SIDE / 2)
    logits = np.stack([20 - 2 * i - distance for i in range(WINDOW)])[:, None].astype(np.float32)
    return GoldenVectors.of(np.where(logits > 0, 30, 120).astype(np.uint8), logits)


def draft() -> Manifest:
    clip = EngineEntry(
        mode="clip",
        directory="engine/clip",
        files=("net.xml", "net.bin"),
        inputs=(TensorSpec("frames", "u8", (WINDOW, 1, *_SIZE)),),
        outputs=(TensorSpec("logits", "f32", (WINDOW, 1, *_SIZE)),),
        options={"float_precision": "f32", "threads": "2"},
        toolchain={"openvino": "2026.1.0"},
    )
    stream = replace(
        clip,
        mode="stream",
        directory="engine/stream",
        inputs=(TensorSpec("frame", "u8", (1, 1, *_SIZE)), TensorSpec("history", "f32", _HISTORY)),
        outputs=(
            TensorSpec("logits", "f32", (1, 1, *_SIZE)),
            TensorSpec("history_out", "f32", _HISTORY),
        ),
    )
    return Manifest(
        target="cpu",
        profile="generic-x86-64",
        engines=(clip, stream),
        preprocessing=Preprocessing(size=_SIZE),
        postprocessing=Postprocessing(threshold=-0.25, component="largest"),
        window=Window(length=WINDOW),
        golden=GoldenTolerances(pixels_fraction=0.002, area_fraction=0.02),
        lineage=Lineage(
            checkpoint_sha256="1" * 64,
            onnx_sha256="2" * 64,
            calibration_sha256="3" * 64,
            pruning_sha256=None,
            tool_versions={"torch": "2.11.0+cpu", "name of a tool ½ \N{GRINNING FACE}": "ä"},
            configuration={"widths": [64, 128], "scheme": None, "tiny": 1e-7, "empty": [[], {}]},
            seed=7,
        ),
        gates=(
            GateLimit("dsc_drift", "clip", 0.5, "points"),
            GateLimit("dsc_drift", "stream", 0.5, "points"),
            GateLimit("speedup", "clip", 1.0, ""),
        ),
        security_version=3,
        reports=Reports(headline={"fps": 169.0, "n_clips": 3, "verdict": "pass", "worst": None}),
    )
