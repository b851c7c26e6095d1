"""The C interface on a back-end whose network is computed by hand."""

from __future__ import annotations

import ctypes
import math
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pkecho_edge.bundle.manifest import Postprocessing
from pkecho_edge.data.resize import resize_frames, resize_masks
from pkecho_edge.metrics.area_curve import find_ed_es
from pkecho_edge.metrics.ejection_fraction import ejection_fraction, lv_volume
from pkecho_edge.runtime.masks import outline, to_mask
from tests.firmware import library as lib
from tests.firmware.fake_bundle import THRESHOLD, fake_logits, write_fake_bundle
from tests.firmware.library import CReport, Library, Refused, Result, StreamHandle
from tests.firmware.small_bundle import SIDE, WINDOW

Frames = NDArray[np.uint8]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fake") / "fake.pkb"
    write_fake_bundle(out)
    return out


Open = Callable[..., StreamHandle]


@pytest.fixture
def live(pkecho: Library, bundle: Path, tmp_path: Path) -> Open:
    """Open a stream on a bundle with these commands; its bundle and engine are closed already."""

    def open_stream(*commands: str, component: str = "largest", **options: Any) -> StreamHandle:
        path = bundle
        if commands or component != "largest":
            path = tmp_path / "other.pkb"
            write_fake_bundle(path, *commands, component=component)
        with pkecho.open_bundle(path) as opened, opened.engine() as engine:
            stream: StreamHandle = engine.stream(**options)
        return stream

    return open_stream


def blobs(count: int, shape: tuple[int, int], seed: int = 0) -> Frames:
    """u8 [count, H, W]: a disc that beats, over noise that makes small components, too."""
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    distance = np.hypot((rows / shape[0] - 0.5) * 2.6, (columns / shape[1] - 0.5) * 4)
    radii = 0.8 + 0.2 * np.cos(np.arange(count) * 0.3)
    discs = np.stack([np.where(distance < r, 150.0, 30.0) for r in radii])
    return (discs + rng.normal(0, 22, discs.shape)).clip(0, 255).astype(np.uint8)


def expected_masks(frames: Frames, component: str = "largest") -> NDArray[np.bool_]:
    """By the Python runtime's own functions."""
    logits = fake_logits(resize_frames(frames, (SIDE, SIDE)))
    rule = Postprocessing(threshold=THRESHOLD, component=component)
    masks = np.stack([to_mask(each, rule) for each in logits])
    shape = (frames.shape[1], frames.shape[2])
    return masks if shape == (SIDE, SIDE) else resize_masks(masks, shape)


@pytest.mark.parametrize("component", ["none", "largest"])
@pytest.mark.parametrize("shape", [(SIDE, SIDE), (240, 320), (16, 77), (600, 800)])
def test_masks_outlines_and_areas_are_those_of_the_python_runtime(
    live: Open, shape: tuple[int, int], component: str
) -> None:
    frames = blobs(12, shape)
    masks = expected_masks(frames, component)
    assert masks.any()
    assert not masks.all()
    padded = np.zeros((12, shape[0], shape[1] + 5), dtype=np.uint8)
    padded[:, :, : shape[1]] = frames  # rows further apart than they are wide

    with live(component=component) as stream:
        for frame, mask in zip(padded[:, :, : shape[1]], masks, strict=True):
            result = stream.push(frame, spacing_mm=(0.5, 0.25))
            np.testing.assert_array_equal(result.mask, mask)
            np.testing.assert_array_equal(result.contour, outline(mask))
            assert result.raw.area_px == mask.sum()
            assert result.raw.area_cm2 == pytest.approx(mask.sum() * 0.00125)


def test_a_window_warms_up_and_begins_anew_where_it_must(live: Open) -> None:
    small, large = blobs(1, (SIDE, SIDE))[0], blobs(1, (120, 160))[0]
    with live() as stream:
        begun = [
            stream.push(small, 0.0),
            stream.push(small, 0.1),
            stream.push(small, 0.2),
            stream.push(large, 0.3),
            stream.push(large, 0.4, (0.5, 0.5)),
            stream.push(large, 0.5, (0.5, 0.5)),
            stream.push(large, 1.1, (0.5, 0.5)),
        ]
        stream.reset()
        begun.append(stream.push(large))  # untimed from here on

    restarts = [lib.FIRST, 0, 0, lib.GEOMETRY, lib.SPACING, 0, lib.GAP, lib.RESET]
    assert [each.raw.restart for each in begun] == restarts
    assert [each.raw.index for each in begun] == list(range(8))
    assert WINDOW == 3
    warming = [bool(each.raw.flags & lib.WARMING_UP) for each in begun]
    assert warming == [True, True, False, True, True, True, True, True]
    assert math.isnan(begun[-1].raw.timestamp_s)
    assert math.isnan(begun[0].raw.area_cm2)


