"""What every layout of a dataset must do. A new one is covered by a line in LAYOUTS."""

from __future__ import annotations

import functools
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from pkecho_edge.data import sides
from pkecho_edge.data.camus import CamusDataset
from pkecho_edge.data.camus_writer import WrittenView, write_camus
from pkecho_edge.data.check import check_dataset
from pkecho_edge.data.dataset import SPLITS, Dataset, iterate
from pkecho_edge.data.echonet import EchoNetDataset, write_echonet
from pkecho_edge.data.phantom import draw_spec, phantom_recording
from pkecho_edge.data.phantom_views import heart_views
from pkecho_edge.data.plain import PlainVideos
from pkecho_edge.data.recording import Recording
from pkecho_edge.data.sources import dataset as dataset_source
from pkecho_edge.data.video import write_mjpg_avi
from pkecho_edge.errors import DatasetError, RecordingError, UsageError

EXAMPLES = Path(__file__).resolve().parents[2] / "docs/examples"
COUNT = 10


def _example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("png_study", EXAMPLES / "png_study.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


png_study = _example()


@dataclass(frozen=True)
class Layout:
    """How the tests make a folder of it.

    Attributes:
        open: its class.
        write: fills a folder with recordings of as many patients.
        victim: the file of the first recording that the tests damage or replace by a link.
        labelled: whether it holds ground truth.
    """

    open: Callable[..., Dataset]
    write: Callable[[Path, Iterable[Recording]], object]
    victim: str
    labelled: bool = True


def _write_videos(root: Path, recordings: Iterable[Recording]) -> None:
    root.mkdir()
    for recording in recordings:
        rate = recording.frame_rate_hz or 50
        write_mjpg_avi(root / f"{recording.identifier}.avi", recording.frames, rate)


def _write_camus(root: Path, recordings: Iterable[Recording]) -> None:
    views = [heart_views(1000 + n, size=(96, 96)) for n, _ in enumerate(recordings)]
    write_camus(
        root,
        (WrittenView(view, heart.edv_ml, heart.esv_ml) for heart, both in views for view in both),
    )


def _write_pngs(root: Path, recordings: Iterable[Recording]) -> None:
    for recording in recordings:
        place = root / recording.patient
        for name in ("frames", "masks"):
            (place / name).mkdir(parents=True)
        for number, frame in enumerate(recording.frames):
            Image.fromarray(frame).save(place / f"frames/{number}.png")
        for number in (recording.ed_index, recording.es_index):
            assert number is not None
            truth = recording.truth(number)
            assert truth is not None
            Image.fromarray(truth.astype(np.uint8) * 255).save(place / f"masks/{number}.png")
        info = {"frame_rate_hz": recording.frame_rate_hz, "spacing_mm": recording.spacing_mm}
        (place / "info.json").write_text(json.dumps(info), encoding="utf-8")


LAYOUTS = {
    "EchoNet-Dynamic": Layout(EchoNetDataset, write_echonet, "Videos/{}.avi"),
    "CAMUS": Layout(CamusDataset, _write_camus, "database_nifti/{0}/{0}_2CH_half_sequence.nii.gz"),
    "video files": Layout(PlainVideos, _write_videos, "{}.avi", labelled=False),
    "PNG study": Layout(png_study.PngStudy, _write_pngs, "{}/frames/0.png"),
}
"""The last is the example of docs/adding-a-dataset.md."""


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    splits = ["TRAIN"] * 6 + ["VAL"] * 2 + ["TEST"] * 2
    return [
        replace(phantom_recording(draw_spec(seed), size=(96, 96)), split=split)
        for seed, split in enumerate(splits)
    ]


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Layout:
    return LAYOUTS[request.param]


@pytest.fixture(scope="module")
def written(
    recordings: list[Recording], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Layout], Path]:
    """A folder of the layout, made once."""

    @functools.cache
    def write(layout: Layout) -> Path:
        root = tmp_path_factory.mktemp("written") / "study"
        layout.write(root, recordings)
        return root

    return write


@pytest.fixture
def root(layout: Layout, written: Callable[[Layout], Path], tmp_path: Path) -> Path:
    """The test's own copy."""
    return Path(shutil.copytree(written(layout), tmp_path / "study"))


@pytest.fixture
def victim(layout: Layout, root: Path) -> Path:
    """A file without which the first recording cannot be read."""
    found = root / layout.victim.format(layout.open(root).patients[0])
    assert found.is_file()
    return found


