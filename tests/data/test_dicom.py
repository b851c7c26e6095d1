"""DICOM ultrasound files, as scanners write them and as nobody should."""

from __future__ import annotations

import struct
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pkecho_edge.data import dicom_header, video
from pkecho_edge.data.dicom import is_dicom, read_dicom
from pkecho_edge.errors import MissingDependency, RecordingError

pydicom = pytest.importorskip("pydicom")

Write = Callable[..., Path]
SIDES = (48, 64)


@pytest.fixture
def grey() -> NDArray[np.uint8]:
    """u8 [5, 48, 64], smooth, brighter with time."""
    ramp = np.linspace(0, 200, SIDES[0] * SIDES[1]).reshape(SIDES)
    return (ramp + 10 * np.arange(5)[:, None, None]).astype(np.uint8)


@pytest.fixture
def colour(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """u8 [5, 48, 64, 3]: red, green and blue that differ."""
    return np.stack([grey, grey[:, ::-1], grey[:, :, ::-1]], axis=3)


@pytest.fixture
def write(tmp_path: Path, dicom_files: ModuleType) -> Write:
    """Writes a file of the given pixels; see dicom_files.ultrasound."""

    def write(pictures: NDArray[np.uint8], name: str = "a.dcm", **options: Any) -> Path:
        path: Path = dicom_files.save(dicom_files.ultrasound(pictures, **options), tmp_path / name)
        return path

    return write


def luminance(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    weighted: NDArray[np.float64] = rgb @ np.array([0.299, 0.587, 0.114])
    return weighted


# Pixels


@pytest.mark.parametrize("syntax", ["EXPLICIT", "IMPLICIT"])
def test_uncompressed_grey_is_read_as_it_is(
    write: Write, grey: NDArray[np.uint8], syntax: str, dicom_files: ModuleType
) -> None:
    timed = read_dicom(write(grey, syntax=getattr(dicom_files, syntax)))

    np.testing.assert_array_equal(timed.recording.frames, grey)
    assert timed.recording.frame_rate_hz == pytest.approx(50)
    assert timed.times_s == pytest.approx(np.arange(5) * 0.02)
    assert (timed.recording.spacing_mm, timed.notes) == (None, ())


def test_a_single_frame_needs_no_number_of_frames(write: Write, grey: NDArray[np.uint8]) -> None:
    timed = read_dicom(write(grey[:1], NumberOfFrames=None, FrameTime=None))

    np.testing.assert_array_equal(timed.recording.frames, grey[:1])
    assert timed.times_s is None


@pytest.mark.parametrize("planar", [0, 1])
def test_uncompressed_rgb_becomes_luminance(
    write: Write, colour: NDArray[np.uint8], planar: int
) -> None:
    stored = np.moveaxis(colour, 3, 1) if planar else colour
    path = write(stored, photometric="RGB", PlanarConfiguration=planar, Rows=48, Columns=64)

    frames = read_dicom(path).recording.frames

    assert np.abs(frames - luminance(colour)).max() <= 0.5001


@pytest.mark.parametrize("planar", [0, 1])
def test_of_uncompressed_ybr_the_first_channel_counts(
    write: Write, colour: NDArray[np.uint8], planar: int
) -> None:
    stored = np.moveaxis(colour, 3, 1) if planar else colour
    path = write(stored, photometric="YBR_FULL", PlanarConfiguration=planar, Rows=48, Columns=64)

    np.testing.assert_array_equal(read_dicom(path).recording.frames, colour[..., 0])


def test_uncompressed_ybr_422_has_two_pixels_in_four_bytes(
    write: Write, grey: NDArray[np.uint8]
) -> None:
    pairs = np.full((5, 48, 32, 4), 77, dtype=np.uint8)
    pairs[..., :2] = grey.reshape(5, 48, 32, 2)

    path = write(pairs, photometric="YBR_FULL_422", Rows=48, Columns=64)

    np.testing.assert_array_equal(read_dicom(path).recording.frames, grey)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_in_colour_becomes_luminance(
    write: Write, colour: NDArray[np.uint8], subsampling: int, dicom_files: ModuleType
) -> None:
    path = write(
        colour,
        photometric="YBR_FULL_422",
        syntax=dicom_files.JPEG,
        jpeg={"subsampling": subsampling},
    )

    frames = read_dicom(path).recording.frames

    assert frames.shape == (5, *SIDES)
    assert np.abs(frames - luminance(colour)).max() <= 6


def test_jpeg_in_grey(write: Write, grey: NDArray[np.uint8], dicom_files: ModuleType) -> None:
    frames = read_dicom(write(grey, syntax=dicom_files.JPEG)).recording.frames

    assert np.abs(frames.astype(int) - grey).max() <= 6


@pytest.mark.parametrize("told", [True, False])
def test_jpeg_of_rgb(
    tmp_path: Path, colour: NDArray[np.uint8], told: bool, dicom_files: ModuleType
) -> None:
    """Three channels at full size that are red, green and blue: by their names, or untold."""
    dataset = dicom_files.ultrasound(
        colour,
        photometric="RGB",
        syntax=dicom_files.JPEG,
        jpeg={"subsampling": 0, "keep_rgb": True},
    )
    if not told:
        images = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=5)
        dataset.PixelData = pydicom.encaps.encapsulate([unnamed(image) for image in images])

    frames = read_dicom(dicom_files.save(dataset, tmp_path / "a.dcm")).recording.frames

    assert np.abs(frames - luminance(colour)).max() <= 6


def unnamed(image: bytes) -> bytes:
    """A JPEG image whose components are 1, 2 and 3, not R, G and B, and without Adobe's marker."""
    data = bytearray(image)
    adobe = data.find(b"\xff\xee")
    if adobe >= 0:
        del data[adobe : adobe + 2 + int.from_bytes(data[adobe + 2 : adobe + 4], "big")]
    frame, scan = data.index(b"\xff\xc0") + 10, data.index(b"\xff\xda") + 5
    assert bytes(data[frame : frame + 9 : 3]) == bytes(data[scan : scan + 6 : 2]) == b"RGB"
    data[frame : frame + 9 : 3] = data[scan : scan + 6 : 2] = b"\1\2\3"
    return bytes(data)


def test_jpeg_that_says_itself_that_it_is_not_rgb(
    write: Write, colour: NDArray[np.uint8], dicom_files: ModuleType
) -> None:
    """Some scanners write RGB into the header and an ordinary JPEG file into the pixels."""
    path = write(colour, photometric="RGB", syntax=dicom_files.JPEG, jpeg={"subsampling": 0})
    assert b"JFIF" in path.read_bytes()

    frames = read_dicom(path).recording.frames

    assert np.abs(frames - luminance(colour)).max() <= 6


def test_a_frame_in_several_fragments_without_an_offset_table(
    write: Write, grey: NDArray[np.uint8], dicom_files: ModuleType, tmp_path: Path
) -> None:
    dataset = dicom_files.ultrasound(grey, syntax=dicom_files.JPEG)
    images = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=5))
    dataset.PixelData = pydicom.encaps.encapsulate(images, fragments_per_frame=3, has_bot=False)

    frames = read_dicom(dicom_files.save(dataset, tmp_path / "a.dcm")).recording.frames

    assert np.abs(frames.astype(int) - grey).max() <= 6