def test_a_begun_window_is_a_new_stream(live: Open) -> None:
    frames = blobs(6, (SIDE, SIDE))
    with live(component="none") as stream:
        for frame in frames[:3]:
            stream.push(frame)
        stream.reset()
        after = [stream.push(frame).mask for frame in frames[3:]]

    np.testing.assert_array_equal(np.stack(after), expected_masks(frames[3:], "none"))


def test_flags_say_what_is_doubtful(live: Open) -> None:
    def flags(stream: StreamHandle, frame: Frames) -> int:
        for _ in range(WINDOW):
            result = stream.push(frame)
        return int(result.raw.flags)

    rows, columns = np.ogrid[:SIDE, :SIDE]

    def disc(x: int, radius: int) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = np.hypot(rows - 48, columns - x) < radius
        return found

    def drawn(mask: NDArray[np.bool_]) -> Frames:
        return np.where(mask, 120, 0).astype(np.uint8)

    with live(component="none") as stream:
        assert flags(stream, drawn(disc(48, 20))) == lib.VALID
        assert flags(stream, drawn(disc(48, 0))) == lib.EMPTY
        assert flags(stream, drawn(disc(5, 20))) == lib.TOUCHES_BORDER
        assert flags(stream, drawn(disc(30, 12) | disc(66, 12))) == lib.FRAGMENTED


def test_an_outline_that_does_not_fit_is_cut_and_says_how_long_it_is(live: Open) -> None:
    frame = blobs(1, (SIDE, SIDE))[0]
    with live() as stream:
        whole = stream.push(frame)
        cut = stream.push(frame, capacity=5)

    assert whole.raw.contour_count == len(whole.contour) > 5
    assert cut.raw.contour_count == len(whole.contour)
    np.testing.assert_array_equal(cut.contour, whole.contour[:5])
    assert cut.raw.flags & lib.CONTOUR_CUT
    assert not whole.raw.flags & lib.CONTOUR_CUT


def test_outputs_that_are_not_wanted_are_not_needed(live: Open) -> None:
    def without(frame: lib.CFrame, result: lib.CResult) -> None:
        result.mask = result.contour = None
        result.mask_bytes = 0

    frame = blobs(1, (SIDE, SIDE))[0]
    with live() as stream:
        assert stream.push(frame, change=without).raw.area_px == expected_masks(frame[None]).sum()


def test_a_late_push_is_flagged(live: Open) -> None:
    frame = blobs(1, (SIDE, SIDE))[0]
    with live("wait 5", deadline_ms=4.0) as stream:
        result = stream.push(frame).raw
    with live(deadline_ms=1e6) as stream:
        assert not stream.push(frame).raw.flags & lib.LATE

    assert result.flags & lib.LATE
    parts = result.preprocess_ms + result.inference_ms + result.postprocess_ms
    assert 5 < result.inference_ms <= parts == pytest.approx(result.latency_ms, abs=0.5)


def beating(count: int, fps: float) -> Frames:
    """A disc that beats once a second."""
    rows, columns = np.ogrid[:SIDE, :SIDE]
    radii = 28 + 6 * np.cos(2 * np.pi * np.arange(count) / fps)
    distance = np.hypot((rows - 48) * 0.8, columns - 48)
    return np.stack([np.where(distance < r, 130, 0) for r in radii]).astype(np.uint8)


def pushed(stream: StreamHandle, frames: Frames, fps: float | None) -> list[Result]:
    return [
        stream.push(frame, None if fps is None else n / fps, (0.8, 1.0))
        for n, frame in enumerate(frames)
    ]


