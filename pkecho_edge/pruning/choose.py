"""How wide each place becomes: as much importance as a budget of cost can buy.

Step by step the channels go that are worth least for what they cost. What a place has lost counts
by the logarithm of the worth that it has left, so the last channels of a layer are dearer than its
first; without that, a search takes everything from a few places. Places are weighed with the MACs
that read or write them in the whole network, unless the caller has other weights: channels of equal
worth that cost what they compute then leave every place in the same proportion, and what departs
from it are differences of worth, and of time per MAC.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from pkecho_edge.errors import UsageError
from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.model.network import PKEchoNet, count_gmacs
from pkecho_edge.model.resnet import BACKBONES
from pkecho_edge.pruning.cost import WidthCost, gmacs_cost
from pkecho_edge.pruning.layers import ConvLayer, network_layers
from pkecho_edge.pruning.places import outputs, widths_of, with_widths

__all__ = ["SCOPES", "Chosen", "check_reach", "choose_widths", "network_gmacs"]

SCOPES = ("global", "per-layer", "latency")
"""Where channels go first: where they are worth least for their MACs, from every layer alike, or
where they are worth least for the time that they take on the target."""

_LEAST = 8
"""Channels that any place keeps; below them a vector of INT8 products is mostly empty."""


@dataclass(frozen=True)
class Chosen:
    """Widths that hold a budget.

    Attributes:
        widths: place -> channels.
        gmacs: of a clip with them, by `network_gmacs`.
    """

    widths: Mapping[str, int]
    gmacs: float


def network_gmacs(config: NetworkConfig, widths: Mapping[str, int], size: tuple[int, int]) -> float:
    """GMACs of a clip, as `count_gmacs` counts those of a network with these widths."""
    return count_gmacs(PKEchoNet(with_widths(config, widths)), size)


def choose_widths(
    config: NetworkConfig,
    worth: Mapping[str, Tensor],
    ratio: float,
    size: tuple[int, int],
    *,
    whole: float | None = None,
    scope: str = "global",
    round_to: int = 8,
    cost: WidthCost | None = None,
    weight: Mapping[str, float] | None = None,
) -> Chosen:
    """The widths of a network that keeps at most 1 - `ratio` of the GMACs that it is of.

    Args:
        config: of the network to prune.
        worth: place -> what its channels are worth, [channels].
        ratio: share of the GMACs that goes, above 0 and below 1.
        size: (H, W) at which GMACs and cost count.
        whole: GMACs that the ratio is of, for a network that was pruned in an earlier round; one
            that is small enough already stays as it is. None for those of `config`.
        scope: of SCOPES.
        round_to: widths become multiples of it; one that is none may stay as it is.
        cost: of a layer in scope "latency"; None counts MACs.
        weight: place -> what the logarithm of its worth counts; None for the MACs that touch it.

    Raises:
        UsageError: a ratio or scope that there is not, or a ratio that leaves layers too narrow.
    """
    if scope not in SCOPES:
        raise UsageError(f"there is no scope {scope!r}", remedy=f"Use one of {', '.join(SCOPES)}")
    search = _Search(config, worth, size, round_to, cost or gmacs_cost(size), weight)
    budget = search.budget(ratio, whole)
    narrower = search.uniform if scope == "per-layer" else search.greedy
    widths = narrower(budget)
    return Chosen(widths, search.gmacs(widths))


def check_reach(config: NetworkConfig, ratio: float, size: tuple[int, int], round_to: int) -> None:
    """Refuse a ratio that no widths reach; see `choose_widths`, which asks this, too.

    Raises:
        UsageError: saying how far one can go.
    """
    _Search(config, {}, size, round_to, gmacs_cost(size)).budget(ratio, None)


class _Search:
    """One network's widths, their worth and their cost."""

    def __init__(
        self,
        config: NetworkConfig,
        worth: Mapping[str, Tensor],
        size: tuple[int, int],
        round_to: int,
        cost: WidthCost,
        weight: Mapping[str, float] | None = None,
    ) -> None:
        self.config, self.round_to, self.cost = config, round_to, cost
        self.layers = network_layers(config)
        self.macs = gmacs_cost(size)
        self.full = widths_of(config)
        self.touching = {
            place: [x for x in self.layers if place in (x.inputs, x.outputs)] for place in self.full
        }
        self.weight = weight or {
            place: self._sum(self.macs, self.full, layers)
            for place, layers in self.touching.items()
        }
        self.kept = {place: _log_worth(values) for place, values in worth.items()}
        counted = network_gmacs(config, self.full, size) / config.frames
        self.fixed = counted - self._sum(self.macs, self.full, self.layers)

    def gmacs(self, widths: Mapping[str, int]) -> float:
        """Of a clip; what no width changes was counted once."""
        return self.config.frames * (self.fixed + self._sum(self.macs, widths, self.layers))

    def budget(self, ratio: float, whole: float | None) -> float:
        """GMACs that may stay; raises UsageError for a ratio that no widths reach."""
        if not 0 < ratio < 1:  # false for NaN, too
            raise UsageError(
                f"ratio {ratio} is not between 0 and 1",
                remedy="A ratio of 0.5 removes half of the GMACs",
            )
        whole = whole or self.gmacs(self.full)
        budget, least = (1 - ratio) * whole, self.gmacs(self.narrowest())
        if least > budget:
            raise UsageError(
                f"ratio {ratio:g} is out of reach: with every layer at its narrowest "
                f"{least:.2f} GMACs are left, and {budget:.2f} are wanted",
                remedy=f"Use at most {math.floor(100 * (1 - least / whole)) / 100:.2f}",
            )
        return budget

    def narrowest(self) -> dict[str, int]:
        """Every place at the least it keeps."""
        return self._allowed({place: self._least(width) for place, width in self.full.items()})

    def _least(self, width: int) -> int:
        """The lowest multiple that is not below _LEAST, or the width itself."""
        return min(width, math.ceil(_LEAST / self.round_to) * self.round_to)

    def uniform(self, budget: float) -> dict[str, int]:
        """The widest share of channels for all places alike that holds the budget."""
        for thousandths in range(1000, 0, -1):
            widths = self._allowed(
                {
                    place: min(width, max(self._least(width), self._rounded(width, thousandths)))
                    for place, width in self.full.items()
                }
            )
            if self.gmacs(widths) <= budget:
                return widths
        return self.narrowest()

    def _rounded(self, width: int, thousandths: int) -> int:
        return max(1, round(width * thousandths / 1000 / self.round_to)) * self.round_to

    def greedy(self, budget: float) -> dict[str, int]:
        """Step by step narrower where the least worth goes for the cost that it saves."""
        widths = dict(self.full)
        while self.gmacs(self._allowed(widths)) > budget:
            offers = (self._offer(widths, place) for place in widths)
            best = min((offer for offer in offers if offer is not None), default=None)
            if best is None:
                return self.narrowest()
            widths[best[1]] = best[2]
        return self._filled(self._allowed(widths), budget)

    def _filled(self, widths: dict[str, int], budget: float) -> dict[str, int]:
        """Wider again, where most worth comes back for its cost, as long as the budget holds.

        The last of the greedy steps may have been a large one: by measured times whole ranges of
        widths cost the same, and a place gives up such a range at once.
        """
        while offers := [
            offer
            for place, width in widths.items()
            if (offer := self._return(widths, place, width, budget)) is not None
        ]:
            _, place, wider = max(offers)
            widths = {**widths, place: wider}
        return widths

    def _return(
        self, widths: dict[str, int], place: str, width: int, budget: float
    ) -> tuple[float, str, int] | None:
        """What a place's next multiple would bring for its cost, the place, and its width then."""
        wider = min((width // self.round_to + 1) * self.round_to, self.full[place])
        grown = {**widths, place: wider}
        if wider == width or self._allowed(grown) != grown or self.gmacs(grown) > budget:
            return None
        layers = self.touching[place]
        added = self._sum(self.cost, grown, layers) - self._sum(self.cost, widths, layers)
        won = self.kept[place][wider] - self.kept[place][width]
        return (self.weight[place] * won / max(added, 1e-12), place, wider)

    def _offer(self, widths: dict[str, int], place: str) -> tuple[float, str, int] | None:
        """What the next step of a place costs in worth, the place, and its width then.

        Measured times are not monotone: a narrower layer may take longer, and the next one less
        again. So a step goes on to the first width that saves anything.
        """
        width, layers, narrower = widths[place], self.touching[place], self._step(widths[place])
        if narrower is None:
            return None
        now = self._sum(self.cost, widths, layers)
        last = narrower
        saved = now - self._sum(self.cost, {**widths, place: last}, layers)
        while saved <= 0 and (further := self._step(last)) is not None:
            last = further
            saved = now - self._sum(self.cost, {**widths, place: last}, layers)
        if saved <= 0:
            last = narrower  # nothing does; what goes last goes by MACs alone
        lost = self.kept[place][width] - self.kept[place][last]
        return (self.weight[place] * lost / max(saved, 1e-12), place, last)

    def _step(self, width: int) -> int | None:
        """The next multiple below a width; None where it is as narrow as it may be."""
        narrower = (width - 1) // self.round_to * self.round_to
        return narrower if narrower >= self._least(width) and narrower < width else None

    def _allowed(self, widths: dict[str, int]) -> dict[str, int]:
        """A bottleneck's layer 1 has a projection, which a stem as wide as it would take away."""
        if not BACKBONES[self.config.backbone].bottleneck or widths["stem"] != widths[outputs(0)]:
            return widths
        wide = widths["stem"]
        if (narrower := self._step(wide)) is not None:
            return {**widths, "stem": narrower}
        place = outputs(0) if wide < self.full[outputs(0)] else "stem"
        return {**widths, place: min(wide + self.round_to, self.full[place])}

    @staticmethod
    def _sum(
        cost: Callable[[ConvLayer, int, int], float],
        widths: Mapping[str, int],
        layers: tuple[ConvLayer, ...] | list[ConvLayer],
    ) -> float:
        return sum(cost(layer, *layer.channels(widths)) for layer in layers)


def _log_worth(values: Tensor) -> list[float]:
    """For w = 0, 1, ...: the logarithm of what the best w channels are worth together."""
    together = values.double().sort(descending=True).values.cumsum(0)
    return [-math.inf, *together.clamp(min=1e-9).log().tolist()]
