"""NumPy's .npy format, version 1.0, for exactly the arrays that golden vectors need.

The header is written and compared here instead of parsed: the bytes then depend on no NumPy
release, and a hostile header can claim nothing.
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["npy_bytes", "parse_npy"]

_DESCRIPTIONS = {"u8": "|u1", "f32": "<f4", "bool": "|b1"}
_ALIGNMENT = 64


def npy_bytes(array: NDArray[Any], dtype: str) -> bytes:
    """The file's content for an array of type "u8", "f32" or "bool", in C order."""
    stored = np.ascontiguousarray(array, dtype=np.dtype(_DESCRIPTIONS[dtype]))
    return _header(dtype, array.shape) + stored.tobytes()


def parse_npy(data: bytes, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The array of a file that must hold this type and shape.

    Raises:
        ValueError: it holds another type, shape, order or length, or a bool that is not 0 or 1.
    """
    header = _header(dtype, shape)
    if not data.startswith(header):
        raise ValueError(f"does not hold {dtype} {list(shape)}")
    body = data[len(header) :]
    kind = np.dtype(_DESCRIPTIONS[dtype])
    n_elements = 1
    for extent in shape:
        n_elements *= extent
    if len(body) != n_elements * kind.itemsize:
        raise ValueError(f"has {len(body)} bytes of values, not {n_elements * kind.itemsize}")
    if dtype == "bool" and body.translate(None, b"\0\1"):
        raise ValueError("holds a truth value that is neither 0 nor 1")
    return np.frombuffer(body, dtype=kind).reshape(shape)


def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    extents = ", ".join(str(extent) for extent in shape)
    extents = f"({extents},)" if len(shape) == 1 else f"({extents})"
    text = f"{{'descr': '{_DESCRIPTIONS[dtype]}', 'fortran_order': False, 'shape': {extents}, }}"
    prefix = b"\x93NUMPY\x01\x00"
    padding = -(len(prefix) + 2 + len(text) + 1) % _ALIGNMENT
    text += " " * padding + "\n"
    return prefix + len(text).to_bytes(2, "little") + text.encode("ascii")
