"""What is asked of `tune`: the budget, the networks and quantizations to try, on which clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pkecho_edge import targets
from pkecho_edge.bundle.engine_entry import MODES
from pkecho_edge.bundle.layout import MANIFEST, enclosing_bundle
from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.calibration.rule import RULES, RangeRule
from pkecho_edge.clip_roles import ClipsWanted
from pkecho_edge.data.sources import ClipSource
from pkecho_edge.errors import UsageError
from pkecho_edge.lesson_source import LessonSource
from pkecho_edge.pipeline import CompileOrder, check_target
from pkecho_edge.processors import computes_bf16
from pkecho_edge.pruning_stage import check_scope
from pkecho_edge.recovering import PruningOrder, recipe_of
from pkecho_edge.targets.base import CompileOptions
from pkecho_edge.tuning.choose import QuantizationOrder
from pkecho_edge.tuning.search import Budget, Candidate, check_ratios
from pkecho_edge.verify.gates import DEFAULT_LIMITS

__all__ = ["TuneOrder"]

_MODES: Mapping[str, tuple[str, ...]] = {**{mode: (mode,) for mode in MODES}, "both": MODES}


@dataclass(frozen=True)
class TuneOrder:
    """What is searched, and inside what.

    Attributes:
        checkpoint: PKEcho-Net weights; also the baseline, unless they were pruned before.
        out: folder for the bundle, the figures and the picture.
        calibration: clips to draw the calibration set from; their size is the engine's.
        verification: clips on which the best is verified, of other patients.
        trial: clips on which candidates are scored, of neither of the two; 40 at most.
            Where a dataset has no such split, what calibration leaves of its own.
        target: name of a target that is timed on this machine.
        budget: what must hold.
        ratios: shares of the GMACs to prune away; 0 for the checkpoint as it is.
        also: checkpoints that were pruned from the same baseline before.
        mode: "clip", "stream" or "both": the engines of the bundle, all of which must hold; the
            speed is that of the stream where there is one.
        lessons: the recordings that pruned networks recover on; without any, phantoms.
        prune_steps: of each recovery; None for as many as its ratio wants, by `recipe_of`.
        scope: of pruning, see PruningOrder.
        precisions: float precisions to try; none for every one that the target and, for bfloat16,
            the processor have.
        scheme: of quantization, its name; None for the target's.
        rules: of INT8 ranges to choose from, for each network and precision.
        options: threads and device of the engines; None for the target's own.
        baseline: of a checkpoint that was pruned before; None finds it by its hash.
        calibration_clips, calibration_set: as of `pipeline.CompileOrder`.
        limits: of the gates; the budget takes the place of those of DSC and EF drift.
        seed: of the choice of calibration clips.
        overwrite: replace an existing bundle.
    """

    checkpoint: Path
    out: Path
    calibration: ClipSource
    verification: ClipSource
    trial: ClipSource
    target: str = "cpu"
    budget: Budget = field(default_factory=Budget)
    ratios: Sequence[float] = (0.0, 0.5, 0.8)
    also: Sequence[Path] = ()
    mode: str = "stream"
    lessons: LessonSource = field(default_factory=LessonSource)
    prune_steps: int | None = None
    scope: str = "global"
    precisions: Sequence[str] = ()
    scheme: str | None = None
    rules: tuple[RangeRule, ...] = RULES
    options: CompileOptions | None = None
    baseline: Path | None = None
    calibration_clips: int = 32
    calibration_set: CalibrationSet | None = None
    limits: Mapping[str, float] = field(default_factory=lambda: DEFAULT_LIMITS)
    seed: int = 0
    overwrite: bool = False

    def checked(self) -> TuneOrder:
        """With the target's own options and the float precisions to try, where all is possible.

        Raises:
            UsageError: an existing bundle, an impossible ratio, mode, scope or precision, or a
                target whose engines are timed elsewhere.
            MissingDependency: a toolchain is not installed.
        """
        if self.mode not in _MODES:
            raise UsageError(f"there is no mode {self.mode!r}", remedy="Use clip, stream or both")
        ratios, precisions = check_ratios(self.ratios), self._precisions()
        if any(ratios):
            check_scope(self.scope, self.target)
        self._check_out()
        return replace(self, ratios=ratios, precisions=precisions, options=self.engine_options)

    def _precisions(self) -> tuple[str, ...]:
        capabilities, options = targets.get(self.target).capabilities, self.engine_options
        for precision in self.precisions or (options.float_precision,):
            check_target(self.target, replace(options, float_precision=precision))
        if capabilities.device_kit:
            raise UsageError(
                f"engines for {self.target} are timed on their device, which this is not",
                remedy=f"Prune at several ratios, and compile each with --target {self.target}",
            )
        if self.precisions:
            return tuple(dict.fromkeys(self.precisions))
        found = (p for p in capabilities.precisions if p != "int8")
        return tuple(p for p in found if p != "bf16" or computes_bf16())

    def _check_out(self) -> None:
        """UsageError where something is there, or `out` cannot be a folder of results."""
        place, out = self.bundle, self.out
        if enclosing_bundle(out) is not None:
            raise UsageError("lies in a bundle", path=out, remedy="Choose another --out")
        if out.exists() and not out.is_dir():
            raise UsageError("is not a folder", path=out, remedy="Choose another --out")
        if place.exists() and not (self.overwrite and (place / MANIFEST).is_file()):
            what = "is no bundle, so it is not replaced" if self.overwrite else "exists"
            remedy = "Choose another --out" + ("" if self.overwrite else ", or pass --overwrite")
            raise UsageError(what, path=place, remedy=remedy)

    def of_length(self, frames: int) -> TuneOrder:
        """With clips as long as the network's window: it decides."""
        return replace(
            self,
            calibration=replace(self.calibration, length=frames),
            verification=replace(self.verification, length=frames),
            trial=replace(self.trial, length=frames),
        )

    @property
    def bundle(self) -> Path:
        """Where the chosen one will lie."""
        return self.out / f"{self.checkpoint.stem}-{self.target}.pkb"

    @property
    def modes(self) -> tuple[str, ...]:
        """The engines of the bundle."""
        return _MODES[self.mode]

    @property
    def timed(self) -> str:
        """The mode whose speed counts."""
        return "stream" if "stream" in self.modes else self.modes[0]

    @property
    def networks(self) -> tuple[Candidate, ...]:
        """One for each network, in the order in which they are tried."""
        given = dict.fromkeys(self.also)
        return (*map(Candidate, self.ratios), *(Candidate(given=path) for path in given))

    @property
    def gate_limits(self) -> Mapping[str, float]:
        """`limits`, with the budget's."""
        budget = {"dsc_drift": self.budget.max_dsc_drop, "ef_drift": self.budget.max_ef_drift}
        return {**self.limits, **budget}

    @property
    def engine_options(self) -> CompileOptions:
        """`options`, or the target's own."""
        return self.options or targets.options_for(self.target)

    @property
    def clips_wanted(self) -> ClipsWanted:
        """What the choice of clips depends on."""
        return self._compile_order.clips_wanted

    def pruning_of(self, candidate: Candidate) -> PruningOrder:
        """How a candidate's network is pruned; its ratio is above 0."""
        round_to = targets.get(self.target).capabilities.round_to
        recipe = recipe_of(candidate.ratio, self.prune_steps)
        return PruningOrder(candidate.ratio, self.scope, round_to=round_to, recipe=recipe)

    @property
    def quantization(self) -> QuantizationOrder:
        """Of a network's first candidate: INT8 with what layers the gates put back into float."""
        return QuantizationOrder(self.scheme, self.rules)

    def compile_order(self, candidate: Candidate, quantization: QuantizationOrder) -> CompileOrder:
        """As `compile` takes a candidate of the checkpoint that is searched, not pruned first."""
        options = replace(self.engine_options, float_precision=candidate.float_precision)
        return replace(self._compile_order, options=options, quantization=quantization)

    @property
    def _compile_order(self) -> CompileOrder:
        return CompileOrder(
            self.checkpoint,
            self.bundle,
            self.calibration,
            self.verification,
            self.trial,
            self.target,
            self.modes,
            self.calibration_clips,
            self.calibration_set,
            baseline=self.baseline,
            limits=self.gate_limits,
            seed=self.seed,
            overwrite=self.overwrite,
        )
