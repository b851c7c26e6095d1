"""What a device reports: its plans, their timings, and the masks of the chosen ones.

The file comes from elsewhere and may be hostile: every value is checked, sizes are bounded before
anything is unpacked.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import UnusableInput

__all__ = ["RESULT_SCHEMA", "DevicePlan", "DeviceResult", "Latency", "read_result"]

RESULT_SCHEMA = "pkecho-edge/device-result/1"
_MAX_BYTES = 1 << 30
_MAX_PIXELS = 1 << 31
_MAX_TEXT = 400
_HASH = re.compile(r"[0-9a-f]{64}")
_MODES, _PRECISIONS = ("clip", "stream"), ("int8", "fp16", "fp32")
_REMEDY = "Run the kit on the device again and copy its result"


@dataclass(frozen=True)
class Latency:
    """Of one plan, or of the baseline: calls, milliseconds, spread, frames with a result a call."""

    n: int
    ms_p50: float
    ms_p95: float
    ms_p99: float
    cv: float
    results_per_call: int

    @property
    def fps(self) -> float:
        """Frames that get a result in a second."""
        return 1000 * self.results_per_call / self.ms_p50


@dataclass(frozen=True)
class DevicePlan:
    """One plan: what it was built from, whether its self-test passed, how fast it is."""

    mode: str
    precision: str
    graph: str
    self_test_passed: bool
    latency: Latency | None
    error: str | None


@dataclass(frozen=True)
class DeviceResult:
    """A result file.

    Attributes:
        path: of the file.
        bundle_id, manifest_sha256: of the bundle.
        clock_plausible: whether the device's calendar could be right.
        device: facts, text to text or number.
        plans: every plan.
        baseline, baseline_what: the FP32 baseline on the device, or why there is none.
        chosen: mode -> precision.
        reason: mode -> why.
    """

    path: Path
    bundle_id: str
    manifest_sha256: str
    clock_plausible: bool
    device: Mapping[str, str | int | float | None]
    plans: tuple[DevicePlan, ...]
    baseline: Latency | None
    baseline_what: str
    chosen: Mapping[str, str]
    reason: Mapping[str, str]
    _masks: Mapping[str, Mapping[str, tuple[tuple[int, int, int], str]]]

    def plan(self, mode: str) -> DevicePlan | None:
        """The chosen one of a mode."""
        wanted = self.chosen.get(mode)
        found = (plan for plan in self.plans if (plan.mode, plan.precision) == (mode, wanted))
        return next(found, None)

    def has_masks(self, mode: str) -> bool:
        """Whether clips of this mode were scored."""
        return bool(self._masks.get(mode))

    def masks(
        self, mode: str, content_sha256: str, shape: tuple[int, int, int]
    ) -> NDArray[np.bool_]:
        """Of one clip, bool [L, H, W].

        Args:
            mode, content_sha256: which.
            shape: that they must have; nothing larger is unpacked.

        Raises:
            UnusableInput: the clip is not in it, or its masks are damaged or of another shape.
        """
        entry = self._masks.get(mode, {}).get(content_sha256)
        if entry is None:
            raise UnusableInput(
                f"has no {mode} masks of the clip {content_sha256[:12]}",
                path=self.path,
                remedy="Verify on the data that the pack was made of",
            )
        found, data = entry
        if found != shape:
            raise UnusableInput(
                f"has masks {list(found)} of a clip {list(shape)}", path=self.path, remedy=_REMEDY
            )
        length, height, width = shape
        n_bytes = length * -(-height * width // 8)
        try:
            unpacker = zlib.decompressobj()
            bits = unpacker.decompress(base64.b64decode(data, validate=True), n_bytes + 1)
            if len(bits) != n_bytes or not unpacker.eof:
                raise ValueError("masks of another size")
        except (ValueError, binascii.Error, zlib.error) as error:
            raise UnusableInput(
                f"damaged masks of the clip {content_sha256[:12]} ({error})",
                path=self.path,
                remedy=_REMEDY,
            ) from error
        rows = np.frombuffer(bits, np.uint8).reshape(length, -1)
        flat = np.unpackbits(rows, axis=1)[:, : height * width]
        return flat.reshape(length, height, width).view(np.bool_)


def read_result(path: Path) -> DeviceResult:
    """Read a result file of the device kit.

    Raises:
        UnusableInput: it cannot be read, or is none.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES >> 30} GiB")
        raw = json.loads(path.read_bytes(), parse_constant=_no_constant)
        return _result(path, raw)
    except OSError as error:
        raise UnusableInput(
            f"cannot be read ({error.strerror})", path=path, remedy="Name the kit's result file"
        ) from error
    except (
        *(ValueError, KeyError, TypeError, AttributeError),
        *(RecursionError, OverflowError),
    ) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UnusableInput(
            f"is no result of the device kit ({reason})", path=path, remedy=_REMEDY
        ) from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _result(path: Path, raw: dict[str, Any]) -> DeviceResult:
    if not isinstance(raw, dict) or raw["schema"] != RESULT_SCHEMA:
        raise ValueError("another schema")
    baseline = raw["baseline"]
    what = _text(raw["baseline_reason"]) if baseline is None else _text(baseline["what"])
    return DeviceResult(
        path=path,
        bundle_id=_text(raw["bundle_id"]),
        manifest_sha256=_hash(raw["manifest_sha256"]),
        clock_plausible=raw["clock"] == "plausible",
        device={_text(name): _fact(value) for name, value in raw["device"].items()},
        plans=tuple(_plan(item) for item in raw["plans"]),
        baseline=None if baseline is None else _latency(baseline["latency"]),
        baseline_what=what,
        chosen={_of(m, _MODES): _of(p, _PRECISIONS) for m, p in raw["chosen"].items()},
        reason={_of(m, _MODES): _text(why) for m, why in raw["reason"].items()},
        _masks={
            _of(mode, _MODES): {_hash(e["content_sha256"]): _masks_entry(e) for e in entries}
            for mode, entries in raw["masks"].items()
        },
    )