@pytest.mark.parametrize("timed", [True, False])
def test_a_beat_has_the_ejection_fraction_of_its_own_frames(live: Open, timed: bool) -> None:
    frames = beating(120, 25)
    with live() as stream:
        results = pushed(stream, frames, 25 if timed else None)

    new = [each for each in results if each.raw.flags & lib.NEW_BEAT]
    assert len(new) >= 3
    assert [each.raw.beat.number for each in new] == list(range(1, len(new) + 1))
    beat = new[1].raw.beat
    assert beat.frames == 25
    assert beat.flags == 1  # valid
    masks = [each.mask for each in results]
    areas = [int(mask.sum()) for mask in masks]
    starts = [at for at in range(len(masks) - 25) if at <= beat.ed_index < at + 25]
    assert any(
        found is not None and (at + found[0], at + found[1]) == (beat.ed_index, beat.es_index)
        for at in starts
        if (found := find_ed_es(areas[at : at + 25]))
    )
    edv, esv = (lv_volume(masks[at], (0.8, 1.0)) for at in (beat.ed_index, beat.es_index))
    assert beat.ed_volume == pytest.approx(edv, rel=1e-9)
    assert beat.es_volume == pytest.approx(esv, rel=1e-9)
    assert beat.ejection_fraction == pytest.approx(ejection_fraction(edv, esv), rel=1e-9)
    assert beat.method == b"single-plane discs, 20, principal axis"
    assert math.isnan(beat.ed_timestamp_s) is not timed


def test_beats_can_be_left_out(live: Open) -> None:
    with live(measure_beats=0) as stream:
        results = pushed(stream, beating(80, 25), 25)

    assert not any(each.raw.flags & lib.NEW_BEAT for each in results)
    assert all(each.raw.beat.number == 0 for each in results)
    assert all(math.isnan(each.raw.beat.ejection_fraction) for each in results)


Change = Callable[[lib.CFrame, lib.CResult], None]


def spoilt(name: str, value: Any, *, result: bool = False) -> Change:
    def change(frame: lib.CFrame, out: lib.CResult) -> None:
        setattr(out if result else frame, name, value)

    return change


@pytest.mark.parametrize(
    ("status", "change"),
    [
        ("NULL_ARGUMENT", spoilt("data", None)),
        ("FRAME_SIZE", spoilt("width", 0)),
        ("FRAME_SIZE", spoilt("height", 15)),
        ("FRAME_SIZE", spoilt("height", 0xFFFFFFFF)),
        ("FRAME_SIZE", spoilt("width", 4097)),
        ("FRAME_STRIDE", spoilt("stride", SIDE - 1)),
        ("FRAME_STRIDE", spoilt("stride", 0)),
        ("FRAME_STRIDE", spoilt("stride", (1 << 64) - SIDE)),
        ("FRAME_FORMAT", spoilt("format", 9)),
        ("FRAME_SPACING", spoilt("spacing_row_mm", -0.5)),
        ("FRAME_SPACING", spoilt("spacing_row_mm", math.nan)),
        ("FRAME_SPACING", spoilt("spacing_column_mm", 0.5)),
        ("TIMESTAMP", spoilt("timestamp_s", 1.0)),
        ("TIMESTAMP", spoilt("timestamp_s", 0.5)),
        ("TIMESTAMP", spoilt("timestamp_s", math.inf)),
        ("TIMESTAMP", spoilt("timestamp_s", math.nan)),
        ("OUTPUT_TOO_SMALL", spoilt("mask_bytes", SIDE * SIDE, result=True)),
        ("OUTPUT_TOO_SMALL", spoilt("mask_bytes", 0, result=True)),
        ("OUTPUT_TOO_SMALL", spoilt("mask_stride", SIDE - 1, result=True)),
        ("OUTPUT_TOO_SMALL", spoilt("mask_stride", 1 << 62, result=True)),
        ("STRUCT_SIZE", spoilt("struct_size", 0)),
        ("STRUCT_SIZE", spoilt("struct_size", 1 << 40)),
        ("STRUCT_SIZE", spoilt("struct_size", 16, result=True)),
    ],
)
def test_a_push_that_is_refused_leaves_everything_as_it_was(
    live: Open, status: str, change: Change
) -> None:
    frames = blobs(4, (SIDE, SIDE))
    kept: list[lib.CResult] = []

    def changed(frame: lib.CFrame, result: lib.CResult) -> None:
        change(frame, result)
        kept.append(result)

    with live() as stream, live() as undisturbed:
        for number in range(2):
            stream.push(frames[number], number / 2)
            undisturbed.push(frames[number], number / 2)
        timestamp_s = 1.0 if status != "TIMESTAMP" else 0.5
        with pytest.raises(Refused) as refused:
            stream.push(frames[2], timestamp_s, change=changed_time(status, changed))
        after = stream.push(frames[3], 0.9)
        same = undisturbed.push(frames[3], 0.9)

    assert refused.value.status == status
    assert re.search(r"\. [A-Z]", refused.value.message), "no word on what to do"
    assert kept[0].index == kept[0].area_px == 0
    assert after.raw.index == same.raw.index == 2
    assert after.raw.restart == 0
    np.testing.assert_array_equal(after.mask, same.mask)


