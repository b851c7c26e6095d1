"""OpenVINO IR of several models with one file of weights.

A model's .xml says of each constant where it lies in the .bin: offset and size. The clip and the
stream graph have nearly all constants in common, so both can point into one file that holds each
constant once.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino

__all__ = ["WEIGHTS", "save_with_shared_weights"]

WEIGHTS = "weights.bin"
_PLACE = re.compile(r'\boffset="(\d+)" size="(\d+)"')
_ALIGNMENT = 64
"""Bytes, a cache line: constants are read where the file is mapped."""


def save_with_shared_weights(models: Mapping[str, openvino.Model], out_dir: Path) -> None:
    """Write NAME.xml for each model, and weights.bin for all; equal models, equal bytes.

    Raises:
        RuntimeError, OSError: the disk is full or cannot be written.
    """
    import openvino as ov

    weights = bytearray()
    places: dict[bytes, int] = {}
    for name, model in models.items():
        with tempfile.TemporaryDirectory(dir=out_dir) as scratch:
            ir = Path(scratch, "model.xml")
            ov.save_model(model, ir, compress_to_fp16=False)
            text, constants = ir.read_text("utf-8"), ir.with_suffix(".bin").read_bytes()

        def moved(match: re.Match[str], constants: bytes = constants) -> str:
            offset, size = int(match[1]), int(match[2])
            constant = constants[offset : offset + size]
            if constant not in places:
                weights.extend(bytes(-len(weights) % _ALIGNMENT))
                places[constant] = len(weights)
                weights.extend(constant)
            return f'offset="{places[constant]}" size="{size}"'

        (out_dir / f"{name}.xml").write_text(_PLACE.sub(moved, text), "utf-8")
    (out_dir / WEIGHTS).write_bytes(weights)
