"""Run a bundle: check it, load the engines of its modes when they are needed. Needs no torch."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from pkecho_edge import targets
from pkecho_edge.bundle.golden import GoldenResult, GoldenVectors, compare
from pkecho_edge.bundle.layout import GOLDEN
from pkecho_edge.bundle.reader import Bundle, check_bundle, check_security_version
from pkecho_edge.data.resize import resize_frames
from pkecho_edge.errors import EnvironmentMismatch, IntegrityError, PkechoEdgeError, UsageError
from pkecho_edge.runtime.masks import to_mask
from pkecho_edge.runtime.stream import Stream, check_frame
from pkecho_edge.runtime.window import open_window, stream_runner, stream_stepper
from pkecho_edge.targets.base import Session

__all__ = ["ClipResult", "Engine", "open_bundle"]


@dataclass(frozen=True)
class ClipResult:
    """What an engine says of a clip, at the engine's own size.

    Attributes:
        logits: f32 [T, H, W].
        masks: bool [T, H, W], by the manifest's threshold and component rule.
        areas_px: int64 [T], pixels of each mask.
    """

    logits: NDArray[np.float32]
    masks: NDArray[np.bool_]
    areas_px: NDArray[np.int64]


class Engine:
    """A checked bundle, ready to run; `open_bundle` makes it, `with` closes it.

    The engine of a mode is loaded when it is first needed, and the bundle checked again then. Every
    method that needs one raises, beside its own errors:

        EnvironmentMismatch: the bundle has no engine of that mode, or it was built for another
            version or machine, or (MissingDependency) its runtime is not installed.
        IntegrityError: the bundle has changed since it was opened.
        UsageError: the engine is closed.

    `clip` and `logits` may be called by one thread at a time; a second one is refused with
    UsageError. Streams are independent of them and of one another.

    Attributes:
        bundle: what was opened.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._sessions: dict[str, Session] = {}
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._closed = False
        self._lock = threading.Lock()  # of the three above

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes that the bundle has an engine for: "clip", "stream" or both."""
        return tuple(entry.mode for entry in self.bundle.manifest.engines)

    def logits(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The clip engine on u8 [T, 1, H, W] at the engine's size -> f32 [T, 1, H, W].

        Raises:
            UsageError: another shape or dtype.
        """
        session = self._session("clip")
        return session.run({"frames": frames})["logits"].astype(np.float32, copy=False)

    def stream_logits(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The stream engine on a sequence from its start, at the engine's size.

        Args:
            frames: u8 [N, 1, H, W].

        Returns:
            f32 [N, 1, H, W]; the first T - 1 are of a window that is warming up.

        Raises:
            UsageError: another shape or dtype.
        """
        return stream_runner(self._session("stream"), self.bundle.engine("stream"))(frames)

    def stream_steps(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """The stream engine on a sequence of any length, frame by frame, at the engine's size.

        Args:
            frames: u8 [H, W] each; one is drawn when its logits are asked for.

        Returns:
            f32 [H, W] of each frame, as `stream_logits`.

        Raises:
            UsageError: another shape or dtype, when the frame is drawn.
        """
        return stream_stepper(self._session("stream"), self.bundle.engine("stream"))(frames)

    def clip(self, frames: NDArray[np.uint8]) -> ClipResult:
        """Segment T frames of any size.

        Args:
            frames: u8 [T, H, W]; resized by the manifest's rule where they do not fit.

        Raises:
            UsageError: another number of frames, dtype or rank.
        """
        manifest = self.bundle.manifest
        length = manifest.window.length
        if not isinstance(frames, np.ndarray) or frames.ndim != 3 or len(frames) != length:
            shape = list(frames.shape) if isinstance(frames, np.ndarray) else type(frames).__name__
            raise UsageError(
                f"frames are {shape}, not [{length}, H, W]",
                remedy=f"Pass {length} greyscale frames as one NumPy array",
            )
        check_frame(frames[0])
        resized = resize_frames(frames, manifest.preprocessing.size)
        logits = self.logits(np.ascontiguousarray(resized[:, None]))[:, 0]
        masks = np.stack([to_mask(frame, manifest.postprocessing) for frame in logits])
        return ClipResult(logits, masks, masks.sum(axis=(1, 2)))

    def stream(
        self, *, spacing_mm: tuple[float, float] | None = None, max_gap_s: float = 0.5
    ) -> Stream:
        """A live stream with a window of its own; all streams share one loaded engine.

        Args:
            spacing_mm: (row, column) of the frames' pixels, for areas in cm2.
            max_gap_s: frames further apart than this do not belong to one window.

        Raises:
            UsageError: a spacing or a gap that is not positive.
        """
        manifest = self.bundle.manifest
        session = self._session("stream")
        stream = Stream(
            open_window(session, self.bundle.engine("stream")),
            manifest.window.length,
            manifest.postprocessing,
            spacing_mm=spacing_mm,
            max_gap_s=max_gap_s,
        )
        with self._lock:
            self._check_open()
            self._streams.add(stream)
        return stream

    def self_test(self) -> dict[str, GoldenResult]:
        """Run the golden vectors of every mode and compare within the manifest's tolerances.

        Raises:
            IntegrityError: also where vectors are missing, damaged, of another shape, or made with
                another threshold than the manifest's.
        """
        manifest = self.bundle.manifest
        run = {"clip": self.logits, "stream": self.stream_logits}
        results = {}
        for mode in self.modes:
            golden = GoldenVectors.load(self.bundle.path / GOLDEN / mode)
            expected = (manifest.window.length, 1, *manifest.preprocessing.size)
            if golden.frames.shape != expected:
                raise IntegrityError(
                    f"the golden frames are {list(golden.frames.shape)}, not {list(expected)}",
                    path=self.bundle.path / GOLDEN / mode,
                    remedy="Fetch or build the bundle again",
                )
            if golden.threshold != manifest.postprocessing.threshold:
                raise IntegrityError(
                    f"the golden masks are above {golden.threshold:g}, the manifest's threshold "
                    f"is {manifest.postprocessing.threshold:g}",
                    path=self.bundle.path / GOLDEN / mode,
                    remedy="Fetch or build the bundle again",
                )
            logits = run[mode](golden.frames)
            results[mode] = compare(golden, logits, self.bundle.manifest.golden)
        return results

    def close(self) -> None:
        """Close its streams and free its engines; a second call does nothing."""
        with self._lock:
            self._closed = True
            for stream in self._streams:
                stream.close()
            for session in self._sessions.values():
                session.close()
            self._sessions.clear()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the engine is closed", remedy="Open the bundle again")

    def _session(self, mode: str) -> Session:
        """The loaded engine of a mode."""
        with self._lock:
            self._check_open()
            if mode not in self._sessions:
                self._sessions[mode] = _load(self.bundle, mode)
            return self._sessions[mode]


def open_bundle(path: Path | str, *, minimum_security_version: int = 0) -> Engine:
    """Check every hash of a bundle; its engines are loaded when they are first needed.

    Args:
        path: its folder.
        minimum_security_version: bundles of a lower one are refused; see docs/signing.md.

    Raises:
        UsageError: there is no such folder.
        IntegrityError: the bundle's bytes are not the ones its manifest lists, or it is too old.
        EnvironmentMismatch: it was built for another version or an unknown target.
    """
    bundle = check_bundle(path)
    check_security_version(bundle, minimum_security_version)
    if bundle.manifest.target not in targets.names():
        raise EnvironmentMismatch(
            f"it is for target {bundle.manifest.target!r}, which this version does not have",
            path=bundle.path,
            remedy="Update pkecho-edge",
        )
    return Engine(bundle)


def _load(bundle: Bundle, mode: str) -> Session:
    """Load an engine, and make sure that it is the one that was hashed when the bundle was opened.

    Hashing comes after loading: before it, something could still be swapped in between.
    """
    compiled = bundle.engine(mode)
    try:
        session = targets.get(bundle.manifest.target).load(compiled)
    except PkechoEdgeError as error:
        _check_unchanged(bundle, error)  # the better explanation, if it is one
        raise
    try:
        _check_unchanged(bundle)
    except IntegrityError:
        session.close()
        raise
    return session


def _check_unchanged(bundle: Bundle, cause: Exception | None = None) -> None:
    """Raise IntegrityError where the folder no longer holds what was opened."""
    try:
        unchanged = check_bundle(bundle.path).manifest_sha256 == bundle.manifest_sha256
    except (IntegrityError, UsageError, EnvironmentMismatch) as error:
        unchanged, cause = False, cause or error
    if not unchanged:
        raise IntegrityError(
            "it changed after it was opened", path=bundle.path, remedy="Open it again"
        ) from cause