def test_it_says_what_it_holds(layout: Layout, root: Path) -> None:
    dataset = layout.open(root)

    assert dataset.layout
    assert dataset.root == root
    assert dataset.skipped == []
    assert len(dataset) == len(dataset.identifiers) == len(set(dataset.identifiers))
    assert len(dataset) == len(dataset.patients) == len(dataset.splits)
    assert len(set(dataset.patients)) == COUNT
    assert set(dataset.splits) == set(SPLITS)


def test_recordings_are_what_was_announced(layout: Layout, root: Path) -> None:
    dataset = layout.open(root)

    for index, name in enumerate(dataset.identifiers):
        found = dataset[index]
        assert found.identifier == name
        assert (found.patient, found.split) == (dataset.patients[index], dataset.splits[index])
        assert found.source
        assert bool(found.labelled) is layout.labelled
        if layout.labelled:
            assert found.ed_index is not None
            assert found.es_index is not None
            assert found.ed_index != found.es_index


def test_it_is_a_sequence(layout: Layout, root: Path) -> None:
    dataset = layout.open(root)

    assert [each.identifier for each in dataset] == list(dataset.identifiers)
    assert dataset[-1].identifier == dataset.identifiers[-1]
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_a_split_is_its_part_of_the_whole(layout: Layout, root: Path) -> None:
    whole = layout.open(root)
    parts = {split: layout.open(root, split.lower()) for split in SPLITS}

    for split, part in parts.items():
        asked = [n for n, s in zip(whole.identifiers, whole.splits, strict=True) if s == split]
        assert list(part.identifiers) == asked
    patients = [set(part.patients) for part in parts.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == COUNT
    with pytest.raises(UsageError, match="not a split"):
        layout.open(root, "HOLDOUT")


def test_what_cannot_be_read_is_skipped_with_its_reason(
    layout: Layout, root: Path, victim: Path
) -> None:
    total = len(layout.open(root))
    victim.write_bytes(b"nonsense")
    dataset = layout.open(root)
    told: list[str] = []

    found = list(iterate(dataset, lambda skipped: told.append(str(skipped))))

    assert len(told) == len(dataset.skipped) == 1
    assert len(found) == total - 1
    assert len(told[0].splitlines()) == 1


def test_no_link_leads_out_of_it(layout: Layout, root: Path, victim: Path, tmp_path: Path) -> None:
    total = len(layout.open(root))
    secret = tmp_path / f"secret{''.join(victim.suffixes)}"
    victim.rename(secret)
    victim.symlink_to(secret)
    dataset = layout.open(root)

    assert len(list(dataset)) == total - 1
    assert len(dataset.skipped) == 1


def test_an_empty_folder_is_none(layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        layout.open(tmp_path)

    assert caught.value.remedy


def test_the_street_takes_its_clips(
    layout: Layout, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides, "open_dataset", layout.open)

    clips = list(dataset_source(root, (96, 96), split="TRAIN", count=3))

    assert [clip.frames.shape for clip in clips] == [(10, 1, 96, 96)] * 3
    assert all((clip.truth is not None) is layout.labelled for clip in clips)


def test_data_check_counts_it(layout: Layout, root: Path) -> None:
    found = check_dataset(layout.open(root))

    assert found.n_usable == found.n_listed == len(layout.open(root))
    assert found.patients == COUNT
    assert bool(found.labelled_recordings) is layout.labelled


# The example alone


def test_the_example_names_what_is_wrong(recordings: list[Recording], tmp_path: Path) -> None:
    _write_pngs(tmp_path, recordings[:1])
    (place,) = tmp_path.iterdir()
    dataset = png_study.PngStudy(tmp_path)

    one = next((place / "masks").iterdir())
    (place / "masks/900.png").write_bytes(one.read_bytes())
    with pytest.raises(RecordingError, match=r"900\.png belongs to no frame"):
        dataset[0]
    (place / "masks/900.png").unlink()
    (place / "info.json").write_text('{"spacing_mm": 3}', encoding="utf-8")
    with pytest.raises(RecordingError, match=r"info\.json: cannot be read"):
        dataset[0]
    (place / "info.json").unlink()
    assert dataset[0].spacing_mm is None


def test_the_example_is_told_from_the_other_layouts(
    recordings: list[Recording], tmp_path: Path
) -> None:
    for name, each in LAYOUTS.items():
        each.write(tmp_path / name, recordings[:1])

        assert png_study.is_png_study(tmp_path / name) is (name == "PNG study")