def changed_time(status: str, change: Change) -> Change:
    """What spoils a timestamp is compared with the 0.5 s that came last: 1.0 s would be fine."""

    def changed(frame: lib.CFrame, result: lib.CResult) -> None:
        change(frame, result)
        if status == "TIMESTAMP" and frame.timestamp_s == 1.0:
            frame.timestamp_s = 0.25

    return changed


@pytest.mark.parametrize("command", ["fail-run 3", "nan-run 3"])
def test_after_a_failed_inference_the_stream_goes_on(live: Open, command: str) -> None:
    frames = blobs(16, (SIDE, SIDE))
    got = {}
    with live(command, component="none") as stream:
        for number, frame in enumerate(frames):
            with suppress_failures():
                got[number] = stream.push(frame).mask

    assert len(frames) - len(got) == 2  # each of the two requests, which take turns, fails once
    masks = expected_masks(frames[list(got)], "none")
    np.testing.assert_array_equal(np.stack(list(got.values())), masks)


@contextmanager
def suppress_failures() -> Iterator[None]:
    """Nothing but a failed inference passes."""
    try:
        yield
    except Refused as refused:
        if refused.status != "INFERENCE_FAILED":
            raise


@pytest.mark.parametrize(
    ("commands", "status"),
    [
        (("fail-load",), "BACKEND_FAILED"),
        (("interface",), "ENGINE_INTERFACE"),
        (("fail-bind",), "BACKEND_FAILED"),
    ],
)
def test_what_a_back_end_refuses_is_passed_on(
    live: Open, commands: tuple[str, ...], status: str
) -> None:
    with pytest.raises(Refused, match="it was told to") as refused:
        live(*commands)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("target", "status", "says"),
    [
        ("nobody", "BACKEND_MISSING", "libpkecho-backend-nobody.so"),
        ("old", "BACKEND_VERSION", "another version"),
        ("../fake", "BACKEND_MISSING", "cannot name a back-end"),
    ],
)
def test_a_missing_or_old_back_end_is_no_reason_to_take_another(
    pkecho: Library, tmp_path: Path, target: str, status: str, says: str
) -> None:
    write_fake_bundle(tmp_path / "other.pkb", target=target)
    opened = pkecho.open_bundle(tmp_path / "other.pkb")
    with opened, pytest.raises(Refused, match=re.escape(says)) as refused:
        opened.engine()
    assert refused.value.status == status


def test_back_ends_are_looked_for_where_the_caller_says(
    pkecho: Library, bundle: Path, tmp_path: Path
) -> None:
    with pkecho.open_bundle(bundle) as opened:
        with pytest.raises(Refused) as refused:
            opened.engine(backend_dir=tmp_path)
        shutil.copy(pkecho.backends / "libpkecho-backend-fake.so", tmp_path)
        with opened.engine(backend_dir=tmp_path) as engine:
            assert engine.info().backend.decode() == f"{tmp_path}/libpkecho-backend-fake.so"
            assert engine.info().runtime == b"fake 1.0"
            assert engine.info().float_precision == b"f32"

    assert refused.value.status == "BACKEND_MISSING"


def test_a_bundle_says_what_it_is(pkecho: Library, bundle: Path) -> None:
    with pkecho.open_bundle(bundle) as opened:
        info = opened.info()
        assert (info.target, info.profile) == (b"fake", b"generic-x86-64")
        assert (info.height, info.width, info.window) == (SIDE, SIDE, WINDOW)
        assert info.security_version == 3
        assert (info.is_signed, info.signed_by, info.trusted_comment) == (0, b"", b"")
        assert re.fullmatch(rb"pkb-[0-9a-f]{32}", info.bundle_id)
    assert any("unsigned" in line or "signature" in line for _, line in pkecho.lines)


def test_the_self_test_compares_with_the_golden_vectors(
    pkecho: Library, bundle: Path, tmp_path: Path
) -> None:
    with pkecho.open_bundle(bundle) as opened, opened.engine(self_test=1) as engine:
        report = engine.self_test()
        assert report.frames == WINDOW
        assert report.max_abs_logit_difference < 1e-4
        assert report.pixels_differ_fraction == report.area_difference_fraction == 0
        assert (report.pixels_limit, report.area_limit) == (0.002, 0.02)


