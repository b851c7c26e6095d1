"""Every variant of the ablations, lowered: the graph is the network, also in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from pkecho_edge.lowering.clip_graph import ClipGraph
from pkecho_edge.lowering.head import LoweredHead, LoweredReduction
from pkecho_edge.lowering.interaction import LoweredGating, lower_interaction
from pkecho_edge.lowering.onnx_export import export_clip_onnx
from pkecho_edge.lowering.upsampler import (
    MAX_SCORE,
    LoweredNarrowUpsampler,
    LoweredUpsampler,
    lower_estimator,
)
from pkecho_edge.model.configuration import VARIANTS, NetworkConfig, Widths
from pkecho_edge.model.gating import KernelGating
from pkecho_edge.model.kernel_segmentation import INTERACTIONS, KernelSegmentation
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.model.region_proxy import AffinityEstimator, upsample_with_affinity

PARITY = 1e-5
SIZE = (96, 128)
TIGHT = {"rtol": 1e-10, "atol": 1e-10}
NARROW = Widths(8, (8, 16, 24, 32), (((5,), (7,)), ((9,), (11,)), ((13,), (15,)), ((17,), (19,))))
EXAMPLES = [
    {"region_proxies": "interval-2"},
    {"region_proxies": "interval-3"},
    {"region_proxies": "vanilla"},
    {"region_proxies": "none"},
    {"interaction": "equation-2"},
    {"interaction": "gating"},
    {"temporal_attention": False},
    {"feed_forward_rate": 1},
    {name: values[-1] for name, values in VARIANTS.items()},
    {"refinements": 0},
    {"refinements": 1},
    {"refinements": 2},
    {"refinements": 4},
]
Fields = dict[str, object]


@pytest.fixture(scope="module", params=EXAMPLES, ids=lambda f: " ".join(map(str, f.values())))
def variant(
    request: pytest.FixtureRequest, conditioned: Callable[[NetworkConfig], PKEchoNet]
) -> PKEchoNet:
    """A pruned ResNet-18 with four frames."""
    return conditioned(NetworkConfig(frames=4, widths=NARROW, **request.param))


def relative(got: Tensor, network: PKEchoNet, frames: Tensor) -> float:
    """Largest difference to the network's last logits over the largest of them."""
    with torch.inference_mode():
        expected = network(frames[None].float() / 255)[-1][0]
    return float((got - expected).abs().max() / expected.abs().max())


def test_the_graph_is_the_network(variant: PKEchoNet, clip: Tensor) -> None:
    logits = ClipGraph(variant, SIZE)(clip)

    assert logits.shape == (4, 1, *SIZE)
    assert relative(logits, variant, clip) < PARITY


def test_onnx_runtime_agrees_with_the_network(
    variant: PKEchoNet, clip: Tensor, tmp_path: Path
) -> None:
    report = export_clip_onnx(variant, SIZE, tmp_path / "clip.onnx", clip.numpy())

    session = onnxruntime.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    other = clip.flip(0)  # not the probe
    (logits,) = session.run(None, {"frames": other.numpy()})
    assert relative(torch.from_numpy(logits), variant, other) < PARITY
    model = onnx.load(report.path)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert ranks(model) <= {1, 2, 3, 4}
    bilinear = variant.config.region_proxies == "none"
    named = set() if bilinear else {"depthwise", "scores", "fixed"}
    assert convolutions_of_upsamplers(model) == named


def ranks(model: onnx.ModelProto) -> set[int]:
    """Number of dimensions of every activation."""
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    return {len(value.type.tensor_type.shape.dim) for value in inferred} - {0}


def convolutions_of_upsamplers(model: onnx.ModelProto) -> set[str]:
    """Their names, by which the quantizer tells an estimator's layers; "fixed" has no own name."""
    parts = [n.name.strip("/").split("/") for n in model.graph.node if n.op_type == "Conv"]
    inner = [part[1:-1] for part in parts if part[0].startswith("upsamplers")]
    return {part[-1] if part else "fixed" for part in inner}