# Time


def test_a_vector_of_frame_times_counts_more_than_equal_steps(
    write: Write, grey: NDArray[np.uint8]
) -> None:
    timed = read_dicom(write(grey, FrameTimeVector=["0", "20", "30", "20", "70"]))

    assert timed.times_s == pytest.approx([0, 0.02, 0.05, 0.07, 0.14])
    assert timed.recording.frame_rate_hz == pytest.approx(4 / 0.14)
    assert not timed.is_even


@pytest.mark.parametrize(
    "vector",
    [
        pytest.param(["0", "20"], id="too short"),
        pytest.param(["0", "20", "-20", "20", "20"], id="backwards"),
        pytest.param(["0", "20", "nan", "20", "20"], id="no number"),
    ],
)
def test_a_vector_that_cannot_be_right_is_not_used(
    write: Write, grey: NDArray[np.uint8], vector: list[str]
) -> None:
    with pydicom.config.disable_value_validation():
        path = write(grey, FrameTimeVector=vector)

    assert read_dicom(path).times_s == pytest.approx(np.arange(5) * 0.02)


@pytest.mark.parametrize(
    ("values", "rate"),
    [
        ({"CineRate": 25}, 25),
        ({"RecommendedDisplayFrameRate": 30}, 30),
        ({"CineRate": 0}, None),
        ({}, None),
    ],
)
def test_the_frame_rate_without_a_frame_time(
    write: Write, grey: NDArray[np.uint8], values: dict[str, int], rate: float | None
) -> None:
    timed = read_dicom(write(grey, **values, FrameTime="0"))

    assert timed.recording.frame_rate_hz == rate
    assert (timed.times_s is None) == (rate is None)