def test_a_self_test_that_fails_reports_how_far_off_it_was(
    pkecho: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tests.firmware.fake_bundle as fake

    shifted = fake.fake_logits
    monkeypatch.setattr(fake, "fake_logits", lambda frames: shifted(frames) + np.float32(40))
    fake.write_fake_bundle(tmp_path / "off.pkb")
    fake.write_fake_bundle(tmp_path / "built.pkb", "built")

    with pkecho.open_bundle(tmp_path / "off.pkb") as opened, opened.engine() as engine:
        report = CReport(ctypes.sizeof(CReport))
        with pytest.raises(Refused) as refused:
            engine.self_test(report)
        assert report.max_abs_logit_difference == pytest.approx(40, abs=1e-3)
        assert report.pixels_differ_fraction > report.pixels_limit
        assert report.area_difference_fraction > report.area_limit
        with pytest.raises(Refused, match="Compile for this device"):
            opened.engine(self_test=1)
    assert refused.value.status == "SELF_TEST_FAILED"

    opened = pkecho.open_bundle(tmp_path / "built.pkb")
    with opened, pytest.raises(Refused) as refused:  # nobody asked: it was built on this device
        opened.engine()
    assert refused.value.status == "SELF_TEST_FAILED"


def test_logits_that_are_not_finite_fail_the_self_test_and_its_report_says_so(
    pkecho: Library, tmp_path: Path
) -> None:
    write_fake_bundle(tmp_path / "nan.pkb", "nan-run 0")
    with pkecho.open_bundle(tmp_path / "nan.pkb") as opened, opened.engine() as engine:
        report = CReport(ctypes.sizeof(CReport))
        with pytest.raises(Refused) as refused:
            engine.self_test(report)
    assert refused.value.status == "SELF_TEST_FAILED"
    assert report.max_abs_logit_difference == math.inf


def test_golden_vectors_of_another_threshold_prove_nothing(
    pkecho: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tests.firmware.fake_bundle as fake

    monkeypatch.setattr(fake, "THRESHOLD", 3.0)
    fake.write_fake_bundle(tmp_path / "other.pkb")
    opened = pkecho.open_bundle(tmp_path / "other.pkb")
    with opened, opened.engine() as engine, pytest.raises(Refused, match="threshold") as refused:
        engine.self_test()
    assert refused.value.status == "NO_GOLDEN"


def test_a_window_that_could_not_begin_begins_with_the_next_frame(live: Open) -> None:
    frames = blobs(5, (SIDE, SIDE))
    with live("fail-run 3", component="none") as stream:
        # the requests take turns, but for a window's first frame, which one of them looks at twice:
        # its runs 0 and 1 are of frame 0, the other's run 0 of frame 1, its 2 and 3 of frame 2
        for number in range(2):
            stream.push(frames[number], number)
        with pytest.raises(Refused, match="failed on a frame"):
            stream.push(frames[2], 2, (0.5, 0.5))
        result = stream.push(frames[4], 3)
    assert result.raw.restart == lib.SPACING
    assert result.raw.index == 2
    np.testing.assert_array_equal(result.mask, expected_masks(frames[4:], "none")[0])


def test_options_that_this_library_does_not_know_are_refused_unless_they_are_zero(
    pkecho: Library, bundle: Path
) -> None:
    class Newer(ctypes.Structure):
        _fields_ = [("known", lib.CBundleOptions), ("added", ctypes.c_uint64)]

    options, handle = Newer(), ctypes.c_void_p()
    size = ctypes.sizeof(Newer)
    pkecho.c.pkecho_bundle_options_init(ctypes.byref(options), ctypes.c_size_t(size))
    assert options.known.struct_size == size
    options.known.allow_unsigned = 1
    path, out = str(bundle).encode(), ctypes.byref(handle)
    pkecho.call("bundle_open", path, ctypes.byref(options), out)
    pkecho.c.pkecho_bundle_close(handle)
    options.added = 1
    with pytest.raises(Refused, match="Update the library") as refused:
        pkecho.call("bundle_open", path, ctypes.byref(options), out)
    assert refused.value.status == "STRUCT_SIZE"


def test_nothing_crashes_on_null(pkecho: Library, bundle: Path) -> None:
    c, out = pkecho.c, ctypes.byref(ctypes.c_void_p())
    null = 1
    assert c.pkecho_bundle_open(None, None, out, None) == null
    assert c.pkecho_bundle_open(str(bundle).encode(), None, None, None) == null
    assert c.pkecho_bundle_get_info(None, None) == null
    assert c.pkecho_engine_open(None, None, out, None) == null
    assert c.pkecho_engine_get_info(None, None) == null
    assert c.pkecho_engine_self_test(None, None, None) == null
    assert c.pkecho_stream_open(None, None, out, None) == null
    assert c.pkecho_stream_push(None, None, None, None) == null
    assert c.pkecho_stream_reset(None, None) == null
    for name in ("bundle", "engine", "stream"):
        getattr(c, f"pkecho_{name}_close")(None)
    for name in ("bundle_options", "engine_options", "stream_options", "frame", "result"):
        getattr(c, f"pkecho_{name}_init")(None, ctypes.c_size_t(64))
    assert c.pkecho_status_name(-7) == c.pkecho_status_name(12345) == b"PKECHO_?"


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("engine", "threads", 257),
        ("engine", "self_test", 2),
        ("stream", "max_gap_s", 0.0),
        ("stream", "max_gap_s", math.nan),
        ("stream", "deadline_ms", -1.0),
        ("stream", "measure_beats", -1),
    ],
)
def test_an_option_outside_its_range_is_refused(
    pkecho: Library, bundle: Path, kind: str, name: str, value: float
) -> None:
    opened = pkecho.open_bundle(bundle)
    with opened, opened.engine() as engine, pytest.raises(Refused, match=name) as refused:
        getattr(engine if kind == "stream" else opened, kind)(**{name: value})
    assert refused.value.status == "INVALID_ARGUMENT"


