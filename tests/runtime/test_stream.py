"""Live use, with everything that a live image does and a caller gets wrong."""

from __future__ import annotations

import gc
import math
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pkecho_edge.bundle.manifest import Postprocessing
from pkecho_edge.data.resize import resize_frames, resize_masks
from pkecho_edge.errors import UsageError
from pkecho_edge.runtime import Engine, Stream, StreamResult
from pkecho_edge.runtime.window import Window
from pkecho_edge.targets.base import Engine as CompiledEngine

LENGTH = 4
Frames = NDArray[np.uint8]
Opens = Callable[..., Stream]
Push = Callable[[Stream], object]


@pytest.fixture
def opens(stand_in: Any, stand_in_engine: CompiledEngine) -> Opens:
    """A stream of the stand-in: what is darker than 100 is the mask."""

    def open_it(
        rule: Postprocessing = Postprocessing(),  # noqa: B008  # frozen
        spacing_mm: tuple[float, float] | None = None,
        max_gap_s: float = 0.5,
    ) -> Stream:
        window = Window(stand_in, stand_in_engine)
        return Stream(window, LENGTH, rule, spacing_mm=spacing_mm, max_gap_s=max_gap_s)

    return open_it


def grey(value: int = 0, shape: tuple[int, int] = (96, 96)) -> Frames:
    return np.full(shape, value, np.uint8)