# Regions


def test_the_tissue_region_alone_is_read_with_its_spacing(
    write: Write, grey: NDArray[np.uint8], dicom_files: ModuleType
) -> None:
    tissue = dicom_files.region(10, 4, 49, 43, PhysicalDeltaX=0.03, PhysicalDeltaY=0.04)

    recording = read_dicom(write(grey, regions=[tissue])).recording

    np.testing.assert_array_equal(recording.frames, grey[:, 4:44, 10:50])
    assert recording.spacing_mm == pytest.approx((0.4, 0.3))


def test_of_jpeg_too(write: Write, grey: NDArray[np.uint8], dicom_files: ModuleType) -> None:
    path = write(grey, syntax=dicom_files.JPEG, regions=[dicom_files.region(10, 4, 49, 43)])

    frames = read_dicom(path).recording.frames

    assert np.abs(frames.astype(int) - grey[:, 4:44, 10:50]).max() <= 6


def test_without_regions_the_whole_picture_is_read(
    write: Write, grey: NDArray[np.uint8], dicom_files: ModuleType
) -> None:
    path = write(grey, regions=[dicom_files.region(10, 4, 499, 43)])

    recording = read_dicom(path, regions=False).recording

    assert (recording.frames.shape[1:], recording.spacing_mm) == (SIDES, None)


def test_other_kinds_of_regions_are_passed_over_and_the_largest_is_taken(
    write: Write, grey: NDArray[np.uint8], dicom_files: ModuleType
) -> None:
    doppler = dicom_files.region(0, 0, 63, 47, RegionSpatialFormat=3, RegionDataType=3)
    flow = dicom_files.region(0, 0, 63, 47, RegionDataType=2)
    small, large = dicom_files.region(0, 0, 19, 19), dicom_files.region(24, 0, 63, 47)

    timed = read_dicom(write(grey, regions=[doppler, flow, small, large]))

    assert timed.recording.frames.shape == (5, 48, 40)
    assert timed.notes == (
        "2 regions show 2D tissue; the largest one is segmented",
        "the picture shows colour flow, which the network was not trained on",
    )


def test_a_corner_one_past_the_last_pixel_is_the_last(
    write: Write, grey: NDArray[np.uint8], dicom_files: ModuleType
) -> None:
    timed = read_dicom(write(grey, regions=[dicom_files.region(0, 0, 64, 48)]))

    assert timed.recording.frames.shape == (5, *SIDES)


