"""Pruning as stages of the street: lessons, then prune and recover; each found again by content.

A recovery of an hour may be interrupted: what it has learned lies in the cache under `recoveries/`
until its stage is whole, and the next run goes on from there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pkecho_edge.building import shape, tool_versions
from pkecho_edge.errors import CheckpointError, UsageError
from pkecho_edge.files import FolderBusy, claimed_folder
from pkecho_edge.frame_size import check_frame_size
from pkecho_edge.lesson_source import HELD_OUT, LessonSource
from pkecho_edge.model.checkpoint import load_checkpoint, save_checkpoint
from pkecho_edge.model.identity import find_checkpoint, load_identified
from pkecho_edge.recovering import (
    LOOKED_AT,
    PruningOrder,
    PruningReport,
    read_report,
    recover,
)
from pkecho_edge.stages import Observer, StageCache, package_sha256
from pkecho_edge.targets.base import CompileOptions
from pkecho_edge.training.lessons import Lessons, read_lessons, teach
from pkecho_edge.tuning.layer_costs import cached_latency_table

if TYPE_CHECKING:
    import torch

    from pkecho_edge.model.network import PKEchoNet
    from pkecho_edge.pruning.cost import WidthCost

__all__ = ["LESSONS", "NETWORK", "Lineaged", "Pruned", "check_pruned_from", "check_reachable"]
__all__ += ["check_scope", "drawn_from"]
__all__ += ["lessons_inputs", "lessons_scale", "load_lineaged", "prune_checkpoint", "prune_inputs"]
__all__ += ["prune_scale", "read_lineaged"]

_FOLDERS = ("metrics", "model", "pruning", "training")
_CODE = (*_FOLDERS, "frame_size.py", "processors.py", "pruning_stage.py", "recovering.py")
"""What decides a pruned network, and what is said of it."""

_TIMED = "cpu"
"""The target whose layers `tuning.layer_costs` times."""

LESSONS = "lessons"
"""Name of their stage."""

NETWORK, _REPORT = "pruned.safetensors", "pruning.json"


@dataclass(frozen=True)
class Lineaged:
    """A checkpoint, and the unpruned one that it goes back to.

    Attributes:
        network, sha256: of the checkpoint.
        baseline, baseline_sha256: itself, where it was not pruned.
        report: how it was pruned, as PruningReport.as_dict; None where it was not.
    """

    network: PKEchoNet
    sha256: str
    baseline: PKEchoNet
    baseline_sha256: str
    report: Mapping[str, Any] | None


@dataclass(frozen=True)
class Pruned:
    """A pruned checkpoint in the cache.

    Attributes:
        path: of the checkpoint; its header holds the report.
        report: as PruningReport.as_dict.
        reused: whether it was there before.
    """

    path: Path
    report: Mapping[str, Any]
    reused: bool


def load_lineaged(checkpoint: Path, given: Path | None, stages: StageCache) -> Lineaged:
    """As `read_lineaged`; checkpoint and baseline are kept in the cache."""
    found, path = _lineage(checkpoint, given, stages)
    stages.keep(checkpoint, found.sha256, "checkpoints")
    if path is not None:
        stages.keep(path, found.baseline_sha256, "checkpoints")
    return found


def read_lineaged(checkpoint: Path, given: Path | None, stages: StageCache) -> Lineaged:
    """A checkpoint and its baseline, which is looked for by its hash; nothing is written.

    Args:
        checkpoint: any.
        given: the baseline; None for the packaged checkpoint, or one that was seen before.

    Raises:
        CheckpointError: one of them cannot be loaded, or the baseline is not found, or is another.
    """
    return _lineage(checkpoint, given, stages)[0]


def _lineage(
    checkpoint: Path, given: Path | None, stages: StageCache
) -> tuple[Lineaged, Path | None]:
    """And the baseline's file, where that is another."""
    network, digest = load_identified(checkpoint)
    report = read_report(checkpoint)
    if report is None and given is None:
        return Lineaged(network, digest, network, digest, None), None
    wanted = digest if report is None else str(report["baseline_sha256"])
    path = find_checkpoint(wanted, given, [stages.root / "checkpoints" / wanted])
    baseline = load_checkpoint(path)
    if replace(network.config, widths=None) != replace(baseline.config, widths=None):
        raise CheckpointError(
            "differs from its baseline in more than widths, so it was not pruned from it",
            path=checkpoint,
            remedy="Prune the baseline again",
        )
    return Lineaged(network, digest, baseline, wanted, report), path


