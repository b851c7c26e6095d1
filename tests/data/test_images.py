"""Folders of images as recordings."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pkecho_edge.data import video
from pkecho_edge.data.images import read_images
from pkecho_edge.errors import MissingDependency, RecordingError

Image = pytest.importorskip("PIL.Image")


def picture(level: int, sides: tuple[int, int] = (32, 48)) -> NDArray[np.uint8]:
    """u8 [H, W], a ramp that begins at a level."""
    return (level + np.arange(sides[0] * sides[1]) % 50).astype(np.uint8).reshape(sides)


def save(path: Path, pixels: NDArray[np.generic], **options: object) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def test_the_order_is_that_of_the_numbers(tmp_path: Path) -> None:
    levels = {"f1.png": 10, "f2.PNG": 20, "f10.png": 30, "f9a.png": 25, "f010.png": 31}
    for name, level in levels.items():
        save(tmp_path / name, picture(level))

    frames = read_images(tmp_path)

    assert [int(frame.min()) for frame in frames] == [10, 20, 25, 31, 30]
    np.testing.assert_array_equal(frames[1], picture(20))


def test_what_is_no_image_is_not_looked_at(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture(10))
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".b.png").write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()

    assert len(read_images(tmp_path)) == 1


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    save(tmp_path / "secret.png", picture(99))
    save(tmp_path / "in" / "a.png", picture(10))
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "secret.png")

    assert len(read_images(tmp_path / "in")) == 1


def test_colour_becomes_luminance_and_transparency_is_dropped(tmp_path: Path) -> None:
    rgba = np.zeros((1, 4, 4), dtype=np.uint8)
    rgba[0] = [[255, 0, 0, 0], [0, 255, 0, 9], [0, 0, 255, 255], [255, 255, 255, 1]]
    save(tmp_path / "a.png", rgba)

    assert read_images(tmp_path)[0, 0].tolist() == [76, 150, 29, 255]


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    image.putpalette([200, 200, 200, 90, 90, 90])
    image.save(tmp_path / "a.png")

    assert read_images(tmp_path)[0].tolist() == [[200, 90]]


def test_jpeg_and_a_single_file(tmp_path: Path) -> None:
    save(tmp_path / "a.jpeg", picture(10), quality=95)

    frames = read_images(tmp_path / "a.jpeg")

    assert frames.shape == (1, 32, 48)
    assert np.abs(frames[0].astype(int) - picture(10)).max() < 12


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no image in it"):
        read_images(tmp_path)


def test_images_of_two_sizes(tmp_path: Path) -> None:
    save(tmp_path / "a1.png", picture(10))
    save(tmp_path / "a2.png", picture(10, (32, 47)))

    with pytest.raises(RecordingError, match=r"it is 32x47, and a1\.png is 32x48") as caught:
        read_images(tmp_path)

    assert caught.value.path == tmp_path / "a2.png"


def test_sixteen_bits_are_not_cut_to_eight(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.full((8, 8), 4000, dtype=np.uint16))

    with pytest.raises(RecordingError, match="do not have 8 bits"):
        read_images(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_wherever_an_image_breaks_off_it_is_refused(tmp_path: Path, name: str) -> None:
    save(tmp_path / name, np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))
    whole = (tmp_path / name).read_bytes()

    for end in range(0, len(whole) - 20, len(whole) // 25):
        (tmp_path / name).write_bytes(whole[:end])
        with pytest.raises(RecordingError, match="cannot be read as an image"):
            read_images(tmp_path)


def test_another_format_under_the_name_is_not_decoded(tmp_path: Path) -> None:
    Image.fromarray(picture(10)).save(tmp_path / "a.png", format="GIF")

    with pytest.raises(RecordingError, match="no PNG or JPEG image"):
        read_images(tmp_path)


def test_an_image_is_measured_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png", picture(10))
    save(tmp_path / "b.png", picture(10))
    monkeypatch.setattr(video, "MAX_FRAME_PIXELS", 32 * 48 - 1)
    with pytest.raises(RecordingError, match="pixels per frame, more than"):
        read_images(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(video, "MAX_FRAMES", 1)
    with pytest.raises(RecordingError, match="frames, more than 1"):
        read_images(tmp_path)


def test_without_pillow_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png", picture(10))
    monkeypatch.setitem(sys.modules, "PIL", None)

    with pytest.raises(MissingDependency) as caught:
        read_images(tmp_path)

    assert caught.value.remedy == "Run: pip install 'pkecho-edge[data]'"
