"""libpkecho through ctypes: the structs of pkecho.h, and a thin layer that raises on a status."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

VALID, WARMING_UP, EMPTY, TOUCHES_BORDER, FRAGMENTED, LATE, CONTOUR_CUT, NEW_BEAT = (
    1 << bit for bit in range(8)
)
NONE, FIRST, RESET, GEOMETRY, SPACING, GAP = range(6)

_LOG = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)


def _size(struct: ctypes.Structure) -> ctypes.c_size_t:
    return ctypes.c_size_t(ctypes.sizeof(struct))


class CError(ctypes.Structure):
    """pkecho_error."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("status", ctypes.c_int),
        ("message", ctypes.c_char * 512),
    ]


class CBundleOptions(ctypes.Structure):
    """pkecho_bundle_options."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("public_keys", ctypes.POINTER(ctypes.c_char_p)),
        ("public_key_count", ctypes.c_size_t),
        ("minimum_security_version", ctypes.c_uint32),
        ("allow_unsigned", ctypes.c_int),
        ("log", _LOG),
        ("log_user", ctypes.c_void_p),
    ]


class CBundleInfo(ctypes.Structure):
    """pkecho_bundle_info."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("bundle_id", ctypes.c_char_p),
        ("target", ctypes.c_char_p),
        ("profile", ctypes.c_char_p),
        ("security_version", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("width", ctypes.c_uint32),
        ("window", ctypes.c_uint32),
        ("is_signed", ctypes.c_int),
        ("signed_by", ctypes.c_char_p),
        ("trusted_comment", ctypes.c_char_p),
    ]


class CEngineOptions(ctypes.Structure):
    """pkecho_engine_options."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("backend_dir", ctypes.c_char_p),
        ("cache_dir", ctypes.c_char_p),
        ("threads", ctypes.c_uint32),
        ("self_test", ctypes.c_int),
    ]


class CEngineInfo(ctypes.Structure):
    """pkecho_engine_info."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("backend", ctypes.c_char_p),
        ("runtime", ctypes.c_char_p),
        ("float_precision", ctypes.c_char_p),
        ("load_ms", ctypes.c_double),
    ]


class CReport(ctypes.Structure):
    """pkecho_self_test_report."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("frames", ctypes.c_uint32),
        ("max_abs_logit_difference", ctypes.c_double),
        ("pixels_differ_fraction", ctypes.c_double),
        ("pixels_limit", ctypes.c_double),
        ("area_difference_fraction", ctypes.c_double),
        ("area_limit", ctypes.c_double),
    ]


class CStreamOptions(ctypes.Structure):
    """pkecho_stream_options."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("max_gap_s", ctypes.c_double),
        ("deadline_ms", ctypes.c_double),
        ("measure_beats", ctypes.c_int),
    ]


class CFrame(ctypes.Structure):
    """pkecho_frame."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("stride", ctypes.c_size_t),
        ("format", ctypes.c_uint32),
        ("timestamp_s", ctypes.c_double),
        ("spacing_row_mm", ctypes.c_double),
        ("spacing_column_mm", ctypes.c_double),
    ]


class CBeat(ctypes.Structure):
    """pkecho_beat."""

    _fields_ = [
        ("number", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("frames", ctypes.c_uint32),
        ("ed_index", ctypes.c_uint64),
        ("es_index", ctypes.c_uint64),
        ("ed_timestamp_s", ctypes.c_double),
        ("es_timestamp_s", ctypes.c_double),
        ("ed_volume", ctypes.c_double),
        ("es_volume", ctypes.c_double),
        ("ejection_fraction", ctypes.c_double),
        ("method", ctypes.c_char_p),
    ]


class CResult(ctypes.Structure):
    """pkecho_result."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("mask", ctypes.c_void_p),
        ("mask_stride", ctypes.c_size_t),
        ("mask_bytes", ctypes.c_size_t),
        ("contour", ctypes.c_void_p),
        ("contour_capacity", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("restart", ctypes.c_int),
        ("index", ctypes.c_uint64),
        ("timestamp_s", ctypes.c_double),
        ("area_px", ctypes.c_uint64),
        ("area_cm2", ctypes.c_double),
        ("contour_count", ctypes.c_size_t),
        ("latency_ms", ctypes.c_double),
        ("preprocess_ms", ctypes.c_double),
        ("inference_ms", ctypes.c_double),
        ("postprocess_ms", ctypes.c_double),
        ("beat", CBeat),
    ]


