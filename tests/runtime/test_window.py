"""The window against the network, and what a failure leaves of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pkecho_edge import targets
from pkecho_edge.errors import UsageError
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.runtime.window import Window, stream_runner, stream_stepper
from pkecho_edge.targets.base import Engine as CompiledEngine
from pkecho_edge.targets.base import Session

LENGTH = 4
CLOSE = 1e-3
"""Of the largest logit: another order of summation moves an FP32 engine, another window far more
(0.1 and above)."""

Frames = NDArray[np.uint8]


@pytest.fixture
def session(compiled: dict[str, CompiledEngine]) -> Iterator[Session]:
    with targets.get("cpu").load(compiled["stream"]) as session:
        yield session


def networks_last(network: PKEchoNet, window: Frames) -> NDArray[np.float32]:
    """f32 [H, W] of the newest frame."""
    with torch.inference_mode():
        logits: torch.Tensor = network(torch.from_numpy(window)[None].float() / 255)[-1]
    return logits[0, -1].numpy()


def test_every_result_is_the_networks_on_the_newest_frames(
    session: Session, compiled: dict[str, CompiledEngine], network: PKEchoNet, frames: Frames
) -> None:
    logits = stream_runner(session, compiled["stream"])(frames)

    assert logits.shape == frames.shape
    assert logits.dtype == np.float32
    before = np.repeat(frames[:1], LENGTH - 1, axis=0)  # while it warms up
    padded = np.concatenate([before, frames])
    for index in range(len(frames)):
        expected = networks_last(network, padded[index : index + LENGTH])
        assert np.abs(logits[index, 0] - expected).max() < CLOSE * np.abs(expected).max()


def test_every_run_is_a_new_stream(
    session: Session, compiled: dict[str, CompiledEngine], frames: Frames
) -> None:
    run = stream_runner(session, compiled["stream"])

    first = run(frames)
    run(frames[4:])  # an odd number of frames: the other history is in use

    assert np.array_equal(run(frames), first)
    assert run(frames[:0]).shape == (0, 1, 96, 128)


def test_windows_of_one_session_do_not_mix(
    session: Session, compiled: dict[str, CompiledEngine], frames: Frames
) -> None:
    one, other = (Window(session, compiled["stream"]) for _ in range(2))
    expected = stream_runner(session, compiled["stream"])
    found: tuple[list[Frames], list[Frames]] = ([], [])

    for index in range(len(frames)):
        for window, results, frame in zip(
            (one, other), found, (frames[index], frames[-1 - index]), strict=True
        ):
            window.frame[:] = frame[0]
            window.advance()
            results.append(window.logits.copy())

    assert np.array_equal(np.array(found[0]), expected(frames)[:, 0])
    assert np.array_equal(np.array(found[1]), expected(frames[::-1])[:, 0])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((3, 1, 96, 96), np.uint8),
        np.zeros((3, 96, 128), np.uint8),
        np.zeros((3, 1, 96, 128), np.float32),
    ],
)
def test_a_sequence_that_does_not_fit_is_refused(
    session: Session, compiled: dict[str, CompiledEngine], wrong: Frames
) -> None:
    with pytest.raises(UsageError, match="not uint8"):
        stream_runner(session, compiled["stream"])(wrong)


def test_frame_by_frame_it_is_the_same_stream(
    session: Session, compiled: dict[str, CompiledEngine], frames: Frames
) -> None:
    steps = stream_stepper(session, compiled["stream"])
    drawn: list[int] = []

    def source() -> Iterator[Frames]:
        for index, frame in enumerate(frames[:, 0]):
            drawn.append(index)
            yield frame

    under_way = steps(source())
    first = next(under_way)
    assert drawn == [0]
    other = list(steps(frames[::-1, 0]))  # a second stream has a window of its own
    found = [first, *under_way]

    whole = stream_runner(session, compiled["stream"])
    np.testing.assert_array_equal(np.array(found), whole(frames)[:, 0])
    np.testing.assert_array_equal(np.array(other), whole(frames[::-1])[:, 0])


@pytest.mark.parametrize("wrong", [np.zeros((96, 96), np.uint8), np.zeros((96, 128), np.float32)])
def test_a_frame_that_does_not_fit_is_refused(
    session: Session, compiled: dict[str, CompiledEngine], wrong: Frames
) -> None:
    with pytest.raises(UsageError, match="not uint8"):
        next(stream_stepper(session, compiled["stream"])([wrong]))


def grey(window: Window, *values: int, anew: bool = False) -> None:
    for value in values:
        window.frame[:] = value
        window.advance(anew=anew)


def test_a_failure_leaves_the_history_alone(stand_in: Any, stand_in_engine: CompiledEngine) -> None:
    window = Window(stand_in, stand_in_engine)
    grey(window, 1, 2, 3)

    for inference, anew in ((4, False), (5, True)):  # 0 to 3: frame 1 was looked at twice
        stand_in.fails_at = inference
        with pytest.raises(UsageError, match="closed"):
            grey(window, 9, anew=anew)
    grey(window, 4)

    assert stand_in.seen[-1] == [1, 2, 3]
    assert window.pushed == 4


def test_a_failure_between_the_two_looks_leaves_it_empty(
    stand_in: Any, stand_in_engine: CompiledEngine
) -> None:
    window = Window(stand_in, stand_in_engine)
    grey(window, 1, 2, 3)
    stand_in.fails_at = 5  # the second look at 9

    with pytest.raises(UsageError, match="closed"):
        grey(window, 9, anew=True)
    assert window.pushed == 0
    grey(window, 7)

    assert stand_in.seen[-1] == [7, 7, 7]
    assert window.pushed == 1
