"""Golden vectors: frames and the results they must give, for the self-test on the device.

One folder per mode, golden/clip and golden/stream, each with golden.json and four .npy files (C
order, little endian, never pickled):

    frames.npy    u8   [T, 1, H, W]   what goes into the engine: at once, or one by one from the
                                      start of a stream
    logits.npy    f32  [T, 1, H, W]   what came out of it when the bundle was built
    masks.npy     bool [T, H, W]      logits above the threshold, before any component rule
    areas_px.npy  f32  [T]            pixels of each mask
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.bundle.checks import check_threshold
from pkecho_edge.bundle.fields import Fields
from pkecho_edge.bundle.npy import npy_bytes, parse_npy
from pkecho_edge.bundle.parts import GoldenTolerances
from pkecho_edge.bundle.safe_read import read_regular_file
from pkecho_edge.bundle.strict_json import MAX_BYTES, Json, canonical_json, parse_json
from pkecho_edge.errors import IntegrityError

__all__ = ["GoldenResult", "GoldenVectors", "compare"]

_SCHEMA = "pkecho-edge/golden/1"
_INDEX = "golden.json"
_DTYPES = {"frames": "u8", "logits": "f32", "masks": "bool", "areas_px": "f32"}
_MAX_BYTES = 512 << 20
_REMEDY = "Fetch or build the bundle again"


@dataclass(frozen=True)
class GoldenVectors:
    """Frames and the results that the engine gave for them.

    Attributes:
        frames: u8 [T, 1, H, W].
        logits: f32 [T, 1, H, W], finite.
        masks: bool [T, H, W], logits above `threshold`.
        areas_px: f32 [T], pixels of each mask; 0 for an empty one.
        threshold: on logits.

    Raises:
        ValueError: types, shapes or values that contradict each other.
    """

    frames: NDArray[np.uint8]
    logits: NDArray[np.float32]
    masks: NDArray[np.bool_]
    areas_px: NDArray[np.float32]
    threshold: float = 0.0

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or len(shape) != 4 or shape[1] != 1 or 0 in shape:
            raise ValueError("golden frames must be u8 [T, 1, H, W]")
        if self.logits.dtype != np.float32 or self.logits.shape != shape:
            raise ValueError("golden logits must be f32 of the frames' shape")
        if not np.isfinite(self.logits).all():
            raise ValueError("golden logits must be finite")
        masks, areas_px = _masks_and_areas(self.logits, self.threshold)
        if not np.array_equal(self.masks, masks):
            raise ValueError("golden masks are not the golden logits above the threshold")
        if not np.array_equal(self.areas_px, areas_px):
            raise ValueError("golden areas are not those of the golden masks")

    @classmethod
    def of(
        cls, frames: NDArray[np.uint8], logits: NDArray[np.float32], threshold: float = 0.0
    ) -> GoldenVectors:
        """The vectors of frames u8 and logits f32, both [T, 1, H, W]: masks and areas follow."""
        masks, areas_px = _masks_and_areas(logits, threshold)
        return cls(frames, logits, masks, areas_px, threshold)

    def write(self, folder: Path) -> None:
        """Write the five files into `folder`, which is made if need be; equal vectors, equal bytes.

        Raises:
            OSError: the folder cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Json] = {}
        for name, dtype in _DTYPES.items():
            array: NDArray[Any] = getattr(self, name)
            (folder / f"{name}.npy").write_bytes(npy_bytes(array, dtype))
            arrays[name] = {"dtype": dtype, "shape": list(array.shape)}
        index = {"schema": _SCHEMA, "threshold": float(self.threshold), "arrays": arrays}
        (folder / _INDEX).write_bytes(canonical_json(index).encode())

    @classmethod
    def load(cls, folder: Path) -> GoldenVectors:
        """Read what `write` wrote.

        Raises:
            IntegrityError: a file is missing, damaged or contradicts another; names the file.
        """
        index = folder / _INDEX
        try:
            threshold, shapes = _parse_index(read_regular_file(index, MAX_BYTES))
        except ValueError as error:
            raise IntegrityError(str(error), path=index, remedy=_REMEDY) from error
        arrays = {name: _load_array(folder / f"{name}.npy", name, shapes[name]) for name in _DTYPES}
        try:
            return cls(**arrays, threshold=threshold)
        except ValueError as error:
            raise IntegrityError(str(error), path=folder, remedy=_REMEDY) from error


