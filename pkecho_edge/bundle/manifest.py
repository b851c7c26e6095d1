"""The manifest: everything a device or an auditor must know about a bundle, as one JSON file.

    schema, bundle_id, security_version    which format, which content, which release
    target, profile, engines               what was compiled, for what, and how to load it
    preprocessing, postprocessing, window  what happens around the engine, as data
    golden                                 tolerances of the self-test
    lineage                                where it all comes from
    gates                                  the limits it was held to
    files                                  every other file outside reports/, with size and SHA-256
    reports                                the files in reports/ and the headline figures

Two builds of the same inputs differ in `reports` alone. The bundle id is derived from all the
rest, so it names the content; nobody chooses it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pkecho_edge.bundle.checks import check_label
from pkecho_edge.bundle.engine_entry import MODES, EngineEntry
from pkecho_edge.bundle.fields import Fields
from pkecho_edge.bundle.layout import (
    ENGINE,
    MANIFEST,
    MODEL_CARD,
    REPORTS,
    SBOM,
    check_no_collision,
)
from pkecho_edge.bundle.parts import (
    FileEntry,
    GateLimit,
    GoldenTolerances,
    Lineage,
    Postprocessing,
    Preprocessing,
    Reports,
    Window,
)
from pkecho_edge.bundle.strict_json import MAX_BYTES, Json, canonical_json, parse_json
from pkecho_edge.errors import EnvironmentMismatch, IntegrityError, PkechoEdgeError
from pkecho_edge.targets.base import TensorSpec

__all__ = [
    "MAX_SECURITY_VERSION",
    "MODES",
    "SCHEMA",
    "SCHEMA_VERSION",
    "EngineEntry",
    "FileEntry",
    "GateLimit",
    "GoldenTolerances",
    "Lineage",
    "Manifest",
    "Postprocessing",
    "Preprocessing",
    "Reports",
    "Window",
]

SCHEMA_VERSION = 2
SCHEMA = f"pkecho-edge/bundle/{SCHEMA_VERSION}"

MAX_HISTORY_CHANNELS = 4096
"""Of a stream's history; the network has 32."""

