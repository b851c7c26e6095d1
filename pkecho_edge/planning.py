"""What a run would do, without doing it: its stages in order, which are there, how long each takes.

Keys are those of the run itself: building.py and pruning_stage.py say what goes into a stage, and
both ask them. Nothing is written, drawn, or read from a recording.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from pkecho_edge import targets
from pkecho_edge.building import (
    CHOICE,
    choose_inputs,
    choose_scale,
    engine_inputs,
    export_inputs,
    programs_inputs,
    quantize_inputs,
    shape,
)
from pkecho_edge.bundle.writer import check_free
from pkecho_edge.calibration.plan import QuantizationPlan
from pkecho_edge.clip_roles import find_noted_clips
from pkecho_edge.device.here import may_be_device
from pkecho_edge.lesson_source import LessonSource
from pkecho_edge.measuring import verify_scale
from pkecho_edge.pipeline import DRAWN, VERIFIED, CompileOrder, check_apart
from pkecho_edge.pruning_stage import (
    LESSONS,
    NETWORK,
    Lineaged,
    check_reachable,
    drawn_from,
    lessons_inputs,
    lessons_scale,
    prune_inputs,
    prune_scale,
    read_lineaged,
)
from pkecho_edge.recovering import PruningOrder
from pkecho_edge.stages import StageCache, StageResult, default_cache
from pkecho_edge.targets.base import CompileOptions
from pkecho_edge.tune_order import TuneOrder
from pkecho_edge.tuning.layer_costs import LAYER_COSTS, finished_latency_table
from pkecho_edge.verifying import IN_PLACE

__all__ = ["RECORDINGS", "Forecast", "Planned", "plan_compile", "plan_draw", "plan_prune"]
__all__ += ["pruned_sha256"]

RECORDINGS = "the recordings' content"
"""What lessons depend on that are of recordings: every byte of them, which takes long to read."""

State = Literal["cached", "to do", "depends", "always", "refused"]


@dataclass(frozen=True)
class Planned:
    """One stage of a run to come.

    Attributes:
        stage: as the run calls it.
        state: "cached"; "to do"; "depends", where whether it is there depends on an earlier stage
            that has to run first; "always", of what every run does; "refused", of what a search
            goes on without.
        depends_on: that stage; "" in the other states.
        seconds: what it took before on such a processor, the newest last; empty where that is not
            known, or it is cached.
        refusal: why it is refused; "" in the other states.
    """

    stage: str
    state: State
    depends_on: str = ""
    seconds: tuple[float, ...] = ()
    refusal: str = ""

    @property
    def expected_s(self) -> float | None:
        """The median; 0 for what is cached or refused, None where nothing is known."""
        if self.state in ("cached", "refused"):
            return 0.0
        return median(self.seconds) if self.seconds else None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "stage": self.stage,
            "state": self.state,
            "depends_on": self.depends_on or None,
            "refusal": self.refusal or None,
            "expected_s": self.expected_s,
            "seconds": list(self.seconds),
        }


def plan_compile(
    order: CompileOrder, *, in_place: bool = False, cache: Path | None = None
) -> tuple[Planned, ...]:
    """The stages of `pipeline.compile`.

    Args:
        order: what is asked.
        in_place: whether `verifying.measure_in_place` follows, where this machine is the device.
        cache: of finished stages; None for the user's.

    Raises:
        what `pipeline.compile` refuses before its first stage.
    """
    stages = StageCache(cache or default_cache())
    order = order.checked()
    check_free(order.out, overwrite=order.overwrite)
    origin = read_lineaged(order.checkpoint, order.baseline, stages)
    order = order.of_length(origin.network.config.frames)
    found = [plan_draw(order, stages)]
    sha256: str | None = origin.sha256
    if order.pruning is not None:
        options, size = order.engine_options, order.calibration.size
        asked = (origin, order.pruning, order.lessons, [size], stages)
        found += plan_prune(*asked, options=options)
        sha256 = pruned_sha256(*asked, options=options)
    found += Forecast(stages, order).engines(sha256)
    scale = verify_scale(order.verification, order.modes)
    found.append(Planned(VERIFIED, "always", seconds=stages.durations(VERIFIED, scale)))
    if in_place and targets.get(order.target).capabilities.device_kit and may_be_device():
        found.append(Planned(IN_PLACE, "always", seconds=stages.durations(IN_PLACE, scale)))
    return tuple(found)


def plan_draw(order: CompileOrder | TuneOrder, stages: StageCache) -> Planned:
    """The stage that draws clips.

    Raises:
        DatasetError: a folder of recordings is no dataset.
        CalibrationError: a patient serves calibration and verification.
    """
    order.calibration.patients()
    if order.calibration_set is not None:
        check_apart(order.calibration_set, order.verification)
    return Planned(DRAWN, "always", seconds=stages.durations(DRAWN, order.clips_wanted.scale))


@dataclass(frozen=True)
class Forecast:
    """The stages from a checkpoint, known by its hash, to its engines."""

    stages: StageCache
    order: CompileOrder

    def engines(self, sha256: str | None) -> Iterator[Planned]:
        """Of what the target takes; without a hash they depend on pruning."""
        takes = targets.get(self.order.target).capabilities.takes
        return (self._programs if takes == "pt2" else self._quantized)(sha256)

    def _programs(self, sha256: str | None) -> Iterator[Planned]:
        stages, order, size = self.stages, self.order, self.order.calibration.size
        scale = shape(size)
        if sha256 is None:
            yield _waiting(stages, "programs", scale, "prune")
            yield _waiting(stages, self._engine, scale, "prune")
            return
        inputs = programs_inputs(sha256, size, order.engine_options.float_precision)
        yield _planned(stages, "programs", inputs, scale)
        yield self._compiled(stages.key("programs", inputs))

    def _quantized(self, sha256: str | None) -> Iterator[Planned]:
        stages, order, size = self.stages, self.order, self.order.calibration.size
        scale, trying = shape(size), choose_scale(size, order.quantization)
        later = [("choose", trying), ("quantize", scale), (self._engine, scale)]
        if sha256 is None:
            for name, each in [("export", scale), *later]:
                yield _waiting(stages, name, each, "prune")
            return
        inputs = export_inputs(sha256, size)
        yield _planned(stages, "export", inputs, scale)
        export, noted = stages.key("export", inputs), find_noted_clips(order.clips_wanted, stages)
        if noted is None:
            for name, each in later:
                yield _waiting(stages, name, each, DRAWN)
            return
        noted_as = (noted.calibration_sha256, noted.trial_sha256)
        choosing = choose_inputs(export, *noted_as, order.engines)
        yield _planned(stages, "choose", choosing, trying)
        chosen = stages.find("choose", choosing)
        if chosen is None:
            for name, each in later[1:]:
                yield _waiting(stages, name, each, "choose")
            return
        quantizing = quantize_inputs(export, noted.calibration_sha256, _plan_of(chosen))
        yield _planned(stages, "quantize", quantizing, scale)
        yield self._compiled(stages.key("quantize", quantizing))

    @property
    def _engine(self) -> str:
        return f"engine-{self.order.target}"

    def _compiled(self, graphs: str) -> Planned:
        """The last stage; `graphs` is the key of the one that made them."""
        inputs = engine_inputs(graphs, self.order.engines)
        return _planned(self.stages, self._engine, inputs, shape(self.order.calibration.size))


def _plan_of(chosen: StageResult) -> QuantizationPlan:
    text = (chosen.folder / CHOICE).read_text(encoding="utf-8")
    return QuantizationPlan.from_dict(json.loads(text))


def plan_prune(
    parent: Lineaged,
    order: PruningOrder,
    source: LessonSource,
    sizes: Sequence[tuple[int, int]],
    stages: StageCache,
    *,
    options: CompileOptions | None = None,
) -> list[Planned]:
    """The stages of `pruning_stage.prune_checkpoint`, whose arguments these are.

    Raises:
        UsageError, DatasetError, MissingDependency: what that refuses before its first stage.
    """
    check_reachable(parent, order, sizes)
    found = []
    if order.scope == "latency":
        scale, table = shape(sizes[0]), _latencies(parent, order, sizes[0], stages, options)
        seconds = () if table else stages.durations(LAYER_COSTS, scale)
        found.append(Planned(LAYER_COSTS, "cached" if table else "to do", seconds=seconds))
    wanted = drawn_from(source, order)
    if wanted is not None:
        for size in sizes:
            scale = lessons_scale(wanted, size)
            inputs = _lessons_of(parent, wanted, size)
            found.append(
                _waiting(stages, LESSONS, scale, RECORDINGS)
                if inputs is None
                else _planned(stages, LESSONS, inputs, scale)
            )
    scale, known = (
        prune_scale(order, sizes),
        _prune_inputs(parent, order, source, sizes, stages, options),
    )
    found.append(
        _waiting(stages, "prune", scale, found[-1].depends_on or found[0].stage)
        if known is None
        else _planned(stages, "prune", known, scale)
    )
    return found


def _prune_inputs(
    parent: Lineaged,
    order: PruningOrder,
    source: LessonSource,
    sizes: Sequence[tuple[int, int]],
    stages: StageCache,
    options: CompileOptions | None,
) -> dict[str, object] | None:
    """What goes into stage prune; None where only a run can tell."""
    cost = None
    if order.scope == "latency":
        cost = _latencies(parent, order, sizes[0], stages, options)
        if cost is None:
            return None
    keys, wanted = [], drawn_from(source, order)
    if wanted is not None:
        for size in sizes:
            inputs = _lessons_of(parent, wanted, size)
            if inputs is None:
                return None
            keys.append(stages.key(LESSONS, inputs))
    return prune_inputs(parent, order, sizes, keys, cost)


def _latencies(
    parent: Lineaged,
    order: PruningOrder,
    size: tuple[int, int],
    stages: StageCache,
    options: CompileOptions | None,
) -> dict[str, Any] | None:
    table = finished_latency_table(
        parent.network.config,
        size,
        round_to=order.round_to,
        options=options or CompileOptions(),
        stages=stages,
    )
    return None if table is None else table.as_dict()


def _lessons_of(
    parent: Lineaged, source: LessonSource, size: tuple[int, int]
) -> dict[str, object] | None:
    """None for recordings: their key is the hash of every byte, which takes too long here."""
    return None if source.root is not None else lessons_inputs(parent, source.key(), size)


def pruned_sha256(
    parent: Lineaged,
    order: PruningOrder,
    source: LessonSource,
    sizes: Sequence[tuple[int, int]],
    stages: StageCache,
    options: CompileOptions,
) -> str | None:
    """Of the pruned checkpoint; None where it is not there, or only a run can tell."""
    from pkecho_edge.model.checkpoint import checkpoint_sha256

    inputs = _prune_inputs(parent, order, source, sizes, stages, options)
    done = None if inputs is None else stages.find("prune", inputs)
    return None if done is None else checkpoint_sha256(done.folder / NETWORK)


def _planned(stages: StageCache, name: str, inputs: Mapping[str, object], scale: str) -> Planned:
    if stages.find(name, inputs) is not None:
        return Planned(name, "cached")
    return Planned(name, "to do", seconds=stages.durations(name, scale))


def _waiting(stages: StageCache, name: str, scale: str, on: str) -> Planned:
    return Planned(name, "depends", on, stages.durations(name, scale))