def test_a_caller_of_a_newer_header_keeps_what_it_added(live: Open) -> None:
    class Newer(ctypes.Structure):
        _fields_ = [("known", lib.CResult), ("added", ctypes.c_uint64)]

    frame = blobs(1, (SIDE, SIDE))[0]
    newer = Newer()
    with live() as stream:
        stream.library.c.pkecho_result_init(
            ctypes.byref(newer), ctypes.c_size_t(ctypes.sizeof(newer))
        )
        newer.added = 0x5A5A5A5A5A5A5A5A
        given = lib.CFrame()
        stream.library.c.pkecho_frame_init(
            ctypes.byref(given), ctypes.c_size_t(ctypes.sizeof(given))
        )
        given.data, given.width, given.height, given.stride = frame.ctypes.data, SIDE, SIDE, SIDE
        stream.library.call("stream_push", stream.handle, ctypes.byref(given), ctypes.byref(newer))

    assert newer.added == 0x5A5A5A5A5A5A5A5A
    assert newer.known.struct_size == ctypes.sizeof(Newer)
    assert newer.known.area_px == expected_masks(frame[None]).sum()


def test_the_header_names_exactly_what_is_exported(firmware_build: Path) -> None:
    header = (Path(__file__).parents[2] / "firmware/include/pkecho.h").read_text()
    declared = set(re.findall(r"^PKECHO_API [^;]*?\b(pkecho_\w+)\(", header, re.MULTILINE))
    library = firmware_build / "lib" / "libpkecho.so"
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True
    ).stdout
    exported = {line.split()[2].split("@")[0] for line in listed.splitlines() if " A " not in line}

    assert len(declared) == 18
    assert exported == declared
    dynamic = subprocess.run(
        ["readelf", "-d", library], capture_output=True, text=True, check=True
    ).stdout
    assert "Library soname: [libpkecho.so.1]" in dynamic


def test_the_library_is_small(firmware_build: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "libpkecho.so"
    subprocess.run(["strip", "-o", stripped, firmware_build / "lib" / "libpkecho.so"], check=True)
    assert stripped.stat().st_size < 1_000_000


def test_a_c99_program_can_use_every_function(firmware_build: Path) -> None:
    done = subprocess.run(
        [firmware_build / "pkecho-header"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1.0.0 8 PKECHO_NULL_ARGUMENT\n")


@pytest.mark.parametrize(
    "arguments",
    [("random", "600", "1"), ("threads", "60"), ("starve",), ("allocations", "200")],
    ids=lambda arguments: arguments[0],
)
def test_it_bears_hard_use(firmware_build: Path, bundle: Path, arguments: tuple[str, ...]) -> None:
    what, *rest = arguments
    done = subprocess.run(
        [firmware_build / "pkecho-exercise", what, bundle, firmware_build / "lib/pkecho", *rest],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    if what == "allocations":
        assert done.stdout == "0 allocations in 200 frames\n"
