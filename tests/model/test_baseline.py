"""The baseline on clips, and frame by frame as live use sees it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pkecho_edge.model.baseline import baseline_runner, baseline_stepper, baseline_stream_runner
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet

FRAMES = 4


@pytest.fixture(scope="module")
def network() -> PKEchoNet:
    torch.manual_seed(3)
    inner = (((8,), (8,)), ((8,), (8,)), ((8,), (8,)), ((8,), (8,)))
    return PKEchoNet(NetworkConfig(frames=FRAMES, widths=Widths(8, (8, 8, 8, 8), inner))).eval()


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    """u8 [7, 1, 96, 128]."""
    return np.random.default_rng(0).integers(0, 256, (7, 1, 96, 128), dtype=np.uint8)


def test_each_frame_is_the_last_of_its_window(
    network: PKEchoNet, frames: NDArray[np.uint8]
) -> None:
    clip, live = baseline_runner(network), baseline_stream_runner(network)(frames)

    assert live.shape == frames.shape
    assert live.dtype == np.float32
    for newest in range(len(frames)):
        # before the first frame lie copies of it
        window = frames[[max(0, newest - FRAMES + 1 + i) for i in range(FRAMES)]]
        np.testing.assert_allclose(live[newest], clip(window)[-1], rtol=1e-4, atol=1e-4)


def test_a_stream_of_one_frame(network: PKEchoNet, frames: NDArray[np.uint8]) -> None:
    one = baseline_stream_runner(network)(frames[:1])

    expected = baseline_runner(network)(frames[[0] * FRAMES])[-1:]
    np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-4)


def test_every_stream_begins_anew(network: PKEchoNet, frames: NDArray[np.uint8]) -> None:
    run = baseline_stream_runner(network)

    first = run(frames[:3])
    run(frames[3:])

    np.testing.assert_array_equal(run(frames[:3]), first)


def test_a_stream_of_any_length_goes_frame_by_frame(
    network: PKEchoNet, frames: NDArray[np.uint8]
) -> None:
    drawn: list[int] = []

    def source() -> Iterator[NDArray[np.uint8]]:
        for index, frame in enumerate(frames[:, 0]):
            drawn.append(index)
            yield frame

    steps = baseline_stepper(network)(source())

    first = next(steps)
    assert drawn == [0]
    assert not torch.is_inference_mode_enabled()  # in between, the caller may do anything
    found = np.stack([first, *steps])
    np.testing.assert_array_equal(found, baseline_stream_runner(network)(frames)[:, 0])
