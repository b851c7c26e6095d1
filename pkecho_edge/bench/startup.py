"""From opening a bundle to its first mask, each time in a process of its own."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pkecho_edge.bench.child import run_child
from pkecho_edge.bundle.reader import check_bundle
from pkecho_edge.errors import UsageError
from pkecho_edge.stages import Observer

__all__ = ["StartupRow", "measure_startup"]


@dataclass(frozen=True)
class StartupRow:
    """Medians over starts of one kind.

    Attributes:
        engine: "runtime", as users open a bundle; "OpenVINO", called directly on the same files;
            "OpenVINO, model cache", the same with the compiled model kept on the disk before. What
            the cache brings is the difference of the last two.
        mode: always "stream".
        target, size, precision: of the bundle's engine; size (H, W).
        imports_ms: Python packages; the interpreter's own start is not counted.
        open_ms: every hash of the bundle.
        load_ms: the engine; the runtime checks the hashes once more.
        push_ms: the first frame, twice through the engine.
        total_ms: median of open + load + push of each start.
        rest_mb, peak_mb: resident memory of the whole process after loading, and at its highest,
            in MB of 10^6 bytes; None where the system does not say.
        starts: how many.
    """

    engine: str
    mode: str
    target: str
    size: tuple[int, int]
    precision: str
    imports_ms: float
    open_ms: float
    load_ms: float
    push_ms: float
    total_ms: float
    rest_mb: float | None
    peak_mb: float | None
    starts: int

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return asdict(self)


def measure_startup(bundle: Path, starts: int, observer: Observer) -> list[StartupRow]:
    """Start anew again and again, kinds in turn.

    Target `cpu` has no option for OpenVINO's model cache, so what it would bring is measured with
    OpenVINO called directly; other targets have the runtime's row only.

    Args:
        bundle: with a stream engine.
        starts: of each kind, at least 1. A first one of each is not counted: it fills the cache,
            and the system's own cache of files.
        observer: hears about progress.

    Raises:
        UsageError: no start, or no such folder.
        IntegrityError, EnvironmentMismatch: the bundle cannot be opened, or has no stream engine.
        PkechoEdgeError: a start failed.
    """
    if starts < 1:
        raise UsageError(f"{starts} starts", remedy="Ask for at least one")
    checked = check_bundle(bundle)
    engine = checked.engine("stream")
    size = checked.manifest.preprocessing.size
    precision = f"int8 + {engine.options.get('float_precision', 'f32')}"
    with tempfile.TemporaryDirectory() as cache:
        kinds = {"runtime": "runtime"}
        if engine.target == "cpu":
            kinds |= {"OpenVINO": "openvino", "OpenVINO, model cache": cache}
        observer.start("start anew", starts)
        figures: dict[str, list[Mapping[str, float | None]]] = {kind: [] for kind in kinds}
        for number in range(starts + 1):
            for kind, how in kinds.items():
                figures[kind].append(_start(bundle, how))
            if number:
                observer.advance()
        observer.done(f"{starts} starts of {len(kinds)} kinds")
    return [_row(kind, engine.target, size, precision, each[1:]) for kind, each in figures.items()]


def _start(bundle: Path, how: str) -> Mapping[str, float | None]:
    figures: Mapping[str, float | None] = run_child(
        "pkecho_edge.bench.startup_child",
        (str(bundle), how),
        about=bundle,
        remedy="Check it: pkecho-edge inspect",
    )
    return figures


def _row(
    kind: str,
    target: str,
    size: tuple[int, int],
    precision: str,
    figures: Sequence[Mapping[str, float | None]],
) -> StartupRow:
    totals = [
        sum(each[f"{step}_ms"] or 0.0 for step in ("open", "load", "push")) for each in figures
    ]
    return StartupRow(
        engine=kind,
        mode="stream",
        target=target,
        size=size,
        precision=precision,
        imports_ms=_median(figures, "imports_ms") or 0.0,
        open_ms=_median(figures, "open_ms") or 0.0,
        load_ms=_median(figures, "load_ms") or 0.0,
        push_ms=_median(figures, "push_ms") or 0.0,
        total_ms=statistics.median(totals),
        rest_mb=_median(figures, "rest_mb"),
        peak_mb=_median(figures, "peak_mb"),
        starts=len(figures),
    )


def _median(figures: Sequence[Mapping[str, float | None]], name: str) -> float | None:
    known = [value for each in figures if (value := each[name]) is not None]
    return statistics.median(known) if known else None