@pytest.mark.parametrize(
    ("corners", "values", "says"),
    [
        pytest.param((0, 0, 65, 47), {}, "does not lie in its picture", id="too wide"),
        pytest.param((0, 0, 63, 4000), {}, "does not lie in its picture", id="too high"),
        pytest.param((40, 0, 20, 47), {}, "does not lie in its picture", id="turned round"),
        pytest.param((0, 0, 9, 47), {}, "10 columns and 48 rows only", id="too small"),
        pytest.param(
            (0, 0, 63, 47), {"RegionSpatialFormat": 2}, "none of its regions", id="M-mode"
        ),
    ],
)
def test_a_region_that_contradicts_the_picture_is_refused(
    write: Write,
    grey: NDArray[np.uint8],
    corners: tuple[int, int, int, int],
    values: dict[str, float],
    says: str,
    dicom_files: ModuleType,
) -> None:
    path = write(grey, regions=[dicom_files.region(*corners, **values)])

    with pytest.raises(RecordingError, match=says) as caught:
        read_dicom(path)

    assert "--no-regions" in caught.value.remedy


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"PhysicalDeltaX": 0.0}, "measure 0.05 by 0 cm"),
        ({"PhysicalDeltaY": -0.05}, "measure -0.05 by 0.05 cm"),
        ({"PhysicalDeltaY": float("nan")}, "measure 0 by 0.05 cm"),
        ({"PhysicalUnitsXDirection": 4}, "units are not centimetres"),
        ({"PhysicalUnitsYDirection": 0}, "units are not centimetres"),
        ({"PhysicalDeltaX": 5.0}, "would be 320 cm wide"),
        ({"PhysicalDeltaY": 0.0005}, "would be 0.024 cm high"),
    ],
)
def test_a_scale_that_cannot_be_right_is_left_out_and_said(
    write: Write,
    grey: NDArray[np.uint8],
    values: dict[str, float],
    says: str,
    dicom_files: ModuleType,
) -> None:
    timed = read_dicom(write(grey, regions=[dicom_files.region(0, 0, 63, 47, **values)]))

    assert timed.recording.spacing_mm is None
    assert says in timed.scale_problem
    assert timed.notes == ()


def test_an_image_larger_than_any_picture_is_not_read(
    write: Write, grey: NDArray[np.uint8], tmp_path: Path, dicom_files: ModuleType
) -> None:
    path = write(grey, syntax=dicom_files.JPEG)
    data = path.read_bytes()
    item = data.index(b"\xff\xd8\xff") - 8  # the first image's item
    huge = tmp_path / "huge.dcm"
    with huge.open("wb") as file:
        file.write(data[:item] + b"\xfe\xff\x00\xe0" + (600 << 20).to_bytes(4, "little"))
        file.write(b"\xff\xd8\xff")
        file.truncate(item + 8 + (600 << 20))  # sparse: it takes no room

    tracemalloc.start()
    try:
        with pytest.raises(RecordingError, match="an image in it takes more than"):
            read_dicom(huge)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "steps_ms", [[0, 30, 30, 3e7, 30], [0, 1e-6, 1e-6, 1e-6, 1e-6], [0, 3e6, 3e6, 3e6, 8.6e7]]
)
def test_times_of_no_scan_are_refused(
    write: Write, grey: NDArray[np.uint8], steps_ms: list[float]
) -> None:
    path = write(grey, FrameTimeVector=steps_ms)

    with pytest.raises(RecordingError, match="steps that no scanner takes"):
        read_dicom(path)


# What is refused


