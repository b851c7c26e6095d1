"""The candidates of a search: pruned, built, scored, timed in turns; the best one verified.

A candidate that cannot be made is a row that says why, not the end of the search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import onnx

from pkecho_edge import targets
from pkecho_edge.bench.turns import take_turns
from pkecho_edge.building import Built, Material, build_engines
from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.calibration.graph import GraphView, layer_of, quantizable
from pkecho_edge.calibration.rule import RangeRule
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import PkechoEdgeError
from pkecho_edge.measuring import Side, VerifyResult, loaded_sides
from pkecho_edge.model.network import count_gmacs
from pkecho_edge.pipeline import CompileOrder, CompileResult
from pkecho_edge.pruning_stage import Lineaged, load_lineaged, prune_checkpoint
from pkecho_edge.stages import Observer, StageCache
from pkecho_edge.tune_order import TuneOrder
from pkecho_edge.tuning.choose import QuantizationOrder
from pkecho_edge.tuning.scoring import TrialSet, score_engine, worst
from pkecho_edge.tuning.search import Candidate, Choice, Scored, choose, judged
from pkecho_edge.verify.speed import summarize_latency

__all__ = ["ROUNDS", "Plan", "Search", "Source", "Table"]

ROUNDS = 12
"""Of the timing that decides."""

_ROUNDS_MEANWHILE = 3

Table = Callable[[Sequence[Scored]], object]
"""Hears all rows so far, whenever one of them is new or has other figures."""


@dataclass(frozen=True)
class Plan:
    """What all candidates share.

    Attributes:
        order: what is asked, as `TuneOrder.checked` gives it.
        origin: the checkpoint that is pruned, and its baseline.
        calibration, clips: the set that sets the INT8 ranges, and its clips.
        quantization_trial: clips on which each quantization is chosen.
    """

    order: TuneOrder
    origin: Lineaged
    calibration: CalibrationSet
    clips: Sequence[Clip]
    quantization_trial: Sequence[Clip]


@dataclass(frozen=True)
class Source:
    """A network of the search: its checkpoint, the baseline's where one was named, and both."""

    checkpoint: Path
    baseline: Path | None
    network: Lineaged


@dataclass(frozen=True)
class _Attempt:
    """A candidate, and how it is built."""

    candidate: Candidate
    source: Source
    order: QuantizationOrder


@dataclass(frozen=True)
class _Made:
    """An engine that is there: how it came about, and the call that is timed."""

    attempt: _Attempt
    step: Callable[[], object]


