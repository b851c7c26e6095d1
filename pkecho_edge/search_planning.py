"""What a search would do, without doing it: the stages of each network and float precision.

A search may have more engines than stand here: where layers of a network return to float, it is
tried all in INT8 as well. Scores are keyed by the bytes of the engine, so they depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pkecho_edge import targets
from pkecho_edge.building import choose_scale, shape
from pkecho_edge.errors import PkechoEdgeError
from pkecho_edge.measuring import verify_scale
from pkecho_edge.model.checkpoint import checkpoint_sha256
from pkecho_edge.pipeline import DRAWN, VERIFIED
from pkecho_edge.planning import (
    RECORDINGS,
    Forecast,
    Planned,
    plan_draw,
    plan_prune,
    pruned_sha256,
)
from pkecho_edge.pruning_stage import Lineaged, check_pruned_from, read_lineaged
from pkecho_edge.stages import StageCache, default_cache
from pkecho_edge.tune_order import TuneOrder
from pkecho_edge.tuning.scoring import ANSWERS, SCORE, score_scale
from pkecho_edge.tuning.search import Candidate, Quantization

__all__ = ["plan_tune"]

_TIMED = "time all engines in turns"


def plan_tune(order: TuneOrder, *, cache: Path | None = None) -> tuple[Planned, ...]:
    """The stages of `searching.tune`.

    Args:
        order: what is asked.
        cache: of finished stages; None for the user's.

    Raises:
        what `searching.tune` refuses before its first stage.
    """
    stages = StageCache(cache or default_cache())
    order = order.checked()
    origin = read_lineaged(order.checkpoint, order.baseline, stages)
    for path in order.also:
        check_pruned_from(path, origin)
    order = order.of_length(origin.network.config.frames)
    drawn = plan_draw(order, stages)
    verified = stages.durations(VERIFIED, verify_scale(order.verification, order.modes))
    return (
        drawn,
        *_answers(stages, order),
        *_networks(stages, order, origin),
        Planned(_TIMED, "always"),
        Planned(f"the best: {VERIFIED}", "always", seconds=verified),
    )


def _answers(stages: StageCache, order: TuneOrder) -> Iterator[Planned]:
    """The baseline's, to the trial clips."""
    for mode in order.modes:
        seconds = stages.durations(ANSWERS, score_scale(mode, order.calibration.size))
        yield Planned(f"{ANSWERS}, {mode}", "depends", DRAWN, seconds)


def _networks(stages: StageCache, order: TuneOrder, origin: Lineaged) -> Iterator[Planned]:
    """Of every network what it takes to have it, then its engines.

    Raises:
        PkechoEdgeError: the first one's, where every network is refused.
    """
    refused: list[PkechoEdgeError] = []
    for network in order.networks:
        sha256: str | None = origin.sha256
        if network.given is not None:
            sha256 = checkpoint_sha256(network.given)
        elif network.ratio:
            size, options = order.calibration.size, order.engine_options
            asked = (origin, order.pruning_of(network), order.lessons, [size], stages)
            try:
                for each in plan_prune(*asked, options=options):
                    yield _named(network.network, each)
            except PkechoEdgeError as error:  # the search goes on without it
                refused.append(error)
                yield Planned(f"{network.network}: prune", "refused", refusal=str(error))
                continue
            sha256 = pruned_sha256(*asked, options=options)
        yield from _engines(stages, order, network, sha256)
    if len(refused) == len(order.networks):
        raise refused[0]


def _engines(
    stages: StageCache, order: TuneOrder, network: Candidate, sha256: str | None
) -> Iterator[Planned]:
    """What the gates leave in INT8, in every float precision; then the same nearly all in float.

    The second is chosen among the one rule that was chosen for the first.
    """
    quantized = bool(targets.get(order.target).capabilities.scheme)
    kind: Quantization = "int8" if quantized else "float"
    for number, precision in enumerate(order.precisions):
        candidate = replace(network, quantization=kind, float_precision=precision)
        forecast = Forecast(stages, order.compile_order(candidate, order.quantization))
        own = list(forecast.engines(sha256))
        # the graphs in float are those of every precision
        for each in own[1:] if number and quantized else own:
            after = network.network if each.depends_on == "prune" else candidate.label
            yield _named(candidate.label, each, after)
        yield from _scored(stages, order, candidate, own[-1].stage)
        if quantized:
            in_float = replace(candidate, quantization="float")
            yield from _in_float(stages, order, in_float, f"{candidate.label}: choose")
            yield from _scored(stages, order, in_float, own[-1].stage)


def _in_float(
    stages: StageCache, order: TuneOrder, candidate: Candidate, chosen: str
) -> Iterator[Planned]:
    size = order.calibration.size
    one = replace(order.quantization, rules=order.rules[:1])
    scales = {"choose": choose_scale(size, one)}
    for stage in ("choose", "quantize", f"engine-{order.target}"):
        seconds = stages.durations(stage, scales.get(stage, shape(size)))
        yield Planned(f"{candidate.label}: {stage}", "depends", chosen, seconds)


def _scored(
    stages: StageCache, order: TuneOrder, candidate: Candidate, engine: str
) -> Iterator[Planned]:
    for mode in order.modes:
        seconds = stages.durations(SCORE, score_scale(mode, order.calibration.size))
        planned = Planned(f"{SCORE}, {mode}", "depends", engine, seconds)
        yield _named(candidate.label, planned)


def _named(name: str, planned: Planned, after: str | None = None) -> Planned:
    """A network's or candidate's own stage, and the one before it, which may be another's."""
    on = planned.depends_on
    if on and on not in (DRAWN, RECORDINGS):
        on = f"{after or name}: {on}"
    return replace(planned, stage=f"{name}: {planned.stage}", depends_on=on)
