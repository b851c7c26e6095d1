"""What a network is built from: backbone, clip length, every channel width, and the variant.

The defaults are the published network. The variants are the rows of the paper's ablations, Tables 3
to 5; docs/ablations.md lists them with their sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pkecho_edge.errors import CheckpointError
from pkecho_edge.model.kernel_segmentation import INTERACTIONS
from pkecho_edge.model.region_proxy import REGION_PROXIES
from pkecho_edge.model.resnet import BACKBONES

__all__ = [
    "VARIANTS",
    "NetworkConfig",
    "Widths",
    "default_widths",
]

_MAX_CHANNELS = 4096

VARIANTS: Mapping[str, tuple[str | int, ...]] = {
    "region_proxies": tuple(REGION_PROXIES),
    "interaction": tuple(INTERACTIONS),
    "temporal_attention": (True, False),
    "feed_forward_rate": (4, 1),
}
"""The fields of NetworkConfig that choose a variant -> their values, the published network's first.
"""


@dataclass(frozen=True)
class Widths:
    """Channel widths; a pruned network has other ones than its backbone's name says.

    Attributes:
        stem: channels after encoder_layer0.
        outputs: channels after layer1..layer4.
        inner: per stage and block the inner widths, (w,) basic or (w1, w2) bottleneck.
    """

    stem: int
    outputs: tuple[int, int, int, int]
    inner: tuple[tuple[tuple[int, ...], ...], ...]


def default_widths(backbone: str) -> Widths:
    """The unpruned widths of resnet18, resnet34 or resnet50."""
    plan = BACKBONES[backbone]
    bases = (64, 128, 256, 512)
    repeat = 2 if plan.bottleneck else 1
    first, second, third, fourth = (base * plan.expansion for base in bases)
    return Widths(
        stem=64,
        outputs=(first, second, third, fourth),
        inner=tuple(
            tuple((base,) * repeat for _ in range(blocks))
            for base, blocks in zip(bases, plan.blocks, strict=True)
        ),
    )


@dataclass(frozen=True)
class NetworkConfig:
    """Everything needed to rebuild a network before its weights are loaded.

    Attributes:
        backbone: "resnet18", "resnet34" or "resnet50".
        frames: T, the clip length (2 to 64; the paper has 10).
        kernel_channels: width of the segmentation kernels (the paper has 32).
        refinements: kernel refinement iterations (0 to 8; the paper has 3, Table 5 has 1 to 4).
        widths: channel widths, None for the backbone's own.
        region_proxies: how masks reach the image's size (Table 3). "interval-1": an estimator
            between neighbouring layers; "interval-2", "interval-3": across two or three;
            "vanilla": one from the deepest layer to the image; "none": bilinear.
        interaction: how kernels meet grouped features (Table 4). "hybrid": the published hybrid
            attention; "equation-2": the paper's form of it; "gating": K-Net's kernel update.
        temporal_attention: whether the kernels of a clip's frames attend to each other (Table 4).
        feed_forward_rate: inner width over kernel_channels: 4 as published, 1 as in the paper.

    Raises:
        CheckpointError: a value outside its range, an unknown variant, or widths that do not fit
            the backbone.
    """

    backbone: str = "resnet18"
    frames: int = 10
    kernel_channels: int = 32
    refinements: int = 3
    widths: Widths | None = None
    region_proxies: str = "interval-1"
    interaction: str = "hybrid"
    temporal_attention: bool = True
    feed_forward_rate: int = 4

    def __post_init__(self) -> None:
        remedy = "The checkpoint's configuration is damaged or from another tool"
        if self.backbone not in BACKBONES:
            raise CheckpointError(
                f"unknown backbone {self.backbone!r}", remedy=f"Use one of {', '.join(BACKBONES)}"
            )
        ranges = {"frames": (2, 64), "kernel_channels": (32, 256), "refinements": (0, 8)}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise CheckpointError(f"{name} is {value!r}, not {low} to {high}", remedy=remedy)
        if self.kernel_channels % 32:
            raise CheckpointError(
                f"kernel_channels is {self.kernel_channels}, not a multiple of the head width 32",
                remedy=remedy,
            )
        self._check_variants()
        if self.widths is None:
            object.__setattr__(self, "widths", default_widths(self.backbone))
        self._check_widths(remedy)

    def _check_variants(self) -> None:
        for name, choices in VARIANTS.items():
            value = getattr(self, name)
            # the type too, because True equals 1
            if type(value) is not type(choices[0]) or value not in choices:
                raise CheckpointError(
                    f"unknown {name} {value!r}",
                    remedy=f"Use one of {', '.join(map(str, choices))}",
                )

    def _check_widths(self, remedy: str) -> None:
        widths, expected = self.channel_widths, default_widths(self.backbone)
        shape = [[len(block) for block in stage] for stage in widths.inner]
        if shape != [[len(block) for block in stage] for stage in expected.inner]:
            raise CheckpointError(f"channel widths do not fit {self.backbone}", remedy=remedy)
        flat = [widths.stem, *widths.outputs, *(w for s in widths.inner for b in s for w in b)]
        if len(widths.outputs) != 4 or not all(
            isinstance(width, int) and 1 <= width <= _MAX_CHANNELS for width in flat
        ):
            raise CheckpointError("channel widths are out of range", remedy=remedy)

    @property
    def channel_widths(self) -> Widths:
        """The widths, never None."""
        assert self.widths is not None  # set in __post_init__
        return self.widths

    def variant(self) -> dict[str, str | int]:
        """The variant's fields that differ from the published network; empty for that one."""
        values = {name: getattr(self, name) for name in VARIANTS}
        return {name: value for name, value in values.items() if value != VARIANTS[name][0]}

    def as_dict(self) -> dict[str, object]:
        """A JSON-ready dictionary that `from_dict` reads back.

        Variants are named only where they differ from the published network: the dictionary of that
        one stays what it was before there were variants, so older readers take it and hashes over
        it hold.
        """
        return {n: v for n, v in asdict(self).items() if n not in VARIANTS} | self.variant()

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> NetworkConfig:
        """Rebuild from `as_dict`'s output, which may come from a hostile file.

        Raises:
            CheckpointError: unknown or missing keys, wrong types, values out of range.
        """
        try:
            raw = dict(values)
            widths = raw.pop("widths", None)
            if isinstance(widths, Mapping):
                first, second, third, fourth = widths["outputs"]
                raw["widths"] = Widths(
                    stem=widths["stem"],
                    outputs=(first, second, third, fourth),
                    inner=tuple(tuple(tuple(b) for b in stage) for stage in widths["inner"]),
                )
            return cls(**raw)  # type: ignore[arg-type]  # ranges are checked in __post_init__
        except (TypeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"the network configuration cannot be read ({error})",
                remedy="Save the checkpoint again with this version of pkecho-edge",
            ) from error