_ANY_SCHEMA = re.compile(r"pkecho-edge/bundle/([1-9][0-9]{0,8})")
MAX_SECURITY_VERSION = (1 << 31) - 1
"""What readers in any language hold, signed or not."""


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says.

    The pipeline fills in everything but `files` and `reports.files`; `writer.finish` adds these.

    Attributes:
        target, profile: what it was compiled for; profile None where no device was named.
        engines: one per mode, at least one.
        preprocessing, postprocessing, window: what happens around the engine.
        golden: tolerances of the self-test.
        lineage: where it comes from.
        gates: the limits it was held to.
        security_version: raised by one when older bundles must no longer be installed.
        files: everything outside reports/ but the manifest and its signature, sorted by path.
        reports: files in reports/ and headline figures.

    Raises:
        ValueError: a value out of range, or sections that contradict each other.
    """

    target: str
    profile: str | None
    engines: tuple[EngineEntry, ...]
    preprocessing: Preprocessing
    postprocessing: Postprocessing
    window: Window
    golden: GoldenTolerances
    lineage: Lineage
    gates: tuple[GateLimit, ...] = ()
    security_version: int = 1
    files: tuple[FileEntry, ...] = ()
    reports: Reports = field(default_factory=Reports)

    def __post_init__(self) -> None:
        check_label(self.target, "the target")
        if self.profile is not None:
            check_label(self.profile, "the profile")
        modes = [engine.mode for engine in self.engines]
        if not modes or len(set(modes)) != len(modes):
            raise ValueError("a bundle holds one engine per mode, and at least one")
        for engine in self.engines:
            _check_frames(engine, self.preprocessing.size, self.window.length)
        gates = [(gate.mode, gate.name) for gate in self.gates]
        if len(set(gates)) != len(gates):
            raise ValueError("a gate is listed twice")
        if not 0 <= self.security_version <= MAX_SECURITY_VERSION:
            raise ValueError("the security version must lie between 0 and 2^31 - 1")
        check_no_collision(entry.path for entry in self.all_files)
        _check_sides(self.files, self.reports.files)

    @property
    def all_files(self) -> tuple[FileEntry, ...]:
        """Every file but the manifest and its signature, reports included."""
        return (*self.files, *self.reports.files)

    @property
    def engine_sha256(self) -> str:
        """One hash for all engine files: that of the lines `sha256sum` prints, sorted by path."""
        entries = sorted(self.files, key=lambda entry: entry.path)
        lines = [f"{e.sha256}  {e.path}\n" for e in entries if e.path.startswith(f"{ENGINE}/")]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def bundle_id(self) -> str:
        """`pkb-` and 32 hexadecimal digits, derived from everything but the reports."""
        content = canonical_json(self._content()).encode()
        return f"pkb-{hashlib.sha256(content).hexdigest()[:32]}"

    def engine(self, mode: str = "clip") -> EngineEntry:
        """The engine of one mode.

        Raises:
            EnvironmentMismatch: the bundle has none.
        """
        for engine in self.engines:
            if engine.mode == mode:
                return engine
        have = " and ".join(engine.mode for engine in self.engines)
        raise EnvironmentMismatch(
            f"the bundle holds no {mode!a} engine, only {have}",
            remedy="Compile one with --mode both",
        )

    def to_json(self) -> str:
        """Canonical JSON: equal manifests give equal bytes.

        Raises:
            ValueError: the text would be larger than readers accept, 4 MiB.
        """
        content = self._content() | {
            "bundle_id": self.bundle_id,
            "reports": self.reports.as_json(),
        }
        text = canonical_json(content)
        if len(text) > MAX_BYTES:
            raise ValueError(f"the manifest is larger than {MAX_BYTES >> 20} MiB")
        return text

    def _content(self) -> dict[str, Json]:
        return {
            "schema": SCHEMA,
            "security_version": self.security_version,
            "target": self.target,
            "profile": self.profile,
            "engines": [engine.as_json() for engine in self.engines],
            "preprocessing": self.preprocessing.as_json(),
            "postprocessing": self.postprocessing.as_json(),
            "window": self.window.as_json(),
            "golden": self.golden.as_json(),
            "lineage": self.lineage.as_json() | {"engine_sha256": self.engine_sha256},
            "gates": [gate.as_json() for gate in self.gates],
            "files": [entry.as_json() for entry in self.files],
        }

    @classmethod
    def from_json(cls, text: str | bytes, *, path: Path | str = MANIFEST) -> Manifest:
        """Read a manifest that may come from an attacker.

        Args:
            text: the file's content.
            path: named in errors.

        Raises:
            IntegrityError: anything that `finish` would not have written.
            EnvironmentMismatch: a manifest of another schema version.
        """
        try:
            fields = Fields(parse_json(text))
            _check_schema(fields.text("schema"), path)
            manifest = _from_fields(fields)
        except (EnvironmentMismatch, IntegrityError):
            raise
        except (ValueError, PkechoEdgeError) as error:
            raise IntegrityError(
                str(error), path=path, remedy="Fetch or build the bundle again"
            ) from error
        return manifest

    def check_complete(self) -> None:
        """Refuse a manifest whose file list lacks something that every bundle has.

        Raises:
            ValueError: naming the file.
        """
        listed = {entry.path for entry in self.files}
        engine_files = [path for engine in self.engines for path in engine.paths]
        for path in (*engine_files, SBOM, MODEL_CARD):
            if path not in listed:
                raise ValueError(f"{path} is not among the files")


def _check_schema(schema: str, path: Path | str) -> None:
    match = _ANY_SCHEMA.fullmatch(schema)
    if match is None:
        raise ValueError(f"the schema is {schema[:60]!a}, not {SCHEMA}")
    version = int(match[1])
    if version != SCHEMA_VERSION:
        older = version < SCHEMA_VERSION
        remedy = "Compile it again with this version" if older else "Update pkecho-edge"
        raise EnvironmentMismatch(
            f"the bundle has schema version {version}, this is a reader for {SCHEMA_VERSION}",
            path=path,
            remedy=remedy,
        )


def _from_fields(fields: Fields) -> Manifest:
    """The manifest of an object whose `schema` has been taken."""
    bundle_id = fields.text("bundle_id")
    lineage = fields.mapping("lineage")
    engine_sha256 = lineage.pop("engine_sha256", None)
    manifest = Manifest(
        target=fields.text("target"),
        profile=fields.optional_text("profile"),
        engines=tuple(EngineEntry.from_fields(item) for item in fields.objects("engines")),
        preprocessing=Preprocessing.from_fields(fields.object("preprocessing")),
        postprocessing=Postprocessing.from_fields(fields.object("postprocessing")),
        window=Window.from_fields(fields.object("window")),
        golden=GoldenTolerances.from_fields(fields.object("golden")),
        lineage=Lineage.from_fields(Fields(lineage, "lineage")),
        gates=tuple(GateLimit.from_fields(item) for item in fields.objects("gates")),
        security_version=fields.integer("security_version"),
        files=tuple(FileEntry.from_fields(item) for item in fields.objects("files")),
        reports=Reports.from_fields(fields.object("reports")),
    )
    fields.done()
    manifest.check_complete()
    if engine_sha256 != manifest.engine_sha256:
        raise ValueError("lineage.engine_sha256 does not match the engine files")
    if bundle_id != manifest.bundle_id:
        raise ValueError("bundle_id does not match the content")
    return manifest


def _check_frames(engine: EngineEntry, size: tuple[int, int], length: int) -> None:
    """The engine takes u8 frames and yields f32 logits of the size that the manifest states.

    A stream engine also takes and gives a history that fits the window; none has anything else.
    """
    count, frames = (length, "frames") if engine.mode == "clip" else (1, "frame")
    shape = (count, 1, *size)
    if TensorSpec(frames, "u8", shape) not in engine.inputs:
        raise ValueError(f"the {engine.mode} engine has no input {frames} u8 {list(shape)}")
    if TensorSpec("logits", "f32", shape) not in engine.outputs:
        raise ValueError(f"the {engine.mode} engine has no output logits f32 {list(shape)}")
    if engine.mode == "stream":
        _check_history(engine, (length - 1, size[0] // 32, size[1] // 32))
    n_tensors = 2 if engine.mode == "stream" else 1
    if not len(engine.inputs) == len(engine.outputs) == n_tensors:
        raise ValueError(f"the {engine.mode} engine has more inputs or outputs than it may")


def _check_history(engine: EngineEntry, extents: tuple[int, int, int]) -> None:
    """history f32 [T-1, C, H/32, W/32] goes in and comes out, C at most MAX_HISTORY_CHANNELS."""
    length, height, width = extents
    for name, specs in (("history", engine.inputs), ("history_out", engine.outputs)):
        shapes = [spec.shape for spec in specs if spec.name == name and spec.dtype == "f32"]
        for channels in (shape[1] for shape in shapes if len(shape) == 4):
            known = 1 <= channels <= MAX_HISTORY_CHANNELS
            if known and shapes == [(length, channels, height, width)]:
                break
        else:
            raise ValueError(
                f"the stream engine has no {name} f32 [{length}, C, {height}, {width}]"
            )
    (before,) = (spec.shape for spec in engine.inputs if spec.name == "history")
    (after,) = (spec.shape for spec in engine.outputs if spec.name == "history_out")
    if before != after:
        raise ValueError("the stream engine's histories have different shapes")


def _check_sides(files: Sequence[FileEntry], reports: Sequence[FileEntry]) -> None:
    """Files in reports/ are listed under `reports`, all others under `files`; both sorted."""
    for entries, expected in ((files, False), (reports, True)):
        for entry in entries:
            if entry.path.startswith(f"{REPORTS}/") != expected:
                raise ValueError(f"{entry.path} is listed under the wrong key")
        paths = [entry.path for entry in entries]
        if paths != sorted(paths):
            raise ValueError("the files are not sorted by path")