def prune_checkpoint(
    parent: Lineaged,
    order: PruningOrder,
    source: LessonSource,
    sizes: Sequence[tuple[int, int]],
    stages: StageCache,
    observer: Observer,
    *,
    options: CompileOptions | None = None,
    device: torch.device | None = None,
) -> Pruned:
    """Prune a checkpoint, and let it recover where the order has a recipe.

    Args:
        parent: what to prune; its baseline teaches.
        order: what is asked.
        source: the recordings to learn from.
        sizes: (H, W) of the frames to learn on; GMACs and cost count at the first.
        stages: where finished stages are kept.
        observer: hears about progress.
        options: of the engine whose layers are timed, for scope "latency"; None for the defaults.
        device: to learn on; None for CUDA where there is some, else the CPU.

    Raises:
        UsageError: a ratio out of reach, or an impossible size.
        DatasetError, UnusableInput: nothing to learn from.
        MissingDependency: OpenVINO, which scope "latency" measures with, is not installed.
    """
    from pkecho_edge.training.processes import chosen_device

    check_reachable(parent, order, sizes)
    table = _cost(parent.network, order, sizes[0], stages, observer, options)
    drawn, wanted = [], drawn_from(source, order)
    if wanted is not None:
        key = wanted.key()  # reads every file of a dataset: once for all sizes
        drawn = [_lessons(parent, wanted, key, size, stages, observer) for size in sizes]
    cost = None if table is None else table[0]
    inputs = prune_inputs(parent, order, sizes, [key for key, *_ in drawn], cost)
    state = stages.root / "recoveries" / stages.key("prune", inputs)[:24]

    def work(folder: Path) -> None:
        with _claimed(state):
            network, rounds = recover(
                parent.network,
                [lessons for _, lessons, _ in drawn],
                [held for *_, held in drawn],
                order,
                sizes[0],
                state,
                cost=None if table is None else table[1],
                device=device or chosen_device("auto"),
                observer=observer,
            )
        report = PruningReport(
            baseline_sha256=parent.baseline_sha256,
            parent_sha256=parent.sha256,
            size=sizes[0],
            gmacs=_gmacs(parent.network, sizes[0]),
            order=order.as_dict(),
            rounds=rounds,
            earlier=parent.report,
        )
        text = json.dumps({**report.as_dict(), "note": report.note()}, sort_keys=True)
        save_checkpoint(network, folder / NETWORK, notes={"pruning": text})
        (folder / _REPORT).write_text(text, encoding="utf-8")

    done = stages.run("prune", inputs, work, prune_scale(order, sizes))
    if not done.reused:
        shutil.rmtree(state, ignore_errors=True)
    report = json.loads((done.folder / _REPORT).read_text(encoding="utf-8"))
    if done.reused:
        observer.start("prune", None)
        observer.done(f"{report['note']} (reused)")
    return Pruned(done.folder / NETWORK, report, done.reused)


def check_pruned_from(path: Path, origin: Lineaged) -> None:
    """Refuse a checkpoint that was not pruned from the baseline of another.

    Raises:
        CheckpointError: it was not pruned at all, from another baseline, or cannot be read.
    """
    report = read_report(path)
    if report is None:
        raise CheckpointError(
            "does not say from which checkpoint it was pruned",
            path=path,
            remedy="Give one that pkecho-edge prune wrote",
        )
    if report["baseline_sha256"] != origin.baseline_sha256:
        raise CheckpointError(
            f"was pruned from another baseline, {str(report['baseline_sha256'])[:12]}...",
            path=path,
            remedy=f"Give one that was pruned from {origin.baseline_sha256[:12]}...",
        )


def check_reachable(
    parent: Lineaged, order: PruningOrder, sizes: Sequence[tuple[int, int]]
) -> None:
    """Refuse before any work what pruning cannot do.

    Raises:
        UsageError: a ratio out of reach, or an impossible size.
    """
    from pkecho_edge.pruning.choose import check_reach

    for size in sizes:
        check_frame_size(size)
    check_reach(parent.network.config, order.ratio, sizes[0], order.round_to)


def drawn_from(source: LessonSource, order: PruningOrder) -> LessonSource | None:
    """The part of the recordings that an order looks at; None where it looks at weights alone."""
    if not order.wants_recordings:
        return None
    return source if order.recipe is not None else source.at_most(LOOKED_AT)


