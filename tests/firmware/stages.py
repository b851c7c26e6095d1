"""libpkecho-stages.so, called with NumPy arrays; every output lies between guarded bytes."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.firmware.library import CBeat

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_GUARD, _GUARDED = 0xA5, 64


@dataclass(frozen=True)
class Component:
    """What a finder says of one mask."""

    area: int
    largest: int
    touches_border: bool
    mask: Mask
    outline: NDArray[np.float32]


@contextmanager
def guarded(shape: tuple[int, ...], dtype: type[np.generic] = np.uint8) -> Iterator[NDArray[Any]]:
    """An array that is wholly written, between bytes that are not."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.full(size + 2 * _GUARDED, _GUARD, dtype=np.uint8)
    yield memory[_GUARDED : _GUARDED + size].view(dtype).reshape(shape)
    assert (memory[:_GUARDED] == _GUARD).all()
    assert (memory[_GUARDED + size :] == _GUARD).all()


def address(array: NDArray[Any]) -> ctypes.c_void_p:
    """Of the first element."""
    return ctypes.c_void_p(array.ctypes.data)


class Stages:
    """The functions of firmware/tests/stages.cpp."""

    def __init__(self, library: Path) -> None:
        self.c = ctypes.CDLL(str(library))
        self.c.stages_finder_new.restype = ctypes.c_void_p
        self.c.stages_beats_new.restype = ctypes.c_void_p
        self.c.stages_outline.restype = ctypes.c_size_t
        self.c.stages_volume.restype = ctypes.c_double

    def resize_frame(self, frame: Bytes, size: tuple[int, int], stride: int) -> Bytes:
        """u8 [H, W] -> u8 [size]; `stride` bytes from row to row, none after the last pixel."""
        height, width = frame.shape
        memory = np.full(stride * (height - 1) + width, _GUARD, dtype=np.uint8)
        np.lib.stride_tricks.as_strided(memory, (height, width), (stride, 1))[:] = frame
        with guarded(size) as out:
            self.c.stages_resize_frame(
                address(memory), ctypes.c_size_t(stride), height, width, address(out), *size
            )
        return out

    def resize_mask(self, mask: Mask, size: tuple[int, int]) -> Mask:
        """bool [H, W] -> bool [size]."""
        with guarded(size) as out:
            self.c.stages_resize_mask(address(mask), *mask.shape, address(out), *size)
        assert out.max() <= 1
        return out.view(np.bool_)

    def threshold(self, logits: NDArray[np.float32], threshold: float) -> Mask:
        """f32 [N] -> bool [N]."""
        with guarded(logits.shape) as out:
            self.c.stages_threshold(
                address(logits),
                ctypes.c_size_t(logits.size),
                ctypes.c_float(threshold),
                address(out),
            )
        assert out.max(initial=0) <= 1
        return out.view(np.bool_)

    @contextmanager
    def finder(self, shape: tuple[int, int]) -> Iterator[Finder]:
        """A component finder for masks of one shape."""
        handle = ctypes.c_void_p(self.c.stages_finder_new(*shape))
        yield Finder(self, handle, shape)
        self.c.stages_finder_delete(handle)

    def volume(self, mask: Mask, spacing: tuple[float, float]) -> float:
        """In the cube of the spacing's unit."""
        row, column = map(ctypes.c_double, spacing)
        found: float = self.c.stages_volume(address(mask), *mask.shape, row, column)
        return found

    @contextmanager
    def beats(self) -> Iterator[Beats]:
        """A beat detector."""
        handle = ctypes.c_void_p(self.c.stages_beats_new())
        yield Beats(self, handle)
        self.c.stages_beats_delete(handle)


@dataclass(frozen=True)
class Finder:
    """A ComponentFinder."""

    stages: Stages
    handle: ctypes.c_void_p
    shape: tuple[int, int]

    def find(self, mask: Mask, *, into: str = "other") -> Component:
        """`into`: "other" memory, the "same" as the mask, or "none", where the mask stays."""
        c = self.stages.c
        found = (ctypes.c_uint64 * 3)()
        with guarded(self.shape) as image, guarded(self.shape) as other:
            image[:] = mask
            target = {"other": other, "same": image, "none": None}[into]
            c.stages_find(
                self.handle, address(image), None if target is None else address(target), found
            )
            assert into == "same" or np.array_equal(image, mask)
            component = image if target is None else target
            outline = self._outline(component)
        assert component.max() <= 1
        return Component(
            found[0], found[1], bool(found[2]), component.view(np.bool_).copy(), outline
        )

    def _outline(self, component: Bytes) -> NDArray[np.float32]:
        c = self.stages.c
        count = c.stages_outline(self.handle, address(component), None, ctypes.c_size_t(0))
        with guarded((count, 2), np.float32) as points:
            again = c.stages_outline(
                self.handle, address(component), address(points), ctypes.c_size_t(count)
            )
        assert again == count
        half = count // 2
        with guarded((half, 2), np.float32) as some:
            whole = c.stages_outline(
                self.handle, address(component), address(some), ctypes.c_size_t(half)
            )
        assert whole == count
        assert np.array_equal(some, points[:half])
        return points


@dataclass(frozen=True)
class Beats:
    """A BeatDetector."""

    stages: Stages
    handle: ctypes.c_void_p

    def push(
        self, index: int, time_s: float, area: float, volume: float, valid: bool, spaced: bool
    ) -> bool:
        """Whether a beat ended with the frame."""
        doubles = map(ctypes.c_double, (time_s, area, volume))
        return bool(
            self.stages.c.stages_beats_push(
                self.handle, ctypes.c_uint64(index), *doubles, int(valid), int(spaced)
            )
        )

    def restart(self) -> None:
        """Another sequence of frames begins."""
        self.stages.c.stages_beats_restart(self.handle)

    def beat(self) -> CBeat:
        """The last one."""
        beat = CBeat()
        self.stages.c.stages_beats_get(self.handle, ctypes.byref(beat))
        return beat
