"""The pixel data of a DICOM file, frame by frame, to grey.

Uncompressed frames are read where they lie. JPEG frames go through the decoder that reads videos,
which is told how many pixels a frame may have: a header of a few bytes can announce gigabytes.
Colour becomes luminance by ITU-R BT.601, which is what JPEG's first channel holds already.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from av.codec import CodecContext
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from pkecho_edge.errors import RecordingError

__all__ = ["PixelFormat", "jpeg_frames", "native_frames"]

_UNDEFINED = 0xFFFFFFFF
_JPEG_HEADERS = 1 << 16  # tables and comments of an image
_ITEM = b"\xfe\xff\x00\xe0"
_START, _END, _JFIF = b"\xff\xd8", b"\xff\xd9", b"JFIF\0"
_REPLACE = "Replace it with an intact copy"
_SAMPLES = {"MONOCHROME2": 1, "RGB": 3, "YBR_FULL": 3, "YBR_FULL_422": 3}


@dataclass(frozen=True)
class PixelFormat:
    """How a header says that pixels are stored, all with 8 bits.

    Attributes:
        frames, rows, columns: at least 1 each.
        photometric: "MONOCHROME2", "RGB", "YBR_FULL" or "YBR_FULL_422".
        samples: per pixel, 1 or 3.
        planar: whether the channels lie one after the other.
    """

    frames: int
    rows: int
    columns: int
    photometric: str
    samples: int
    planar: bool

    def checked(self, path: Path) -> PixelFormat:
        """Itself.

        Raises:
            RecordingError: a photometric interpretation or a number of samples that is not read.
        """
        if _SAMPLES.get(self.photometric) != self.samples:
            raise RecordingError(
                f"its pixels are {self.photometric[:32]} with {self.samples} samples, which is not "
                "read here",
                path=path,
                remedy="Export it as grey (MONOCHROME2) or RGB",
            )
        return self

    @property
    def frame_bytes(self) -> int:
        """Of an uncompressed frame."""
        per_pixel = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * per_pixel


def native_frames(
    file: BinaryIO, length: int, form: PixelFormat, path: Path
) -> Iterator[NDArray[np.uint8]]:
    """Uncompressed frames u8 [H, W], from where the file stands.

    Args:
        file: stands at the first byte of the first frame.
        length: of the pixel data in bytes, as its element says.
        form: what they hold.
        path: for messages.

    Raises:
        RecordingError: the element or the file is too short for its frames.
    """
    needed = form.frames * form.frame_bytes
    left = _bytes_left(file)
    if length == _UNDEFINED or needed > length or needed > left:
        whole = min(length, left) // form.frame_bytes
        raise RecordingError(
            f"it breaks off after {whole} frames of {form.frames}", path=path, remedy=_REPLACE
        )
    if form.photometric == "YBR_FULL_422" and form.columns % 2:
        raise RecordingError(
            f"it has {form.columns} columns, and its pixels come in pairs",
            path=path,
            remedy=_REPLACE,
        )
    for _ in range(form.frames):
        yield _native_grey(np.frombuffer(file.read(form.frame_bytes), dtype=np.uint8), form)


def _native_grey(data: NDArray[np.uint8], form: PixelFormat) -> NDArray[np.uint8]:
    """One frame's bytes to luminance u8 [H, W]."""
    sides = (form.rows, form.columns)
    if form.samples == 1:
        return data.reshape(sides)
    if form.photometric == "YBR_FULL_422":  # Y Y Cb Cr for two neighbours
        return data.reshape(form.rows, form.columns // 2, 4)[..., :2].reshape(sides)
    planes = data.reshape(3, *sides) if form.planar else np.moveaxis(data.reshape(*sides, 3), 2, 0)
    return planes[0] if form.photometric == "YBR_FULL" else _luminance(*planes)


def _luminance(
    red: NDArray[np.uint8], green: NDArray[np.uint8], blue: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """u8 [H, W] by BT.601, rounded."""
    weighted = red * np.uint32(299) + green * np.uint32(587) + blue * np.uint32(114)
    return np.asarray((weighted + 500) // 1000, dtype=np.uint8)


def jpeg_frames(
    file: BinaryIO, length: int, form: PixelFormat, path: Path
) -> Iterator[NDArray[np.uint8]]:
    """JPEG baseline frames u8 [H, W], from where the file stands.

    Args:
        file: stands at the item of the offset table, which is not believed: a frame begins with
            the fragment that begins as a JPEG image does.
        length: as the pixel data's element says, which must not know it.
        form: what they hold.
        path: for messages.

    Raises:
        RecordingError: damaged or truncated data, or a frame of another size.
    """
    if length != _UNDEFINED:
        raise RecordingError(
            "its pixels should be JPEG, but they are stored as if uncompressed",
            path=path,
            remedy=_REPLACE,
        )
    decoder = CodecContext.create("mjpeg", "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_type = "NONE"
    # its own limit holds before it reserves memory; it pads sides to blocks
    decoder.options = {"max_pixels": str((form.rows + 64) * (form.columns + 64))}
    for index, image in enumerate(_images(file, form, path)):
        try:
            if not image.startswith(_START) or not image.rstrip(b"\0").endswith(_END):
                raise ValueError("it is cut off")
            (frame,) = decoder.decode(Packet(image))
            if (frame.height, frame.width) != (form.rows, form.columns):
                raise ValueError(f"it is {frame.height}x{frame.width}")
        except (FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise RecordingError(
                f"its frame {index} of {form.frames} cannot be decoded as JPEG of "
                f"{form.rows}x{form.columns} ({reason})",
                path=path,
                remedy=_REPLACE,
            ) from error
        yield _jpeg_grey(frame, stored_as_rgb=form.photometric == "RGB" and _JFIF not in image[:64])


def _images(file: BinaryIO, form: PixelFormat, path: Path) -> Iterator[bytes]:
    """The JPEG images of encapsulated pixel data; the last may be cut off.

    Raises:
        RecordingError: one of them takes more room than the picture it should be, uncompressed.
    """
    most = 4 * form.rows * form.columns + _JPEG_HEADERS
    image = bytearray()
    for number, length in enumerate(_items(file)):
        if not number:  # the offset table
            file.seek(length, os.SEEK_CUR)
            continue
        # asked for before anything of it is read
        fragment = file.read(min(length, most + 1))
        if image and fragment.startswith(_START):
            yield bytes(image)
            image.clear()
        if len(image) + length > most:
            raise RecordingError(
                f"an image in it takes more than {most} bytes, for {form.rows}x{form.columns}",
                path=path,
                remedy=_REPLACE,
            )
        image += fragment
    if image:
        yield bytes(image)


def _items(file: BinaryIO) -> Iterator[int]:
    """Lengths of the items up to the delimiter, or as far as the file goes."""
    end = _bytes_left(file) + file.tell()
    while len(head := file.read(8)) == 8 and head[:4] == _ITEM:
        yield min(struct.unpack("<I", head[4:])[0], end - file.tell())


def _bytes_left(file: BinaryIO) -> int:
    here = file.tell()
    left = file.seek(0, os.SEEK_END) - here
    file.seek(here)
    return left


def _jpeg_grey(frame: VideoFrame, *, stored_as_rgb: bool) -> NDArray[np.uint8]:
    """Luminance u8 [H, W] of a decoded image.

    Args:
        frame: grey, Y Cb Cr, or green, blue, red.
        stored_as_rgb: full-size channels are red, green, blue whatever the decoder takes them for:
            only markers that DICOM does not ask for could have told it.
    """
    name = frame.format.name
    if name.startswith("gbr"):
        green, blue, red = (_plane(plane) for plane in frame.planes)
        return _luminance(red, green, blue)
    if stored_as_rgb and "444" in name:
        return _luminance(*(_plane(plane) for plane in frame.planes))
    return _plane(frame.planes[0])


def _plane(plane: VideoPlane) -> NDArray[np.uint8]:
    rows = np.frombuffer(memoryview(plane), dtype=np.uint8)
    return rows.reshape(plane.height, plane.line_size)[:, : plane.width]
