"""Packs: the frames travel with the set, and nothing but its own frames is taken."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.calibration.pack import pack_path, packed_clips, write_pack
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import CalibrationError

SIZE = (4, 6)
LENGTH = 3


def clip(number: int) -> Clip:
    """Random frames, 3 of 4x6 pixels."""
    frames = np.random.default_rng(number).integers(0, 256, (LENGTH, 1, *SIZE), dtype=np.uint8)
    name = f"recording-{number}"
    return Clip(f"{name}@0-2:4x6", name, f"patient-{number}", "test", frames, (0, 1, 2))


@pytest.fixture
def packed(tmp_path: Path) -> CalibrationSet:
    """A set of three clips, read from its file, with its pack beside it."""
    return made(tmp_path)


def made(folder: Path) -> CalibrationSet:
    clips = [clip(number) for number in range(3)]
    CalibrationSet.of(clips, "random", 0).save(folder / "set.json")
    write_pack(clips, folder / "set.json")
    return CalibrationSet.load(folder / "set.json")


def pack_of(chosen: CalibrationSet) -> Path:
    assert chosen.path is not None
    return pack_path(chosen.path)


def test_the_frames_come_back_in_the_sets_order(packed: CalibrationSet) -> None:
    clips = packed_clips(packed, SIZE, LENGTH)

    assert clips is not None
    assert [c.identifier for c in clips] == [e.identifier for e in packed.entries]
    assert [c.patient for c in clips] == ["patient-0", "patient-1", "patient-2"]
    for number, found in enumerate(clips):
        np.testing.assert_array_equal(found.frames, clip(number).frames)
    assert CalibrationSet.of(clips, "random", 0).sha256 == packed.sha256


def test_numpy_reads_a_pack(packed: CalibrationSet) -> None:
    frames = np.load(pack_of(packed), allow_pickle=False)

    np.testing.assert_array_equal(frames, [clip(number).frames for number in range(3)])


def test_the_same_clips_give_the_same_bytes(tmp_path: Path) -> None:
    made_twice = [pack_of(made(folder)) for folder in (tmp_path / "a", tmp_path / "b")]

    assert made_twice[0].read_bytes() == made_twice[1].read_bytes()


def test_a_set_without_a_pack_has_none(packed: CalibrationSet) -> None:
    pack_of(packed).unlink()

    assert packed_clips(packed, SIZE, LENGTH) is None


def test_a_set_of_no_file_has_none() -> None:
    assert packed_clips(CalibrationSet.of([clip(0)], "random", 0), SIZE, LENGTH) is None


def test_clips_of_another_size_are_refused(packed: CalibrationSet) -> None:
    with pytest.raises(CalibrationError, match="of clips at 4x6, not 6x4"):
        packed_clips(packed, (6, 4), LENGTH)


def test_clips_of_another_length_are_refused(packed: CalibrationSet) -> None:
    with pytest.raises(CalibrationError, match="holds clips of 3 frames, the network takes 10"):
        packed_clips(packed, SIZE, 10)


def test_another_sets_frames_are_refused(packed: CalibrationSet) -> None:
    assert packed.path is not None
    write_pack([clip(0), clip(9), clip(2)], packed.path)

    with pytest.raises(CalibrationError, match="other frames than clip 'recording-1@0-2:4x6'"):
        packed_clips(packed, SIZE, LENGTH)


def test_frames_in_another_order_are_refused(packed: CalibrationSet) -> None:
    assert packed.path is not None
    write_pack([clip(1), clip(0), clip(2)], packed.path)

    with pytest.raises(CalibrationError, match="other frames than clip 'recording-0"):
        packed_clips(packed, SIZE, LENGTH)


def array(values: object, **options: bool) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, **options)
    return buffer.getvalue()


def archive(_: bytes) -> bytes:
    """A zip archive that unpacks to a gigabyte."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("frames.npy", bytes(64 << 20))
    return buffer.getvalue()


def with_header(shape: str) -> Callable[[bytes], bytes]:
    """The pack with a header that claims another shape."""

    def spoil(good: bytes) -> bytes:
        text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
        return good[:10] + text.ljust(117)[:117] + b"\n" + good[128:]

    return spoil


FRAMES = np.stack([clip(number).frames for number in range(3)])
HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda good: b"",
    "cut short": lambda good: good[:-1],
    "cut in its header": lambda good: good[:50],
    "one byte more": lambda good: good + b"\0",
    "one frame more": lambda good: good + bytes(3 * 4 * 6),
    "zip archive": archive,
    "pickle": lambda good: array(np.array([{}], dtype=object), allow_pickle=True),
    "floats": lambda good: array(FRAMES.astype(np.float32)),
    "clip short": lambda good: array(FRAMES[:2]),
    "column first": lambda good: array(np.asfortranarray(FRAMES)),
    "other axes": lambda good: array(FRAMES.reshape(3, 3, 1, 6, 4)),
    "negative shape": with_header("(-3, 3, 1, 4, 6)"),
    "shape beyond 64 bits": with_header("(3, 3, 1, 4, 99999999999999999999)"),
    "shape that overflows": with_header("(3, 9223372036854775807, 1, 4, 6)"),
    "shape of a bool": with_header("(True, 3, 1, 4, 6)"),
    "open bracket": with_header("(3, 3, 1, 4, 6"),
}


@pytest.mark.parametrize("spoil", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_pack_is_refused(packed: CalibrationSet, spoil: Callable[[bytes], bytes]) -> None:
    path = pack_of(packed)
    path.write_bytes(spoil(path.read_bytes()))

    with pytest.raises(CalibrationError) as caught:
        packed_clips(packed, SIZE, LENGTH)

    assert caught.value.path == path
    assert "delete the pack" in caught.value.remedy


def test_a_folder_a_pipe_and_a_dead_link_are_refused(packed: CalibrationSet) -> None:
    path = pack_of(packed)
    for make in (Path.mkdir, os.mkfifo, lambda p: p.symlink_to("nowhere")):
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        make(path)
        with pytest.raises(CalibrationError, match=r"not a regular file|cannot be read"):
            packed_clips(packed, SIZE, LENGTH)


def test_a_pack_too_large_is_not_even_read(packed: CalibrationSet) -> None:
    with pack_of(packed).open("r+b") as file:
        file.truncate((4 << 30) + 1)  # takes no room: nothing is written

    with pytest.raises(CalibrationError, match="more than"):
        packed_clips(packed, SIZE, LENGTH)


@settings(max_examples=150)
@given(position=st.integers(0, 343), bit=st.integers(0, 7))
@example(position=343, bit=0)
@example(position=8, bit=0)
def test_a_flipped_bit_anywhere_is_refused(
    position: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flipped-pack"
    chosen = made(folder)
    content = bytearray(pack_of(chosen).read_bytes())
    assert len(content) == 344
    content[position] ^= 1 << bit
    pack_of(chosen).write_bytes(content)

    with pytest.raises(CalibrationError):
        packed_clips(chosen, SIZE, LENGTH)