@pytest.mark.parametrize(
    ("values", "says"),
    [
        pytest.param({"Modality": "CT"}, "no ultrasound image (modality CT)", id="CT"),
        pytest.param(
            {"Modality": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"},
            "modality not given",
            id="no modality",
        ),
        pytest.param({"Modality": "IVUS"}, "modality IVUS", id="within a vessel"),
        pytest.param({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.2"}, "3D volume", id="a 3D volume"),
        pytest.param({"PixelData": None}, "no pixel data", id="no pixel data"),
        pytest.param({"Rows": None}, "does not say how many pixels", id="no rows"),
        pytest.param({"NumberOfFrames": 0}, "does not say how many pixels", id="no frames"),
        pytest.param({"NumberOfFrames": 6}, "breaks off after 5 frames of 6", id="frames missing"),
        pytest.param({"BitsStored": 12, "BitsAllocated": 16}, "12 of 16 bits", id="12 bits"),
        pytest.param(
            {"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR", id="a palette"
        ),
        pytest.param({"SamplesPerPixel": 3}, "MONOCHROME2 with 3 samples", id="grey in colour"),
    ],
)
def test_a_file_that_does_not_hold_what_is_needed(
    write: Write, grey: NDArray[np.uint8], values: dict[str, object], says: str
) -> None:
    path = write(grey, **values)

    with pytest.raises(RecordingError) as caught:
        read_dicom(path)

    assert says in caught.value.what
    assert caught.value.path == path
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("uid", "says", "remedy"),
    [
        ("1.2.840.10008.1.2.5", "RLE", "gdcmconv --raw"),
        ("1.2.840.10008.1.2.4.70", "JPEG Lossless", "gdcmconv --raw"),
        ("1.2.840.10008.1.2.4.91", "JPEG 2000", "gdcmconv --raw"),
        ("1.2.840.10008.1.2.4.102", "MPEG-4", "Export it uncompressed"),
        ("1.2.840.10008.1.2.2", "Big Endian", "Export it uncompressed"),
    ],
)
def test_a_transfer_syntax_that_is_not_read_is_named(
    write: Write, grey: NDArray[np.uint8], uid: str, says: str, remedy: str
) -> None:
    path = write(grey)
    data = path.read_bytes()
    old = b"1.2.840.10008.1.2.1\0"
    assert data.count(old) == 1
    new = (uid + "\0" * (len(uid) % 2)).encode()
    at = data.index(old)
    head = bytearray(data[:at] + new + data[at + len(old) :])
    head[at - 2 : at] = struct.pack("<H", len(new))
    length = struct.unpack("<I", data[140:144])[0] + len(new) - len(old)
    head[140:144] = struct.pack("<I", length)
    path.write_bytes(bytes(head))

    with pytest.raises(RecordingError) as caught:
        read_dicom(path)

    assert says in caught.value.what
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("syntax", ["EXPLICIT", "JPEG"])
def test_wherever_a_file_breaks_off_it_is_refused(
    write: Write, grey: NDArray[np.uint8], syntax: str, dicom_files: ModuleType
) -> None:
    path = write(
        grey, syntax=getattr(dicom_files, syntax), regions=[dicom_files.region(0, 0, 63, 47)]
    )
    whole = path.read_bytes()
    ends = {*range(0, 1600, 37), *range(1600, len(whole) - 20, len(whole) // 40)}

    for end in sorted(ends):
        path.write_bytes(whole[:end])
        with pytest.raises(RecordingError):
            read_dicom(path)


def test_random_damage_is_refused_or_read_but_never_an_accident(
    write: Write, grey: NDArray[np.uint8], dicom_files: ModuleType
) -> None:
    path = write(grey, syntax=dicom_files.JPEG, regions=[dicom_files.region(0, 0, 63, 47)])
    whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    rng = np.random.default_rng(0)
    refused = 0

    for _ in range(150):
        damaged = whole.copy()
        places = rng.integers(128, len(whole), 6)
        damaged[places] = rng.integers(0, 256, 6)
        path.write_bytes(damaged.tobytes())
        try:
            read_dicom(path)
        except RecordingError:
            refused += 1

    assert refused > 10


# Hostile files


def test_a_deflated_data_set_is_not_inflated(write: Write, grey: NDArray[np.uint8]) -> None:
    path = write(grey)
    data = path.read_bytes()
    meta_end = 144 + struct.unpack("<I", data[140:144])[0]
    deflated = b"1.2.840.10008.1.2.1.99"
    old = b"1.2.840.10008.1.2.1\0"
    at = data.index(old)
    meta = bytearray(data[:at] + deflated + data[at + len(old) : meta_end])
    meta[at - 2 : at] = struct.pack("<H", len(deflated))
    meta[140:144] = struct.pack("<I", len(meta) - 144)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    path.write_bytes(bytes(meta) + packer.compress(bytes(1 << 20)) + packer.flush())

    with pytest.raises(RecordingError, match="data set is deflated"):
        read_dicom(path)


def test_pixels_are_bounded_before_memory_is_taken(
    write: Write, grey: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecordingError, match="frames, more than"):
        read_dicom(write(grey, NumberOfFrames=2_000_000_000))
    with pytest.raises(RecordingError, match="pixels per frame, more than"):
        read_dicom(write(grey, Rows=65535, Columns=65535))
    monkeypatch.setattr(video, "MAX_VIDEO_BYTES", 5 * 48 * 64 - 1)
    with pytest.raises(RecordingError, match="bytes when decoded"):
        read_dicom(write(grey))


def test_a_jpeg_of_more_pixels_than_announced_is_not_decoded(
    write: Write, dicom_files: ModuleType
) -> None:
    large = np.zeros((1, 2048, 2048), dtype=np.uint8)
    path = write(large, syntax=dicom_files.JPEG, Rows=48, Columns=64)

    with pytest.raises(RecordingError, match="frame 0 of 1 cannot be decoded") as caught:
        read_dicom(path)

    assert "2048" not in caught.value.what  # or it would have been decoded to be measured


def test_a_jpeg_of_a_little_more_pixels_is_not_taken_either(
    write: Write, grey: NDArray[np.uint8], dicom_files: ModuleType
) -> None:
    path = write(grey, syntax=dicom_files.JPEG, Rows=47)

    with pytest.raises(RecordingError, match=r"of 47x64 \(it is 48x64\)"):
        read_dicom(path)


def test_a_header_of_endless_items_is_bounded(
    write: Write, grey: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(grey)
    data = path.read_bytes()
    # a private sequence of undefined length, full of empty items, ahead of everything else
    bomb = b"\x07\x00\x10\x10SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * 1000
    bomb += b"\xfe\xff\xdd\xe0\0\0\0\0"
    meta_end = 144 + struct.unpack("<I", data[140:144])[0]
    path.write_bytes(data[:meta_end] + bomb + data[meta_end:])
    assert len(read_dicom(path).recording.frames) == 5  # a thousand are no bomb yet

    monkeypatch.setattr(dicom_header, "_MAX_READS", 500)
    with pytest.raises(RecordingError, match="header is too large"):
        read_dicom(path)


def test_a_calibration_of_a_megabyte_is_not_parsed(
    write: Write, grey: NDArray[np.uint8], dicom_files: ModuleType
) -> None:
    tissue = dicom_files.region(0, 0, 63, 47)

    with pytest.raises(RecordingError, match="SequenceOfUltrasoundRegions has"):
        read_dicom(write(grey, regions=[tissue] * 4000))


def test_without_pydicom_the_line_that_installs_it(
    write: Write, grey: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(grey)
    monkeypatch.setitem(sys.modules, "pydicom", None)

    with pytest.raises(MissingDependency) as caught:
        read_dicom(path)

    assert caught.value.remedy == "Run: pip install 'pkecho-edge[data]'"
    assert caught.value.exit_code == 5


def test_dicom_is_told_by_its_content(
    write: Write, grey: NDArray[np.uint8], tmp_path: Path
) -> None:
    assert is_dicom(write(grey, name="IM_0001"))
    assert is_dicom(tmp_path / "absent.DCM")
    (tmp_path / "a.avi").write_bytes(b"RIFF" * 100)
    assert not is_dicom(tmp_path / "a.avi")