def disc(shape: tuple[int, int], radius: float) -> Frames:
    """Dark on bright, in the middle."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    distance = np.hypot(rows - (shape[0] - 1) / 2, columns - (shape[1] - 1) / 2)
    return np.where(distance < radius, 20, 180).astype(np.uint8)


def pushed(stream: Stream, frames: Frames) -> list[StreamResult]:
    return [stream.push(frame) for frame in frames]


def same_masks(results: list[StreamResult], logits: NDArray[np.float32]) -> bool:
    return np.array_equal([result.mask for result in results], logits[:, 0] > 0)


# What a result holds


def test_pushes_give_what_the_whole_sequence_gives(engine: Engine, frames: Frames) -> None:
    with engine.stream() as stream:
        results = pushed(stream, frames[:, 0])

    assert same_masks(results, engine.stream_logits(frames))
    assert [result.area_px for result in results] == [int(r.mask.sum()) for r in results]
    assert [result.index for result in results] == list(range(9))
    assert all(result.latency_ms > 0 for result in results)


def test_it_warms_up_until_the_window_is_full(opens: Opens) -> None:
    results = pushed(opens(), np.stack([grey()] * 6))

    assert [result.warming_up for result in results] == [True, True, True, False, False, False]
    assert [result.restarted for result in results] == ["first", "", "", "", "", ""]
    assert {result.timestamp_s for result in results} == {None}


def test_a_disc_has_the_area_of_a_disc(opens: Opens) -> None:
    result = opens(spacing_mm=(0.5, 0.8)).push(disc((96, 96), 30))

    assert result.mask.dtype == np.bool_
    assert result.area_px == result.mask.sum() == pytest.approx(math.pi * 30**2, rel=0.01)
    assert result.area_cm2 == pytest.approx(result.area_px * 0.5 * 0.8 / 100)
    radii = np.hypot(*(result.contour - 47.5).T)
    assert np.abs(radii - 30).max() < 1
    assert result.contour is result.contour  # traced once


def test_an_empty_mask(opens: Opens) -> None:
    result = opens(spacing_mm=(0.5, 0.8)).push(grey(200))

    assert result.area_px == 0
    assert result.area_cm2 == 0
    assert result.contour.shape == (0, 2)


def test_a_mask_has_the_frames_geometry(opens: Opens) -> None:
    frame = disc((240, 400), 80)

    result = opens(spacing_mm=(0.1, 0.1)).push(frame)

    expected = resize_masks(resize_frames(frame[None], (96, 96)) < 100, (240, 400))[0]
    assert np.array_equal(result.mask, expected)
    assert result.area_cm2 == pytest.approx(math.pi * 0.8**2, rel=0.03)
    assert np.abs(np.hypot(*(result.contour - (199.5, 119.5)).T) - 80).max() < 5


def test_only_the_largest_component_where_the_manifest_says_so(opens: Opens) -> None:
    frame = disc((96, 96), 20)
    frame[:5, :5] = 0

    whole = opens().push(frame)
    largest = opens(Postprocessing(component="largest")).push(frame)

    assert whole.area_px == largest.area_px + 25
    assert np.array_equal(whole.contour, largest.contour)


def test_results_are_the_callers(opens: Opens) -> None:
    stream, frame = opens(), disc((96, 96), 20)
    first = stream.push(frame)
    kept = first.mask.copy()

    frame[:] = 0  # the frame is not kept
    first.mask[0, 0] = True
    second = stream.push(grey(200))

    assert second.area_px == 0
    assert np.array_equal(first.mask[1:], kept[1:])


VIEWS: dict[str, Callable[[Frames], Frames]] = {
    "crop": lambda wide: wide[5:101, 7:135],
    "mirrored": lambda wide: wide[:96, :128][:, ::-1],
    "upside down": lambda wide: wide[:96, :128][::-1],
    "every other": lambda wide: wide[:192:2, :256:2],
    "transposed": lambda wide: wide[:128, :96].T,
    "column-major": lambda wide: np.asfortranarray(wide[:96, :128]),
    "a channel": lambda wide: np.dstack([wide, wide])[:96, :128, 1],
    "a crop of another size": lambda wide: wide[3:70, 9:250],
    "read-only": lambda wide: np.broadcast_to(wide[0, :128], (96, 128)),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_strides_do_not_matter(engine: Engine, view: Callable[[Frames], Frames]) -> None:
    wide = np.random.default_rng(2).integers(0, 256, (200, 300), dtype=np.uint8)
    with engine.stream() as one, engine.stream() as other:
        assert np.array_equal(
            one.push(view(wide)).mask, other.push(np.ascontiguousarray(view(wide))).mask
        )


# Restarts


def test_a_new_geometry_starts_anew(engine: Engine, frames: Frames) -> None:
    later = np.random.default_rng(3).integers(0, 256, (5, 112, 112), dtype=np.uint8)
    with engine.stream() as stream, engine.stream() as fresh:
        pushed(stream, frames[:, 0])
        results, expected = pushed(stream, later), pushed(fresh, later)

    assert [result.restarted for result in results] == ["geometry", "", "", "", ""]
    assert [result.warming_up for result in results] == [True, True, True, False, False]
    for result, other in zip(results, expected, strict=True):
        assert np.array_equal(result.mask, other.mask)
    assert [result.index for result in results] == [9, 10, 11, 12, 13]


def test_a_gap_starts_anew(engine: Engine, frames: Frames) -> None:
    times = [0.0, 0.02, 0.04, 0.06, 0.561, 0.58, 1.07]
    with engine.stream() as stream:
        results = [stream.push(f[0], t) for f, t in zip(frames, times, strict=False)]

    assert [result.restarted for result in results] == ["first", "", "", "", "gap", "", ""]
    assert [result.timestamp_s for result in results] == times
    assert [r.warming_up for r in results] == [True, True, True, False, True, True, True]
    assert same_masks(results[4:], engine.stream_logits(frames[4:7]))


def test_a_longer_gap_may_be_allowed(opens: Opens) -> None:
    stream, patient = opens(max_gap_s=2), opens(max_gap_s=math.inf)

    assert [stream.push(grey(), t).restarted for t in (0, 2, 4.1)] == ["first", "", "gap"]
    assert [patient.push(grey(), t).restarted for t in (0, 1e9)] == ["first", ""]


def test_reset_starts_anew(opens: Opens) -> None:
    stream = opens()
    stream.reset()
    first = stream.push(grey(), 10.0)
    stream.push(grey(), 10.1)
    stream.reset()
    after = stream.push(grey(), 3.0)  # another recording, another clock
    stream.reset()
    untimed = stream.push(grey())

    assert first.restarted == "first"
    assert (after.restarted, after.warming_up, after.index) == ("reset", True, 2)
    assert (untimed.restarted, untimed.timestamp_s) == ("reset", None)


def test_a_spacing_holds_for_the_geometry_it_was_given_for(opens: Opens) -> None:
    stream = opens(spacing_mm=(0.5, 0.5))

    areas = [stream.push(grey(0, shape)).area_cm2 for shape in ((96, 96), (48, 48), (96, 96))]

    assert areas == [pytest.approx(96 * 96 * 0.25 / 100), None, pytest.approx(areas[0])]


# What is refused, and leaves the stream as it was

BAD_FRAMES: dict[str, object] = {
    "a list": [[0] * 96] * 96,
    "nothing": None,
    "float": np.zeros((96, 96)),
    "signed": np.zeros((96, 96), np.int8),
    "16 bits": np.zeros((96, 96), np.uint16),
    "bool": np.zeros((96, 96), np.bool_),
    "colour": np.zeros((96, 96, 3), np.uint8),
    "a batch": np.zeros((1, 96, 96), np.uint8),
    "a row": np.zeros(96, np.uint8),
    "empty": np.zeros((0, 0), np.uint8),
    "too low": np.zeros((15, 96), np.uint8),
    "too narrow": np.zeros((96, 15), np.uint8),
    "too high": np.zeros((4097, 16), np.uint8),
    "too wide": np.zeros((16, 4097), np.uint8),
}
BAD_TIMES: dict[str, object] = {
    "NaN": math.nan,
    "infinite": math.inf,
    "minus infinite": -math.inf,
    "equal": 2.0,
    "backwards": 1.0,
    "text": "3.0",
    "a bool": True,
    "huge": 10**5000,
    "none": None,
    "an array": np.array([3.0]),
}


@pytest.mark.parametrize("bad", BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
def test_a_bad_frame_is_as_if_it_had_not_come(engine: Engine, frames: Frames, bad: Any) -> None:
    with engine.stream() as stream:
        results = [stream.push(frames[0, 0])]
        with pytest.raises(UsageError, match="the frame is"):
            stream.push(bad)
        results += pushed(stream, frames[1:5, 0])

    assert same_masks(results, engine.stream_logits(frames[:5]))
    assert [result.index for result in results] == [0, 1, 2, 3, 4]
    assert [result.restarted for result in results] == ["first", "", "", "", ""]


@pytest.mark.parametrize("bad", BAD_TIMES.values(), ids=BAD_TIMES.keys())
def test_a_bad_timestamp_is_as_if_it_had_not_come(engine: Engine, frames: Frames, bad: Any) -> None:
    with engine.stream() as stream:
        results = [stream.push(frame[0], 2 + k / 50) for k, frame in enumerate(frames[:1])]
        with pytest.raises(UsageError, match="timestamp"):
            stream.push(frames[8, 0], bad)
        results += [stream.push(frames[k, 0], 2 + k / 50) for k in range(1, 5)]

    assert same_masks(results, engine.stream_logits(frames[:5]))
    assert [result.restarted for result in results] == ["first", "", "", "", ""]


def test_a_stream_without_timestamps_takes_none(opens: Opens) -> None:
    stream = opens()
    stream.push(grey())

    with pytest.raises(UsageError, match="some frames have a timestamp and some have none"):
        stream.push(grey(), 1.0)
    assert stream.push(grey()).index == 1


def test_a_first_frame_that_is_refused_is_not_the_first(opens: Opens) -> None:
    stream = opens(spacing_mm=(1, 1))
    with pytest.raises(UsageError, match="finite"):
        stream.push(grey(0, (48, 48)), math.nan)

    result = stream.push(grey())

    assert (result.restarted, result.index) == ("first", 0)
    assert result.area_cm2 is not None


def test_numpys_numbers_are_timestamps(opens: Opens) -> None:
    stream = opens()

    for timestamp in (np.float32(0.25), np.float64(0.5), np.int64(1), 2):
        assert type(stream.push(grey(), timestamp).timestamp_s) is float


@pytest.mark.parametrize("spacing", [(0, 1), (1, -1), (math.nan, 1), (math.inf, 1), (1, 1, 1)])
def test_an_impossible_spacing_is_refused(opens: Opens, spacing: Any) -> None:
    with pytest.raises(UsageError, match="spacing_mm"):
        opens(spacing_mm=spacing)


@pytest.mark.parametrize("gap", [0, -1, math.nan])
def test_an_impossible_gap_is_refused(opens: Opens, gap: float) -> None:
    with pytest.raises(UsageError, match="max_gap_s"):
        opens(max_gap_s=gap)


@pytest.mark.parametrize(
    ("shape", "time_s", "reason"),
    [((96, 96), 0.1, ""), ((48, 48), 0.1, "geometry"), ((96, 96), 9.0, "gap")],
)
def test_an_engine_that_fails_leaves_the_stream_as_it_was(
    opens: Opens, stand_in: Any, shape: tuple[int, int], time_s: float, reason: str
) -> None:
    stream = opens()
    stream.push(grey(1), 0.0)
    stand_in.fails_at = 2

    with pytest.raises(UsageError, match="closed"):
        stream.push(grey(9, shape), time_s)
    result = stream.push(grey(2), 0.05)

    assert (result.restarted, result.index) == ("", 1)
    assert stand_in.seen[-1] == [1, 1, 1]


def test_a_restart_that_fails_half_way_is_made_up_for(opens: Opens, stand_in: Any) -> None:
    stream = opens()
    stream.push(grey(1), 0.0)
    stand_in.fails_at = 3  # the second look at the first frame after the gap

    with pytest.raises(UsageError, match="closed"):
        stream.push(grey(9), 9.0)
    result = stream.push(grey(2), 9.1)

    assert (result.restarted, result.index, result.warming_up) == ("gap", 1, True)
    assert stand_in.seen[-1] == [2, 2, 2]


def test_a_closed_stream_refuses_everything(engine: Engine, frames: Frames) -> None:
    other = engine.stream()
    with engine.stream() as stream:
        stream.push(frames[0, 0])
    stream.close()

    for use in (lambda: stream.push(frames[0, 0]), stream.reset):
        with pytest.raises(UsageError, match="the stream is closed"):
            use()
    assert other.push(frames[0, 0]).index == 0


# Threads


@pytest.mark.parametrize(
    "use", [lambda s: s.push(grey()), lambda s: s.reset()], ids=["push", "reset"]
)
def test_a_second_thread_is_refused_and_the_stream_goes_on(
    opens: Opens, stand_in: Any, use: Push
) -> None:
    stream, inside, go_on = opens(), threading.Event(), threading.Event()
    stream.push(grey(1))
    results: list[StreamResult] = []

    def wait() -> None:
        inside.set()
        assert go_on.wait(10)

    stand_in.before = wait
    thread = threading.Thread(target=lambda: results.append(stream.push(grey(2))))
    thread.start()
    assert inside.wait(10)
    with pytest.raises(UsageError, match="two threads use one stream"):
        use(stream)
    go_on.set()
    thread.join()
    results.append(stream.push(grey(3)))

    assert [result.index for result in results] == [1, 2]
    assert stand_in.seen[-1] == [1, 1, 2]


def test_closing_lets_a_push_end_well(opens: Opens, stand_in: Any) -> None:
    stream = opens()
    stand_in.before = stream.close

    assert stream.push(grey()).area_px == 96 * 96
    with pytest.raises(UsageError, match="the stream is closed"):
        stream.push(grey())


def test_two_streams_in_two_threads_give_what_each_gives_alone(
    engine: Engine, frames: Frames
) -> None:
    sequences = [np.tile(frames, (4, 1, 1, 1)), np.tile(frames[::-1], (4, 1, 1, 1))]
    alone = [engine.stream_logits(sequence) for sequence in sequences]
    streams, found = [engine.stream() for _ in sequences], [[], []]
    start = threading.Barrier(2)

    def live(k: int) -> None:
        start.wait(10)
        found[k] = pushed(streams[k], sequences[k][:, 0])

    threads = [threading.Thread(target=live, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for results, logits in zip(found, alone, strict=True):
        assert same_masks(results, logits)


# Hours of it


def test_memory_does_not_grow(opens: Opens, stand_in: Any) -> None:
    stream, frame = opens(), disc((96, 96), 20)
    small = disc((64, 80), 20)

    def push(count: int) -> None:
        for index in range(count):
            stream.push(small if index % 100 == 99 else frame)
        stand_in.seen.clear()
        gc.collect()

    push(100)
    tracemalloc.start()
    push(100)
    before, _ = tracemalloc.get_traced_memory()
    push(2000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert after - before < 4096  # less than half a mask


@pytest.mark.bench
def test_a_push_costs_little_more_than_its_inference(opens: Opens, stand_in: Any) -> None:
    stream, frame = opens(), disc((96, 96), 20)
    inside = [0.0]
    window = stream._window
    assert window is not None
    real = window.advance

    def timed(*, anew: bool = False) -> None:
        began = time.perf_counter()
        real(anew=anew)
        inside[0] = time.perf_counter() - began

    window.advance = timed  # type: ignore[method-assign]
    over = [1e6 * (stream.push(frame).latency_ms / 1000 - inside[0]) for _ in range(2000)]

    assert np.median(over) < 50  # microseconds