def _plan(raw: dict[str, Any]) -> DevicePlan:
    test = raw["self_test"]
    return DevicePlan(
        mode=_of(raw["mode"], _MODES),
        precision=_of(raw["precision"], _PRECISIONS),
        graph=_text(raw["graph"]),
        self_test_passed=test is not None and test["passed"] is True,
        latency=None if raw["latency"] is None else _latency(raw["latency"]),
        error=None if raw["error"] is None else _text(raw["error"]),
    )


def _latency(raw: dict[str, Any]) -> Latency:
    p50, p95, p99 = (_positive(raw[name]) for name in ("ms_p50", "ms_p95", "ms_p99"))
    if not p50 <= p95 <= p99:
        raise ValueError("percentiles that fall")
    cv = math.nan if raw["cv"] is None else float(raw["cv"])
    return Latency(_count(raw["n"]), p50, p95, p99, cv, _count(raw["results_per_call"]))


def _masks_entry(raw: dict[str, Any]) -> tuple[tuple[int, int, int], str]:
    length, height, width = (_count(extent) for extent in raw["shape"])
    if length * height * width > _MAX_PIXELS:
        raise ValueError("masks of impossible size")
    if not isinstance(raw["data"], str):
        raise ValueError("masks that are no text")
    return (length, height, width), raw["data"]


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        raise ValueError("a text that is none, too long or not printable")
    return value


def _fact(value: object) -> str | int | float | None:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _text(value)


def _hash(value: object) -> str:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise ValueError("a hash that is none")
    return value


def _of(value: object, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{str(value)[:40]!r} is not one of {', '.join(known)}")
    return str(value)


def _count(value: object) -> int:
    if type(value) is not int or not 1 <= value <= 1 << 31:  # bool is an int to isinstance
        raise ValueError("a count that is none")
    return value


def _positive(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ValueError("a time that is none")
    return float(value)
