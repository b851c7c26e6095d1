"""A folder of images as a recording: PNG or JPEG files in natural order, one per frame.

The files are hostile: only those directly in the folder are read, no link leads out of it, and an
image is measured before it is decoded.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.dataset import is_inside
from pkecho_edge.data.video import check_decoded_size
from pkecho_edge.errors import MissingDependency, RecordingError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["IMAGE_SUFFIXES", "image_names", "read_images"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's modes with 8 bits per channel, or fewer."""


def read_images(place: Path) -> NDArray[np.uint8]:
    """Decode a folder of images, or one image, to grey.

    Args:
        place: a folder, whose files are taken in natural order: frame2.png before frame10.png. A
            file stands for itself.

    Returns:
        frames u8 [N, H, W], N >= 1: luminance; transparency is not looked at.

    Raises:
        RecordingError: no image there, one that cannot be read, of 16 bits, or of another size than
            the first, or more than a recording may hold.
        MissingDependency: Pillow is not installed.
    """
    files = _files(place)
    first = _decode(files[0], len(files))
    frames = np.empty((len(files), *first.shape), dtype=np.uint8)
    frames[0] = first
    for index, path in enumerate(files[1:], start=1):
        picture = _decode(path, len(files))
        if picture.shape != first.shape:
            raise RecordingError(
                f"it is {picture.shape[0]}x{picture.shape[1]}, and {files[0].name} is "
                f"{first.shape[0]}x{first.shape[1]}",
                path=path,
                remedy="Put images of one size into the folder",
            )
        frames[index] = picture
    return frames


def image_names(place: Path) -> list[str]:
    """The names of the files whose pictures `read_images` gives, in its order.

    Raises:
        RecordingError: no image there.
    """
    return [path.name for path in _files(place)]


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    try:
        names = sorted((path.name for path in place.iterdir()), key=_natural)
    except OSError as error:
        raise RecordingError(
            f"cannot be read ({error.strerror})", path=place, remedy="Check the path"
        ) from error
    images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES) and name[0] != "."]
    files = [place / name for name in images]
    usable = [path for path in files if path.is_file() and is_inside(path, place)]
    if not usable:
        raise RecordingError(
            "there is no image in it",
            path=place,
            remedy="Name a folder with PNG or JPEG files directly inside, or one recording",
        )
    return usable


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sorts numbers in a name by their value."""
    parts = re.split(r"(\d+)", name.lower())
    # a number of many digits, or of another script, is compared by length and text: no int()
    keys = [
        (len(part.lstrip("0")), part.lstrip("0")) if index % 2 else (0, part)
        for index, part in enumerate(parts)
    ]
    return keys, name


def _decode(path: Path, count: int) -> NDArray[np.uint8]:
    """Luminance u8 [H, W] of one of `count` images."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency(
            "Pillow is not installed", path=path, remedy="Run: pip install 'pkecho-edge[data]'"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images; ours are bounded here
        try:
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                check_decoded_size(image.width, image.height, count, path)
                return _grey(image, path)
        except RecordingError:
            raise
        except Exception as error:  # Pillow's readers raise whatever a damaged file trips over
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            reason = "no PNG or JPEG image" if "cannot identify" in reason else reason
            raise RecordingError(
                f"cannot be read as an image ({reason})",
                path=path,
                remedy="Replace it with an intact copy, or take it out of the folder",
            ) from error


def _grey(image: Image, path: Path) -> NDArray[np.uint8]:
    if image.mode not in _EIGHT_BITS:
        raise RecordingError(
            f"its pixels do not have 8 bits (mode {image.mode})",
            path=path,
            remedy="Save it with 8 bits per channel",
        )
    whole = image if image.mode in ("1", "L", "LA") else image.convert("RGB")
    return np.asarray(whole.convert("L"), dtype=np.uint8)
