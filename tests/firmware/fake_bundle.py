"""Bundles for the tests' own back-end, and what its network computes, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.bundle.golden import GoldenVectors
from pkecho_edge.bundle.manifest import Manifest
from pkecho_edge.bundle.writer import finish, staging
from tests.firmware.small_bundle import CHANNELS, SIDE, WINDOW, draft

THRESHOLD = -0.25


def write_fake_bundle(
    out: Path, *commands: str, target: str = "fake", component: str = "largest"
) -> Manifest:
    """A bundle whose stream engine is a list of commands for fake_backend.cpp."""
    manifest = draft()
    stream = replace(manifest.engine("stream"), files=("net.txt",))
    manifest = replace(
        manifest,
        target=target,
        engines=(stream,),
        postprocessing=replace(manifest.postprocessing, component=component),
    )
    with staging(out) as folder:
        engine = folder / stream.directory
        engine.mkdir(parents=True)
        (engine / "net.txt").write_text("".join(f"{line}\n" for line in commands) or "\n")
        frames = golden_frames()
        logits = fake_logits(frames)[:, None]
        GoldenVectors.of(frames[:, None], logits, THRESHOLD).write(folder / "golden" / "stream")
        return finish(folder, manifest).manifest


def golden_frames() -> NDArray[np.uint8]:
    """u8 [T, H, W]: a bright disc that shrinks."""
    rows, columns = np.ogrid[:SIDE, :SIDE]
    distance = np.hypot(rows - SIDE / 2, columns - SIDE / 2)
    radii = 40 - 2 * np.arange(WINDOW)
    return np.stack([np.where(distance < r, 150, 20) for r in radii]).astype(np.uint8)


def fake_logits(frames: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the network of fake_backend.cpp says to a stream of u8 [SIDE, SIDE], from its start."""
    history: list[NDArray[np.float32]] = []
    found = []
    for frame in frames:
        blocks = frame.reshape(SIDE // 32, 32, SIDE // 32, 32).astype(np.float64)
        mean = blocks.mean(axis=(1, 3)).astype(np.float32)
        scale = np.arange(1, CHANNELS + 1, dtype=np.float32)[:, None, None]
        features = mean * scale / np.float32(256)
        history = [*(history or [features] * (WINDOW - 1)), features]
        shift = np.float32(np.stack(history).astype(np.float64).mean() * 8)
        found.append(frame.astype(np.float32) - np.float32(100) + shift)
        history = history[1:]
    return np.stack(found)