def prune_inputs(
    parent: Lineaged,
    order: PruningOrder,
    sizes: Sequence[tuple[int, int]],
    lessons: Sequence[str],
    cost: Mapping[str, Any] | None,
) -> dict[str, object]:
    """What goes into stage prune; `lessons` are the keys of theirs, `cost` a table of times."""
    return {
        "parent": parent.sha256,
        "baseline": parent.baseline_sha256,
        "order": order.as_dict(),
        "sizes": list(sizes),
        "lessons": list(lessons),
        "cost": cost,
        "code": package_sha256(*_CODE),
        "versions": tool_versions(),
    }


def prune_scale(order: PruningOrder, sizes: Sequence[tuple[int, int]]) -> str:
    """What the duration of stage prune depends on."""
    steps = 0 if order.recipe is None else order.recipe.steps
    kind = "refitted" if order.refit else "cut"
    return f"{' '.join(map(shape, sizes))}, {kind}, {steps} steps"


@contextmanager
def _claimed(state: Path) -> Iterator[None]:
    """The folder of a recovery, for one run at a time.

    Raises:
        UsageError: another run has it, or it cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(claimed_folder(state))
        except FolderBusy as error:
            raise UsageError(
                "another run recovers this network already", remedy="Wait for it, then run again"
            ) from error
        except OSError as error:
            raise UsageError(
                f"cannot be written ({error.strerror})", path=state, remedy="Check the cache"
            ) from error
        yield


def check_scope(scope: str, target: str) -> None:
    """Refuse to choose widths for one target by the times of another.

    Raises:
        UsageError: scope "latency" for a target whose layers are not timed here.
    """
    if scope == "latency" and target != _TIMED:
        raise UsageError(
            f"scope latency times layers as target {_TIMED} runs them, not {target}",
            remedy="Use scope global or per-layer",
        )


def _gmacs(network: PKEchoNet, size: tuple[int, int]) -> float:
    from pkecho_edge.model.network import count_gmacs

    return count_gmacs(network, size)


def _cost(
    network: PKEchoNet,
    order: PruningOrder,
    size: tuple[int, int],
    stages: StageCache,
    observer: Observer,
    options: CompileOptions | None,
) -> tuple[dict[str, Any], WidthCost] | None:
    """The times of layers, and as a cost; None where nobody asks."""
    if order.scope != "latency":
        return None
    from pkecho_edge.pruning.cost import latency_cost

    table = cached_latency_table(
        network.config,
        size,
        round_to=order.round_to,
        options=options or CompileOptions(),
        stages=stages,
        observer=observer,
    )
    return table.as_dict(), latency_cost(table)


def lessons_inputs(
    parent: Lineaged, source: Mapping[str, object], size: tuple[int, int]
) -> dict[str, object]:
    """What goes into stage lessons; `source` is LessonSource.key()."""
    return {
        "teacher": parent.baseline_sha256,
        "source": dict(source),
        "size": list(size),
        "length": parent.network.config.frames,
        "code": package_sha256("data", "model", "training/lessons.py", "lesson_source.py"),
        "versions": {n: v for n, v in tool_versions().items() if n in ("numpy", "torch")},
    }


def lessons_scale(source: LessonSource, size: tuple[int, int]) -> str:
    """What the duration of stage lessons depends on; DatasetError as LessonSource.expected."""
    return f"{shape(size)}, {source.expected()} clips"


def _lessons(
    parent: Lineaged,
    source: LessonSource,
    key: Mapping[str, object],
    size: tuple[int, int],
    stages: StageCache,
    observer: Observer,
) -> tuple[str, Lessons, Lessons]:
    """The stage's key, the lessons of one size, and those held out."""
    named = f"lessons at {size[0]}x{size[1]}"
    length = parent.network.config.frames
    observer.start(named, source.expected() + HELD_OUT)
    skipped: dict[str, None] = {}  # a recording is met twice

    def work(folder: Path) -> None:
        for name, held_out in (("held", True), ("train", False)):
            clips = source.clips(size, length, held_out=held_out, on_skip=skipped.setdefault)
            teach(parent.baseline, clips, folder / name, observer.advance)

    scale = lessons_scale(source, size)
    done = stages.run(LESSONS, lessons_inputs(parent, key, size), work, scale)
    lessons, held = (read_lessons(done.folder / name) for name in ("train", "held"))
    left_out = f", {len(skipped)} recordings left out" if skipped else ""
    reused = " (reused)" if done.reused else ""
    observer.done(f"{len(lessons)} clips of {source.description}{left_out}{reused}")
    return done.key, lessons, held