@dataclass
class Search:
    """The candidates so far; their engines are loaded until `stack` is closed."""

    plan: Plan
    sets: Sequence[TrialSet]
    stages: StageCache
    observer: Observer
    on_scored: Table
    stack: ExitStack
    rows: list[Scored] = field(default_factory=list)
    made: dict[Candidate, _Made] = field(default_factory=dict)
    errors: list[PkechoEdgeError] = field(default_factory=list)

    def score_all(self, given: Mapping[Path, Source]) -> None:
        """Every network in every quantization and float precision, then the timing that decides.

        Args:
            given: those that were pruned before, by their paths.

        Raises:
            PkechoEdgeError: the first one's, where every candidate failed.
        """
        kinds = self.plan.order.precisions
        for candidate in self.plan.order.networks:
            first = replace(candidate, float_precision=kinds[0])
            try:
                source = given[candidate.given] if candidate.given else self._pruned(candidate)
            except PkechoEdgeError as error:
                self._failed(first, error)
                continue
            for kind in kinds:
                self._score_network(source, replace(candidate, float_precision=kind))
        if not self.made:
            raise self.errors[0]
        self._time(ROUNDS)

    def _pruned(self, candidate: Candidate) -> Source:
        order, origin = self.plan.order, self.plan.origin
        if not candidate.ratio:
            return Source(order.checkpoint, order.baseline, origin)
        found = prune_checkpoint(
            origin,
            order.pruning_of(candidate),
            order.lessons,
            [self.plan.calibration.size],
            self.stages,
            _Named(self.observer, candidate.network),
            options=order.engine_options,
        )
        return Source(found.path, None, load_lineaged(found.path, order.baseline, self.stages))

    def _score_network(self, source: Source, candidate: Candidate) -> None:
        """As the gates want it, all in INT8 where that is another engine, and in float."""
        asked = self.plan.order
        if not targets.get(asked.target).capabilities.scheme:
            in_float = replace(candidate, quantization="float")
            self._score(_Attempt(in_float, source, QuantizationOrder()))
            return
        built = self._score(_Attempt(candidate, source, asked.quantization))
        if built is None:
            return
        rule = RangeRule.parse(built.quantization["rule"])
        order = QuantizationOrder(asked.scheme, (rule,), restore=False)
        if _restored(built):
            self._score(_Attempt(candidate, source, order))
        kept = _all_but_smallest(next(iter(built.graphs.values())))
        in_float = replace(candidate, quantization="float")
        self._score(_Attempt(in_float, source, replace(order, float_layers=kept)))

    def _score(self, attempt: _Attempt) -> Built | None:
        """Build and score one candidate, and time it beside those that are there already."""
        observer = _Named(self.observer, attempt.candidate.label)
        try:
            built = self._build(attempt, observer)
            if attempt.order.restore and _restored(built):
                attempt = replace(
                    attempt, candidate=replace(attempt.candidate, quantization="mixed")
                )
            sides = self.stack.enter_context(loaded_sides(self.plan.order.target, built.engines))
            self._enter(attempt, built, sides, observer)
        except PkechoEdgeError as error:
            self._failed(attempt.candidate, error)
            return None
        self._time(_ROUNDS_MEANWHILE)
        return built

    def _build(self, attempt: _Attempt, observer: Observer) -> Built:
        plan, found = self.plan, attempt.source.network
        material = Material(
            found.network,
            found.sha256,
            plan.calibration,
            plan.clips,
            plan.quantization_trial,
            found.baseline if found.report else None,
        )
        asked = plan.order.compile_order(attempt.candidate, attempt.order)
        return build_engines(material, asked.engines, self.stages, observer)

    def _enter(
        self, attempt: _Attempt, built: Built, sides: Mapping[str, Side], observer: Observer
    ) -> None:
        """Score an engine on the trial clips and give it its row."""
        found = worst(
            [
                score_engine(
                    trial,
                    built.engines[trial.mode],
                    sides[trial.mode].segment,
                    self.stages,
                    observer,
                )
                for trial in self.sets
            ]
        )
        step = sides[self.plan.order.timed].step
        assert step is not None  # such targets are refused at first
        self.made[attempt.candidate] = _Made(attempt, partial(step, self.plan.clips[0].frames))
        self.rows.append(
            Scored(
                attempt.candidate,
                count_gmacs(attempt.source.network.network, self.plan.calibration.size),
                found.dsc_drift,
                found.dsc_drift_high,
                found.ef_drift,
                found.hd95_drift,
                float_layers=tuple(built.quantization["float_layers"]),
                faults=found.faults,
            )
        )

    def _failed(self, candidate: Candidate, error: PkechoEdgeError) -> None:
        self.errors.append(error)
        self.rows.append(Scored(candidate, failed=str(error)))
        self.on_scored(tuple(self.rows))

    def _time(self, rounds: int) -> None:
        """All engines that are there, in turns: every row's speed is of this run."""
        if not self.made:
            return
        plan = self.plan
        self.observer.start(f"speed of {len(self.made)} engines", rounds)
        taken = take_turns(
            [made.step for made in self.made.values()], rounds, advance=self.observer.advance
        )
        results = 1 if plan.order.timed == "stream" else len(plan.clips[0].frames)
        found = zip(self.made, taken, strict=True)
        fps = {which: summarize_latency(spent, results).fps for which, spent in found}
        self.observer.done(
            f"{rounds} rounds in turns, the fastest {max(fps.values()):.0f} frames/s"
        )
        for index, row in enumerate(self.rows):
            timed = replace(row, fps=None if row.failed else fps[row.candidate])
            self.rows[index] = replace(timed, breaks=judged(timed, plan.order.budget))
        self.on_scored(tuple(self.rows))

    def checkpoint_sha256(self, row: Scored) -> str | None:
        """Of the checkpoint that a candidate was built from; None where it could not be."""
        made = self.made.get(row.candidate)
        return None if made is None else made.attempt.source.network.sha256

    def verify_best(
        self, compiled: Callable[[CompileOrder, Observer], CompileResult], path: Path
    ) -> tuple[Choice, VerifyResult | None]:
        """Compile and verify the best, and while a gate fails the next; None for none.

        Args:
            compiled: `pipeline.compile` with its cache.
            path: of the bundle; it holds the last one that was tried.
        """
        while (choice := choose(self.rows, self.plan.order.budget)).chosen is not None:
            chosen = choice.chosen
            attempt = self.made[chosen.candidate].attempt
            asked = replace(
                self.plan.order.compile_order(chosen.candidate, attempt.order),
                checkpoint=attempt.source.checkpoint,
                baseline=attempt.source.baseline,
                out=path,
                overwrite=True,
            )
            result = compiled(asked, _Named(self.observer, chosen.candidate.label))
            failed = [gate for gate in result.verification.gates if gate.passed is False]
            if not failed:
                return choice, result.verification
            against = "; ".join(map(str, failed))
            self.rows[self.rows.index(chosen)] = replace(chosen, ruled_out=against)
            self.on_scored(tuple(self.rows))
        return choice, None


@dataclass(frozen=True)
class _Named:
    """An observer that says which candidate a stage is of."""

    inner: Observer
    name: str

    def start(self, stage: str, total: int | None) -> None:
        self.inner.start(f"{self.name}: {stage}", total)

    def advance(self) -> None:
        self.inner.advance()

    def describe(self, text: str) -> None:
        self.inner.describe(text)

    def done(self, note: str) -> None:
        self.inner.done(note)


def _restored(built: Built) -> bool:
    """Whether layers returned to float."""
    restoring = built.quantization.get("restoring")
    return bool(restoring and restoring["restored"])


def _all_but_smallest(quantized: Path) -> tuple[str, ...]:
    """Every layer but that of the fewest weights among those in INT8, of a Q/DQ graph."""
    view = GraphView(onnx.load(quantized).graph)
    found: dict[str, int | None] = {}  # None: in float
    for node in view.graph.node:
        if node.op_type != "Conv" or not quantizable(node.name):
            continue
        layer, chain = layer_of(node.name), view.quantizers(node.input[1])
        weights = view.constants.get(chain[-1].input[0]) if chain else None
        found[layer] = None if weights is None else (found.get(layer) or 0) + weights.size
    smallest = min((size, layer) for layer, size in found.items() if size is not None)[1]
    return tuple(layer for layer in found if layer != smallest)