class Refused(Exception):
    """A call's status, without PKECHO_, and the line that came with it."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


@dataclass
class Result:
    """One push."""

    mask: Mask
    contour: NDArray[np.float32]
    raw: CResult


@dataclass
class Library:
    """libpkecho of a build."""

    path: Path
    lines: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.c = ctypes.CDLL(str(self.path / "lib" / "libpkecho.so.1"))
        self.c.pkecho_status_name.restype = ctypes.c_char_p
        self.c.pkecho_version.restype = ctypes.c_char_p
        for name in ("bundle", "engine", "stream"):
            getattr(self.c, f"pkecho_{name}_close").argtypes = [ctypes.c_void_p]
            getattr(self.c, f"pkecho_{name}_close").restype = None
        self._log = _LOG(lambda _, level, line: self.lines.append((level, line.decode())))

    @property
    def backends(self) -> Path:
        """The folder that back-ends are looked for in, unless one says otherwise."""
        return self.path / "lib" / "pkecho"

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function whose last argument is the error; Refused on any other status than OK."""
        error = CError(ctypes.sizeof(CError))
        status = getattr(self.c, f"pkecho_{name}")(*arguments, ctypes.byref(error))
        if status:
            name = self.c.pkecho_status_name(status).decode().removeprefix("PKECHO_")
            assert error.status == status
            raise Refused(name, error.message.decode())

    def open_bundle(
        self,
        path: Path,
        *,
        keys: Sequence[str] = (),
        allow_unsigned: bool = True,
        minimum: int = 0,
    ) -> BundleHandle:
        """See pkecho_bundle_open."""
        options = CBundleOptions()
        self.c.pkecho_bundle_options_init(ctypes.byref(options), _size(options))
        texts = (ctypes.c_char_p * max(1, len(keys)))(*(key.encode() for key in keys))
        options.public_keys, options.public_key_count = texts, len(keys)
        options.allow_unsigned, options.minimum_security_version = allow_unsigned, minimum
        options.log = self._log
        handle = ctypes.c_void_p()
        self.call("bundle_open", os.fsencode(path), ctypes.byref(options), ctypes.byref(handle))
        return BundleHandle(self, handle)


@dataclass
class Handle:
    """Something open; `with` closes it."""

    library: Library
    handle: ctypes.c_void_p

    kind = ""

    def close(self) -> None:
        getattr(self.library.c, f"pkecho_{self.kind}_close")(self.handle)
        self.handle = ctypes.c_void_p()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BundleHandle(Handle):
    """pkecho_bundle."""

    kind = "bundle"

    def info(self) -> CBundleInfo:
        info = CBundleInfo(ctypes.sizeof(CBundleInfo))
        assert not self.library.c.pkecho_bundle_get_info(self.handle, ctypes.byref(info))
        return info

    def engine(self, **options: Any) -> EngineHandle:
        """See pkecho_engine_open; paths as Path."""
        given = CEngineOptions()
        self.library.c.pkecho_engine_options_init(ctypes.byref(given), _size(given))
        for name, value in options.items():
            setattr(given, name, os.fsencode(value) if isinstance(value, Path) else value)
        handle = ctypes.c_void_p()
        self.library.call("engine_open", self.handle, ctypes.byref(given), ctypes.byref(handle))
        return EngineHandle(self.library, handle)


class EngineHandle(Handle):
    """pkecho_engine."""

    kind = "engine"

    def info(self) -> CEngineInfo:
        info = CEngineInfo(ctypes.sizeof(CEngineInfo))
        assert not self.library.c.pkecho_engine_get_info(self.handle, ctypes.byref(info))
        return info

    def self_test(self, report: CReport | None = None) -> CReport:
        report = CReport(ctypes.sizeof(CReport)) if report is None else report
        self.library.call("engine_self_test", self.handle, ctypes.byref(report))
        return report

    def stream(self, **options: Any) -> StreamHandle:
        """See pkecho_stream_open."""
        given = CStreamOptions()
        self.library.c.pkecho_stream_options_init(ctypes.byref(given), _size(given))
        for name, value in options.items():
            setattr(given, name, value)
        handle = ctypes.c_void_p()
        self.library.call("stream_open", self.handle, ctypes.byref(given), ctypes.byref(handle))
        return StreamHandle(self.library, handle)


class StreamHandle(Handle):
    """pkecho_stream."""

    kind = "stream"

    def push(
        self,
        pixels: NDArray[np.uint8],
        timestamp_s: float | None = None,
        spacing_mm: tuple[float, float] = (0.0, 0.0),
        *,
        capacity: int = 4096,
        change: Callable[[CFrame, CResult], None] = lambda frame, result: None,
    ) -> Result:
        """Push u8 [H, W], any row stride; `change` spoils what is passed."""
        frame, result = CFrame(), CResult()
        self.library.c.pkecho_frame_init(ctypes.byref(frame), _size(frame))
        self.library.c.pkecho_result_init(ctypes.byref(result), _size(result))
        height, width = pixels.shape
        frame.data, frame.stride = pixels.ctypes.data, pixels.strides[0]
        frame.width, frame.height = width, height
        if timestamp_s is not None:
            frame.timestamp_s = timestamp_s
        frame.spacing_row_mm, frame.spacing_column_mm = spacing_mm
        mask = np.full((height, width + 3), 7, dtype=np.uint8)
        contour = np.zeros((capacity, 2), dtype=np.float32)
        result.mask, result.mask_stride = mask.ctypes.data, width + 3
        result.mask_bytes = mask.size - 3
        result.contour, result.contour_capacity = contour.ctypes.data, capacity
        change(frame, result)
        self.library.call("stream_push", self.handle, ctypes.byref(frame), ctypes.byref(result))
        assert (mask[:, width:] == 7).all(), "it wrote beyond a row"
        assert not result.mask or np.isin(mask[:, :width], (0, 255)).all()
        points = contour[: min(capacity, result.contour_count)]
        return Result(mask[:, :width] == 255, points, result)

    def reset(self) -> None:
        self.library.call("stream_reset", self.handle)