@pytest.fixture
def doubles() -> object:
    torch.manual_seed(2)
    with torch.inference_mode():
        yield


def randomised(module: nn.Module) -> nn.Module:
    """In double precision and eval mode, with norms and biases that do something."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    for name, parameter in module.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)
        elif parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return module.double().eval()


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("refinements", [1, 3])
@pytest.mark.parametrize("channels", [32, 64])
@pytest.mark.parametrize("attends", [True, False])
@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_the_head_at_batch_size_1(
    interaction: str, attends: bool, channels: int, refinements: int
) -> None:
    head = randomised(
        KernelSegmentation(
            12,
            channels,
            refinements,
            frames=5,
            interaction=interaction,
            temporal_attention=attends,
            feed_forward_rate=1,
        )
    )
    assert isinstance(head, KernelSegmentation)
    features = torch.randn(5, 12, 3, 4).double()

    lowered = LoweredHead(head)(LoweredReduction(head)(features))

    torch.testing.assert_close(lowered, head(features)[-1], **TIGHT)


@pytest.mark.usefixtures("doubles")
def test_gating_needs_half_the_layers() -> None:
    gating = randomised(KernelGating(32))
    grouped, kernels = torch.randn(2, 5, 32).double()

    lowered = lower_interaction(gating)
    seen = lowered.from_kernels(kernels)

    assert isinstance(lowered, LoweredGating)
    assert sum(isinstance(part, nn.Linear) for part in lowered.modules()) == 3
    torch.testing.assert_close(lowered(grouped, kernels, seen), gating(grouped, kernels), **TIGHT)


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("lowering", [LoweredUpsampler, LoweredNarrowUpsampler])
@pytest.mark.parametrize(("factor", "kernel"), [(2, 3), (4, 3), (8, 1)])
@pytest.mark.parametrize(("height", "width"), [(3, 4), (1, 5)])
def test_both_forms_of_the_upsampler_are_equation_5(
    lowering: Callable[[AffinityEstimator, int, int], nn.Module],
    factor: int,
    kernel: int,
    height: int,
    width: int,
) -> None:
    estimator = randomised(AffinityEstimator(6, factor, kernel))
    assert isinstance(estimator, AffinityEstimator)
    features = torch.randn(2, 6, height, width).double()
    masks = torch.randn(2, 1, height, width).double()

    got = lowering(estimator, height, width).double()(features, masks)

    expected = upsample_with_affinity(masks, estimator(features))
    assert got.shape == (2, 1, height * factor, width * factor)
    torch.testing.assert_close(got, expected, **TIGHT)


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("lowering", [LoweredUpsampler, LoweredNarrowUpsampler])
def test_a_neighbour_that_wins_by_far_takes_all_of_a_cell(
    lowering: Callable[[AffinityEstimator, int, int], nn.Module],
) -> None:
    estimator = randomised(AffinityEstimator(6, 4))
    assert isinstance(estimator, AffinityEstimator)
    estimator.estimator[3].bias[:16] += 3 * MAX_SCORE  # the upper left neighbour of all sub-pixels
    features, masks = torch.randn(1, 6, 4, 4).double(), torch.randn(1, 1, 4, 4).double()

    lowered = lowering(estimator, 4, 4).double()(features, masks)

    assert lowered.isfinite().all()
    torch.testing.assert_close(lowered[0, 0, 4:8, 4:8], masks[0, 0, 0, 0].expand(4, 4), **TIGHT)


@pytest.mark.parametrize("factor", [2, 4, 8, 32])
def test_the_form_follows_the_factor(factor: int) -> None:
    """One convolution per neighbour where it fills a vector; else its channels would be padding."""
    lowered = lower_estimator(AffinityEstimator(6, factor).eval(), 3, 3)

    assert isinstance(lowered, LoweredUpsampler) == (factor >= 4)
    # as a fixed convolution the sums of factor 32 alone would be 8 million numbers
    assert sum(buffer.numel() for buffer in lowered.buffers()) < 10_000
