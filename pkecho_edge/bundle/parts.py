"""The sections of a manifest, one frozen dataclass each (the engine's stands in engine_entry.py).

Each checks its values when it is made (ValueError), turns into plain JSON with `as_json` and is
rebuilt from a parsed object with `from_fields`, which also refuses unknown keys.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from pkecho_edge.bundle.checks import (
    check_choice,
    check_fraction,
    check_label,
    check_labels,
    check_sha256,
    check_threshold,
)
from pkecho_edge.bundle.engine_entry import MODES
from pkecho_edge.bundle.fields import Fields
from pkecho_edge.bundle.layout import check_path
from pkecho_edge.bundle.strict_json import Json, canonical_json, parse_json
from pkecho_edge.frame_size import FRAME_SIZES, is_frame_size

__all__ = [
    "COMPONENT_RULES",
    "RESIZE_RULES",
    "FileEntry",
    "GateLimit",
    "GoldenTolerances",
    "Lineage",
    "Postprocessing",
    "Preprocessing",
    "Reports",
    "Window",
]

RESIZE_RULES = ("bilinear-half-pixel",)
NORMALISATIONS = ("divide-by-255",)
COMPONENT_RULES = ("none", "largest")
WARM_UP_RULES = ("repeat-first-frame",)

_MAX_FILE_BYTES = 1 << 40

Figure: TypeAlias = "str | int | float | bool | None"


@dataclass(frozen=True)
class FileEntry:
    """One file of the bundle.

    Attributes:
        path: relative to the bundle, parts joined by "/".
        size: bytes.
        sha256: lower-case hexadecimal digits.
    """

    path: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        check_path(self.path)
        if not 0 <= self.size <= _MAX_FILE_BYTES:
            raise ValueError(f"the size of {self.path} is out of range")
        check_sha256(self.sha256, f"the SHA-256 of {self.path}")

    def as_json(self) -> dict[str, Json]:
        return {"path": self.path, "size": self.size, "sha256": self.sha256}

    @classmethod
    def from_fields(cls, fields: Fields) -> FileEntry:
        entry = cls(fields.text("path"), fields.integer("size"), fields.text("sha256"))
        fields.done()
        return entry


@dataclass(frozen=True)
class Preprocessing:
    """What happens to a u8 greyscale frame before the engine sees it.

    Attributes:
        size: (H, W) of the engine's frames, multiples of 32 from 96 to 640.
        resize: "bilinear-half-pixel": pixel i looks at (i + 0.5) * n_in / n_out - 0.5, clamped;
            the result is rounded half up to u8; the aspect ratio is not kept.
        normalisation: "divide-by-255".
        normalisation_in_graph: True when the engine does it and takes u8.
    """

    size: tuple[int, int]
    resize: str = "bilinear-half-pixel"
    normalisation: str = "divide-by-255"
    normalisation_in_graph: bool = True

    def __post_init__(self) -> None:
        if not is_frame_size(self.size):
            raise ValueError(f"the frame size must be two {FRAME_SIZES}")
        check_choice(self.resize, RESIZE_RULES, "the resize rule")
        check_choice(self.normalisation, NORMALISATIONS, "the normalisation")

    def as_json(self) -> dict[str, Json]:
        return {
            "size": list(self.size),
            "resize": self.resize,
            "normalisation": self.normalisation,
            "normalisation_in_graph": self.normalisation_in_graph,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Preprocessing:
        size = fields.integers("size")
        if len(size) != 2:
            raise ValueError(f"{fields.name('size')} must be height and width")
        result = cls(
            size=(size[0], size[1]),
            resize=fields.text("resize"),
            normalisation=fields.text("normalisation"),
            normalisation_in_graph=fields.boolean("normalisation_in_graph"),
        )
        fields.done()
        return result


@dataclass(frozen=True)
class Postprocessing:
    """How logits become a mask.

    Attributes:
        threshold: a pixel belongs to the mask where its logit is above it; 0 is probability 0.5.
        component: "none" keeps the mask, "largest" only its largest 8-connected component.
    """

    threshold: float = 0.0
    component: str = "none"

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        check_choice(self.component, COMPONENT_RULES, "the component rule")

    def as_json(self) -> dict[str, Json]:
        return {
            "threshold": float(self.threshold),
            "threshold_on": "logits",
            "component": self.component,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Postprocessing:
        check_choice(fields.text("threshold_on"), ("logits",), fields.name("threshold_on"))
        result = cls(fields.number("threshold"), fields.text("component"))
        fields.done()
        return result


@dataclass(frozen=True)
class Window:
    """How many frames the network sees, and what it sees before so many have arrived.

    Attributes:
        length: T, the frames of a clip and of a stream's window.
        warm_up: "repeat-first-frame": a stream's history starts as T-1 copies of the first
            frame's features, and results are flagged as warming up until T frames were pushed.
    """

    length: int = 10
    warm_up: str = "repeat-first-frame"

    def __post_init__(self) -> None:
        if not 2 <= self.length <= 256:
            raise ValueError("the window length must lie between 2 and 256 frames")
        check_choice(self.warm_up, WARM_UP_RULES, "the warm-up rule")

    def as_json(self) -> dict[str, Json]:
        return {"length": self.length, "warm_up": self.warm_up}

    @classmethod
    def from_fields(cls, fields: Fields) -> Window:
        result = cls(fields.integer("length"), fields.text("warm_up"))
        fields.done()
        return result


@dataclass(frozen=True)
class GoldenTolerances:
    """How far a device's results may lie from the golden vectors.

    Attributes:
        pixels_fraction: of a frame's pixels that differ, in the worst frame.
        area_fraction: of the golden area, in the worst frame.
    """

    pixels_fraction: float
    area_fraction: float

    def __post_init__(self) -> None:
        check_fraction(self.pixels_fraction, "the golden tolerance for pixels")
        check_fraction(self.area_fraction, "the golden tolerance for areas")

    def as_json(self) -> dict[str, Json]:
        return {
            "pixels_fraction": float(self.pixels_fraction),
            "area_fraction": float(self.area_fraction),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> GoldenTolerances:
        result = cls(fields.number("pixels_fraction"), fields.number("area_fraction"))
        fields.done()
        return result


@dataclass(frozen=True)
class GateLimit:
    """A limit that the engine was held to; what was measured stands in the reports.

    Attributes:
        name: for example "dsc_drift".
        mode: "clip" or "stream".
        limit: in `unit`.
        unit: for example "points"; "" for a ratio.
    """

    name: str
    mode: str
    limit: float
    unit: str

    def __post_init__(self) -> None:
        check_label(self.name, "the name of a gate")
        check_choice(self.mode, MODES, f"the mode of gate {self.name}")
        if not math.isfinite(self.limit):
            raise ValueError(f"the limit of gate {self.name} must be finite")
        if self.unit:
            check_label(self.unit, f"the unit of gate {self.name}")

    def as_json(self) -> dict[str, Json]:
        limit = float(self.limit)
        return {"name": self.name, "mode": self.mode, "limit": limit, "unit": self.unit}

    @classmethod
    def from_fields(cls, fields: Fields) -> GateLimit:
        name, mode = fields.text("name"), fields.text("mode")
        result = cls(name, mode, fields.number("limit"), fields.text("unit"))
        fields.done()
        return result


@dataclass(frozen=True)
class Lineage:
    """Where the engine comes from, so that a build can be traced and repeated.

    The engine's own hash is `Manifest.engine_sha256`. Nothing here may depend on the folder or
    the time of the build, or two builds differ.

    Attributes:
        checkpoint_sha256: of the original, unpruned checkpoint: the baseline.
        onnx_sha256: of the graphs that the target compiled: of the lines that `sha256sum` prints
            for them, sorted by name; None where it took another format.
        calibration_sha256: of the calibration list; None without quantization.
        pruning_sha256: of the pruning plan; None without pruning.
        tool_versions: package -> version, everything that took part in the build.
        configuration: of the network and of the build, plain JSON values.
        seed: of everything drawn at random.
    """

    checkpoint_sha256: str
    onnx_sha256: str | None
    calibration_sha256: str | None
    pruning_sha256: str | None
    tool_versions: Mapping[str, str]
    configuration: Mapping[str, Json] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        check_sha256(self.checkpoint_sha256, "lineage.checkpoint_sha256")
        for name in ("onnx_sha256", "calibration_sha256", "pruning_sha256"):
            value: str | None = getattr(self, name)
            if value is not None:
                check_sha256(value, f"lineage.{name}")
        check_labels(self.tool_versions, "tool_versions")
        if not 0 <= self.seed <= 1 << 53:
            raise ValueError("the seed must lie between 0 and 2^53")
        plain = parse_json(canonical_json(dict(self.configuration)))  # tuples become lists
        object.__setattr__(self, "configuration", plain)

    def as_json(self) -> dict[str, Json]:
        return {
            "checkpoint_sha256": self.checkpoint_sha256,
            "onnx_sha256": self.onnx_sha256,
            "calibration_sha256": self.calibration_sha256,
            "pruning_sha256": self.pruning_sha256,
            "tool_versions": dict(self.tool_versions),
            "configuration": dict(self.configuration),
            "seed": self.seed,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Lineage:
        result = cls(
            checkpoint_sha256=fields.text("checkpoint_sha256"),
            onnx_sha256=fields.optional_text("onnx_sha256"),
            calibration_sha256=fields.optional_text("calibration_sha256"),
            pruning_sha256=fields.optional_text("pruning_sha256"),
            tool_versions=fields.text_map("tool_versions"),
            configuration=fields.mapping("configuration"),
            seed=fields.integer("seed"),
        )
        fields.done()
        return result


@dataclass(frozen=True)
class Reports:
    """What compile measured: the one part of a manifest that differs from run to run.

    Attributes:
        headline: the figures worth showing without opening a report, a flat object; a number
            that is not finite becomes None.
        files: the files in reports/.
    """

    headline: Mapping[str, Figure] = field(default_factory=dict)
    files: tuple[FileEntry, ...] = ()

    def __post_init__(self) -> None:
        headline: dict[str, Figure] = {}
        for name, value in self.headline.items():
            check_label(name, "a name in headline")
            if isinstance(value, list | dict):
                raise ValueError(f"headline.{name} must be one figure")
            if isinstance(value, str):
                check_label(value, f"headline.{name}")
            unknown = isinstance(value, float) and not math.isfinite(value)
            headline[name] = None if unknown else value
        object.__setattr__(self, "headline", headline)

    def as_json(self) -> dict[str, Json]:
        return {
            "headline": dict(self.headline),
            "files": [entry.as_json() for entry in self.files],
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Reports:
        headline = cast("dict[str, Figure]", fields.mapping("headline"))
        files = tuple(FileEntry.from_fields(item) for item in fields.objects("files"))
        fields.done()
        return cls(headline, files)