@dataclass(frozen=True)
class GoldenResult:
    """How far an engine's results lie from the golden vectors.

    Attributes:
        max_abs_logit_difference: over all pixels; infinite where a logit is not finite.
        pixels_differ_fraction: of the H * W pixels, in the worst frame.
        area_difference_fraction: of the golden area, in the worst frame; where the golden mask is
            empty, of the frame's pixels instead.
        passed: both fractions are within the tolerances and every logit is finite.
    """

    max_abs_logit_difference: float
    pixels_differ_fraction: float
    area_difference_fraction: float
    passed: bool


def compare(
    golden: GoldenVectors, logits: NDArray[Any], tolerances: GoldenTolerances
) -> GoldenResult:
    """Compare logits f32 [T, 1, H, W], however they came about, with the golden ones.

    Raises:
        IntegrityError: the logits have another shape.
    """
    if logits.shape != golden.logits.shape:
        raise IntegrityError(
            f"the engine gives logits {list(logits.shape)}, not {list(golden.logits.shape)}",
            remedy=_REMEDY,
        )
    logits = logits.astype(np.float32, copy=False)  # [T, 1, H, W]
    masks, areas_px = _masks_and_areas(logits, golden.threshold)
    pixels_in_frame = masks[0].size
    differ = (masks != golden.masks).sum(axis=(1, 2))  # [T]
    base = np.where(golden.areas_px > 0, golden.areas_px, pixels_in_frame)
    pixels_fraction = float(differ.max()) / pixels_in_frame
    area_fraction = float((np.abs(areas_px - golden.areas_px) / base).max())
    logit_difference = _max_difference(logits, golden.logits)
    return GoldenResult(
        max_abs_logit_difference=logit_difference,
        pixels_differ_fraction=pixels_fraction,
        area_difference_fraction=area_fraction,
        passed=(
            math.isfinite(logit_difference)
            and pixels_fraction <= tolerances.pixels_fraction
            and area_fraction <= tolerances.area_fraction
        ),
    )


def _max_difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    if not np.isfinite(a).all():
        return math.inf
    return float(np.abs(a.astype(np.float64) - b).max())


def _masks_and_areas(
    logits: NDArray[np.float32], threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Logits f32 [T, 1, H, W] -> masks bool [T, H, W], areas f32 [T]."""
    masks = logits[:, 0] > np.float32(threshold)
    return masks, masks.sum(axis=(1, 2)).astype(np.float32)


def _parse_index(data: bytes) -> tuple[float, dict[str, tuple[int, ...]]]:
    """Threshold and shapes of golden.json; ValueError where it is not one of ours."""
    fields = Fields(parse_json(data))
    if fields.text("schema") != _SCHEMA:
        raise ValueError(f"the schema is not {_SCHEMA}")
    threshold, arrays = fields.number("threshold"), fields.object("arrays")
    fields.done()
    shapes = {}
    for name, dtype in _DTYPES.items():
        entry = arrays.object(name)
        shapes[name] = entry.integers("shape")
        if entry.text("dtype") != dtype:
            raise ValueError(f"{name} must be {dtype}")
        if not 1 <= len(shapes[name]) <= 4 or not all(1 <= n <= 1 << 16 for n in shapes[name]):
            raise ValueError(f"the shape of {name} is out of range")
        entry.done()
    arrays.done()
    return threshold, shapes


def _load_array(path: Path, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        return parse_npy(read_regular_file(path, _MAX_BYTES), _DTYPES[name], shape)
    except ValueError as error:
        raise IntegrityError(str(error), path=path, remedy=_REMEDY) from error
