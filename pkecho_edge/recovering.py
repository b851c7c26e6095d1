"""Prune and recover, in rounds: a little narrower, then distillation, then narrower again.

What stays is refitted to what it said before, layer by layer, and then learns from its teacher.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pkecho_edge.bundle.strict_json import parse_json
from pkecho_edge.errors import CheckpointError, UsageError
from pkecho_edge.pruning.choose import SCOPES
from pkecho_edge.stages import Observer
from pkecho_edge.training.distillation import DistillationRecipe, LessonStep, distil

if TYPE_CHECKING:
    import torch

    from pkecho_edge.model.network import PKEchoNet
    from pkecho_edge.pruning.cost import WidthCost
    from pkecho_edge.training.lessons import Lessons

__all__ = [
    "AFTER_REFIT",
    "LOOKED_AT",
    "PruningOrder",
    "PruningReport",
    "Round",
    "read_report",
    "recipe_of",
    "recover",
    "round_ratios",
]

AFTER_REFIT = DistillationRecipe(learning_rate=1e-4, settle=0.0)
"""The recovery of a network that works already: large steps, or statistics of single clips, would
undo what refitting has found."""

LOOKED_AT = 60
"""Lessons of each size that show what a channel is worth, and that what stays is refitted on."""

_UNLEARNED = 0.85
"""Share of the GMACs up to which a refitted network is good without learning anything."""

_LAST_SHARE = 0.85
_TAYLOR_LESSONS = 16
_MOST_ROUNDS = 4


@dataclass(frozen=True)
class PruningOrder:
    """What is asked of pruning.

    Attributes:
        ratio: share of the GMACs that goes, of those that the given network has.
        scope: of SCOPES: where channels go first.
        importance: of channels.IMPORTANCES: what a channel is worth.
        round_to: widths become multiples of it.
        rounds: prune-and-recover rounds; None for as many as the ratio wants.
        recipe: of the recovery, its steps over all rounds; None to learn nothing.
        refit: whether what stays is refitted to what it said before. What is not wants a recipe for
            a network that was cut, DistillationRecipe's own defaults, or none: pruning alone.

    Raises:
        UsageError: a value outside its range.
    """

    ratio: float
    scope: str = "global"
    importance: str = "reconstruction"
    round_to: int = 8
    rounds: int | None = None
    recipe: DistillationRecipe | None = AFTER_REFIT
    refit: bool = True

    def __post_init__(self) -> None:
        from pkecho_edge.pruning.channels import IMPORTANCES

        if not 0 < self.ratio < 1:  # false for NaN, too
            raise UsageError(
                f"ratio {self.ratio} is not between 0 and 1",
                remedy="A ratio of 0.5 removes half of the GMACs",
            )
        for name, choices in (("scope", SCOPES), ("importance", IMPORTANCES)):
            if (value := getattr(self, name)) not in choices:
                raise UsageError(
                    f"there is no {name} {value!r}", remedy=f"Use one of {', '.join(choices)}"
                )
        if not 1 <= self.round_to <= 64:
            raise UsageError(f"widths of multiples of {self.round_to}", remedy="Use 1 to 64")
        if self.rounds is not None and not 1 <= self.rounds <= _MOST_ROUNDS:
            raise UsageError(f"{self.rounds} rounds", remedy=f"Use 1 to {_MOST_ROUNDS}")

    @property
    def wants_recordings(self) -> bool:
        """Whether anything is looked at, or learned from, but weights."""
        looks = self.refit or self.importance in ("reconstruction", "taylor")
        return looks or self.recipe is not None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True)
class Round:
    """One round.

    Attributes:
        gmacs: of a clip, afterwards.
        widths: place -> channels.
        steps: of distillation that were taken.
        agreement_before, agreement: with the teacher on what is held out, percent, before and
            after learning; None where nothing is held out, or nothing was learned.
        diverged: whether learning ended early because it fell apart; the best network was kept.
    """

    gmacs: float
    widths: Mapping[str, int]
    steps: int = 0
    agreement_before: float | None = None
    agreement: float | None = None
    diverged: bool = False


@dataclass(frozen=True)
class PruningReport:
    """How a pruned network came about; it travels in its checkpoint.

    Attributes:
        baseline_sha256: of the unpruned checkpoint, which taught it and is what drift is against.
        parent_sha256: of the checkpoint that was pruned: the baseline, or one pruned before.
        size: (H, W) at which GMACs count.
        gmacs: of the parent.
        order: what was asked.
        rounds: what was done; the last one made the network.
        earlier: the parent's own report, where it was pruned already.
    """

    baseline_sha256: str
    parent_sha256: str
    size: tuple[int, int]
    gmacs: float
    order: Mapping[str, Any]
    rounds: tuple[Round, ...]
    earlier: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"schema": "pkecho-edge/pruning/1", **json.loads(json.dumps(asdict(self)))}

    def note(self) -> str:
        """One line for people."""
        last = self.rounds[-1]
        said = f"{last.gmacs:.2f} of {self.gmacs:.2f} GMACs"
        agreement = last.agreement_before if last.agreement is None else last.agreement
        if agreement is not None:
            said += f", agrees {agreement:.2f} % with its baseline"
        if any(each.diverged for each in self.rounds):
            said += "; learning diverged, the best network before that was kept"
        return said


def recipe_of(ratio: float, steps: int | None, refit: bool = True) -> DistillationRecipe | None:
    """The recipe of so many steps for a network that loses a share of its GMACs.

    Args:
        ratio: the share.
        steps: 0 for no recipe. None for the default: none up to 0.85 where what stays is refitted,
            and the recipe's own beyond, and where it is not.
        refit: whether it is.

    Raises:
        UsageError: fewer steps than none.
    """
    if steps is not None and steps < 0:
        raise UsageError(f"{steps} steps", remedy="Give 0 or more")
    if steps == 0 or (steps is None and refit and ratio <= _UNLEARNED):
        return None
    recipe = AFTER_REFIT if refit else DistillationRecipe()
    return recipe if steps is None else replace(recipe, steps=steps)


def read_report(path: Path) -> dict[str, Any] | None:
    """The report in a checkpoint's header, None in one that was not pruned here.

    Raises:
        CheckpointError: the checkpoint cannot be read, or its report is damaged.
    """
    from pkecho_edge.model.checkpoint import read_notes

    text = read_notes(path).get("pruning")
    if text is None:
        return None
    try:
        report = parse_json(text)
        if not isinstance(report, dict):
            raise ValueError("it is no object")
        shas = [report[name] for name in ("baseline_sha256", "parent_sha256")]
        if not all(re.fullmatch("[0-9a-f]{64}", str(sha)) for sha in shas):
            raise ValueError("a hash is none")
    except (ValueError, KeyError) as error:
        raise CheckpointError(
            f"what it says of its pruning cannot be read ({error})",
            path=path,
            remedy="Prune the baseline again",
        ) from error
    return dict(report)


def round_ratios(ratio: float, rounds: int | None) -> tuple[float, ...]:
    """Share of the first GMACs that is gone after each round; every round cuts the same share.

    By default one round up to half, two up to 0.85, three beyond.
    """
    count = rounds or (1 if ratio <= 0.5 else 2 if ratio <= 0.85 else 3)
    before = (1 - (1 - ratio) ** (index / count) for index in range(1, count))
    return (*before, ratio)


def recover(
    network: PKEchoNet,
    lessons: Sequence[Lessons],
    held: Sequence[Lessons],
    order: PruningOrder,
    size: tuple[int, int],
    folder: Path,
    *,
    cost: WidthCost | None = None,
    device: torch.device | None = None,
    observer: Observer,
) -> tuple[PKEchoNet, tuple[Round, ...]]:
    """Prune a network, and let it learn what the lessons say.

    Args:
        network: the parent; it is left as it is.
        lessons, held: of the baseline's answers; both may be empty where the order wants none.
        order: what is asked.
        size: (H, W) at which GMACs and cost count.
        folder: where learning keeps its state; a killed run goes on from there.
        cost: of widths, for scope "latency".
        device: to learn on; None for the CPU.
        observer: hears about progress.

    Returns:
        the pruned network in eval mode, and its rounds.

    Raises:
        UsageError: a ratio out of reach, or "latency" without a cost.
        UnusableInput: a recipe, and nothing to learn from.
    """
    from pkecho_edge.pruning.choose import check_reach, network_gmacs
    from pkecho_edge.pruning.places import widths_of

    check_reach(network.config, order.ratio, size, order.round_to)
    if order.scope == "latency" and cost is None:
        raise UsageError("scope latency needs times of layers", remedy="Use scope global")
    ratios = round_ratios(order.ratio, order.rounds if order.recipe else 1)
    steps = _shared(order.recipe.steps if order.recipe else 0, len(ratios))
    whole = network_gmacs(network.config, widths_of(network.config), size)
    cutter = _Cutter(order, lessons, size, whole, cost, observer)
    rounds: list[Round] = []
    for index, (ratio, share) in enumerate(zip(ratios, steps, strict=True)):
        network, done = cutter.cut(network, ratio)
        if order.recipe is None:
            done = replace(done, agreement_before=_agreement(network, held))
        else:
            observer.start(f"recover, {index + 1} of {len(ratios)}", share)
            result = distil(
                network,
                lessons,
                held,
                replace(order.recipe, steps=share),
                folder / f"round-{index + 1}",
                device=device,
                afresh=True,
                on_step=_teller(observer),
            )
            network = result.network
            done = replace(
                done,
                steps=result.steps,
                agreement_before=result.before,
                agreement=result.agreement,
                diverged=result.diverged,
            )
            observer.done(
                f"{done.gmacs:.2f} GMACs, agreement {result.before:.2f} -> {result.agreement:.2f} %"
            )
        rounds.append(done)
    return network.eval(), tuple(rounds)


@dataclass(frozen=True)
class _Cutter:
    """What every round cuts by; the fields are those of `recover`.

    Attributes:
        whole: GMACs that ratios are of.
    """

    order: PruningOrder
    lessons: Sequence[Lessons]
    size: tuple[int, int]
    whole: float
    cost: WidthCost | None
    observer: Observer

    def cut(self, network: PKEchoNet, ratio: float) -> tuple[PKEchoNet, Round]:
        """Narrower, and refitted where the order says so; nothing is learned yet."""
        from pkecho_edge.pruning.channels import channel_importance, keep_channels
        from pkecho_edge.pruning.choose import choose_widths
        from pkecho_edge.pruning.reconstruction import reader_counts

        order = self.order
        by_readers = order.importance == "reconstruction"
        frames = self._frames() if by_readers or order.refit else []
        self.observer.start("rank channels", None)
        worth = channel_importance(network, order.importance, _losses(self.lessons), frames)
        chosen = choose_widths(
            network.config,
            worth,
            ratio,
            self.size,
            whole=self.whole,
            scope=order.scope,
            round_to=order.round_to,
            cost=self.cost if order.scope == "latency" else None,
            weight=reader_counts(network) if by_readers else None,
        )
        self.observer.done(f"by {order.importance}, {chosen.gmacs:.2f} GMACs stay")
        narrow = keep_channels(network, worth, chosen.widths)
        if order.refit:
            narrow = self._refitted(narrow, network, worth, chosen.widths, frames)
        return narrow, Round(chosen.gmacs, dict(chosen.widths))

    def _frames(self) -> list[torch.Tensor]:
        """Half of the frames of some lessons of each size: the others look much like them."""
        import torch

        return [
            torch.from_numpy(each[::2].copy()).float() / 255
            for few in (given.sample(LOOKED_AT) for given in self.lessons if len(given))
            for each in few.frames
        ]

    def _refitted(
        self,
        narrow: PKEchoNet,
        parent: PKEchoNet,
        worth: Mapping[str, torch.Tensor],
        widths: Mapping[str, int],
        frames: Sequence[torch.Tensor],
    ) -> PKEchoNet:
        from pkecho_edge.pruning.channels import kept_channels
        from pkecho_edge.pruning.layers import network_layers
        from pkecho_edge.pruning.refit import refit

        self.observer.start("refit", len(network_layers(parent.config)))
        kept = {place: kept_channels(worth[place], width) for place, width in widths.items()}
        network = refit(narrow, parent, kept, frames, self.observer.advance)
        self.observer.done(f"each layer to its old answers, on {len(frames)} clips")
        return network


def _agreement(network: PKEchoNet, held: Sequence[Lessons]) -> float | None:
    from pkecho_edge.training.distillation import agreement

    return agreement(network, held) if any(map(len, held)) else None


def _losses(
    lessons: Sequence[Lessons],
) -> Callable[[PKEchoNet], Iterator[torch.Tensor]] | None:
    """Dice losses against the teacher's masks: against its probabilities it has no gradient."""
    if not any(map(len, lessons)):
        return None

    def losses(network: PKEchoNet) -> Iterator[torch.Tensor]:
        import torch

        from pkecho_edge.training.lessons import answers_of
        from pkecho_edge.training.losses import dice_loss

        for each in lessons:
            few = each.sample(_TAYLOR_LESSONS)
            for frames, answers in zip(few.frames, few.answers, strict=True):
                clips = torch.from_numpy(frames)[None].float() / 255
                masks = torch.from_numpy(answers >= 128)[None].float()
                yield dice_loss(answers_of(network, clips).logits, masks)

    return losses


def _teller(observer: Observer) -> Callable[[LessonStep], None]:
    """Advances an observer step by step, at first by those that an earlier run took."""
    told = 0

    def tell(step: LessonStep) -> None:
        nonlocal told
        while told < step.step:
            observer.advance()
            told += 1
        if step.agreement is not None:
            observer.describe(f"agreement {step.agreement:.2f} %")

    return tell


def _shared(steps: int, rounds: int) -> tuple[int, ...]:
    """Most of them go to the last round; every round has one at least."""
    if rounds == 1:
        return (steps,)
    early = max(1, int(steps * (1 - _LAST_SHARE) / (rounds - 1)))
    return (*(early,) * (rounds - 1), max(1, steps - early * (rounds - 1)))
