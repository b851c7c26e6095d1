"""Who is trained on and who is validated on, and how several sizes of frames share them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkecho_edge.data.dataset import Skipped
from pkecho_edge.data.phantom import PhantomSpec
from pkecho_edge.data.recording import Recording
from pkecho_edge.data.standard import STANDARD_SEEDS, TRAINING_SEEDS, TUNING_SEEDS
from pkecho_edge.errors import DatasetError, RecordingError, UsageError
from pkecho_edge.training import material
from pkecho_edge.training.material import Material, dataset_material, phantom_material

Names = list[list[str]]

# Phantoms


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Phantoms are named, not rendered; the sizes that they would be rendered at."""
    sizes: list[tuple[int, int]] = []

    def named(
        how: Callable[[PhantomSpec], Recording], specs: Sequence[PhantomSpec], workers: int
    ) -> Iterator[PhantomSpec]:
        assert isinstance(how, partial)
        sizes.append(how.keywords["size"])
        return iter(specs)

    monkeypatch.setattr(material, "rendered", named)
    return sizes


def phantoms(count: int, parts: list[int], validation: int = 10) -> list[Material]:
    return [
        phantom_material(
            count, (96 + 32 * part, 96), length=10, whole=False, validation=validation,
            parts=parts, part=part,
        )
        for part in range(len(parts))
    ]  # fmt: skip


def seeds(made: Iterator[Recording]) -> list[int]:
    return [int(one.identifier.removeprefix("phantom-")) for one in made]


def test_sizes_share_the_phantoms_in_proportion(drawn: list[tuple[int, int]]) -> None:
    large, small = phantoms(50, [4, 1])

    trained = [seeds(each.training(no_skip)) for each in (large, small)]
    validated = [seeds(each.validation(no_skip)) for each in (large, small)]

    assert [len(names) for names in trained] == [40, 10] == [large.count, small.count]
    assert sorted(trained[0] + trained[1]) == list(TRAINING_SEEDS[:50])
    assert [len(names) for names in validated] == [8, 2]
    assert sorted(validated[0] + validated[1]) == list(TUNING_SEEDS[:10])
    assert set(STANDARD_SEEDS).isdisjoint(trained[0] + trained[1] + validated[0] + validated[1])
    assert drawn == [(96, 96), (128, 96), (96, 96), (128, 96)]


def test_one_size_takes_all_phantoms(drawn: list[tuple[int, int]]) -> None:
    (only,) = phantoms(7, [1])

    assert seeds(only.training(no_skip)) == list(TRAINING_SEEDS[:7])


@pytest.mark.parametrize(("count", "parts"), [(1, [1, 1]), (2, [1, 1, 1]), (10, [1, 99])])
def test_too_few_phantoms_for_the_sizes_are_refused(count: int, parts: list[int]) -> None:
    shares = ":".join(map(str, parts))
    with pytest.raises(UsageError, match=f"{count} phantoms cannot be shared {shares} among"):
        phantoms(count, parts)


# Datasets


def no_skip(left_out: Skipped) -> None:
    raise AssertionError(left_out)


class Study:
    """Two views of each patient; a patient's side is that of its name's first letter."""

    layout, root = "study", Path("study")

    def __init__(self, patients: Sequence[str], broken: Sequence[str] = ()) -> None:
        sides = {"t": "TRAIN", "v": "VAL", "x": "TEST"}
        self.identifiers = tuple(f"{name}_{view}" for name in patients for view in ("2CH", "4CH"))
        self.patients = tuple(name.rpartition("_")[0] for name in self.identifiers)
        self.splits = tuple(sides[name[0]] for name in self.identifiers)
        self.skipped = [Skipped("unreadable", "it is missing", "TRAIN")] if broken else []
        self._broken = broken

    def __len__(self) -> int:
        return len(self.identifiers)

    def __getitem__(self, index: int, /) -> Recording:
        name = self.identifiers[index]
        if name in self._broken:
            raise RecordingError("it breaks off")
        return Recording(name, self.patients[index], "study", np.zeros((2, 8, 8), dtype=np.uint8))


def of_study(
    monkeypatch: pytest.MonkeyPatch, study: Study, parts: list[int], split: str = "own"
) -> list[Material]:
    monkeypatch.setattr(material, "open_dataset", lambda root, split: study)
    return [
        dataset_material(Path("study"), split=split, parts=parts, part=part)
        for part in range(len(parts))
    ]


def names(found: list[Material], side: str) -> Names:
    return [[r.identifier for r in getattr(each, side)(lambda _: None)] for each in found]


def patients_of(found: list[str]) -> set[str]:
    return {name.rpartition("_")[0] for name in found}


@settings(max_examples=40, deadline=None)
@given(
    n_train=st.integers(12, 40),
    n_validation=st.integers(0, 12),
    parts=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    split=st.sampled_from(["own", "7:1:2"]),
)
def test_sizes_share_the_patients_of_each_side(
    n_train: int, n_validation: int, parts: list[int], split: str
) -> None:
    everyone = [f"t{i}" for i in range(n_train)] + [f"v{i}" for i in range(n_validation)]
    study = Study([*everyone, "x1", "x2"])
    with pytest.MonkeyPatch.context() as patch:
        found = of_study(patch, study, parts, split)

    training, validation = names(found, "training"), names(found, "validation")
    sides = {"TRAIN": training, "VAL": validation}

    for by_size in sides.values():
        flat = [name for size in by_size for name in size]
        assert len(set(flat)) == len(flat)  # no recording at two sizes
        # both views of a patient at one size
        shared = Counter(patient for size in by_size for patient in patients_of(size))
        assert max(shared.values(), default=1) == 1
        # in proportion, rounded
        total = len(shared)
        for size, weight in zip(by_size, parts, strict=True):
            assert abs(len(patients_of(size)) - total * weight / sum(parts)) < 1
    trained, validated = (
        patients_of([name for size in by_size for name in size]) for by_size in sides.values()
    )
    assert trained.isdisjoint(validated)
    if split == "own":
        assert trained == {name for name in everyone if name[0] == "t"}
        assert validated == {name for name in everyone if name[0] == "v"}
    else:
        assert abs(len(trained) - 0.7 * (len(everyone) + 2)) <= 1
        assert abs(len(validated) - 0.1 * (len(everyone) + 2)) <= 1


def test_the_sizes_keep_their_patients_from_run_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    everyone = [f"t{i:02}" for i in range(30)]

    once = names(of_study(monkeypatch, Study(everyone), [2, 1]), "training")
    again = names(of_study(monkeypatch, Study(everyone[::-1]), [2, 1]), "training")

    assert [sorted(size) for size in once] == [sorted(size) for size in again]
    # not the first twenty by name: a site's patients are often numbered in a row
    assert patients_of(once[0]) != set(everyone[:20])


@pytest.mark.parametrize(("count", "parts"), [(1, [1, 1]), (2, [1, 1, 1]), (5, [1, 99])])
def test_too_few_patients_for_the_sizes_are_refused(
    monkeypatch: pytest.MonkeyPatch, count: int, parts: list[int]
) -> None:
    study = Study([f"t{i}" for i in range(count)] + ["v1", "v2", "v3"])
    shares = ":".join(map(str, parts))

    with pytest.raises(UsageError, match=f"{count} patients to train on cannot be shared {shares}"):
        of_study(monkeypatch, study, parts)


def test_what_is_left_out_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By whichever size the recording fell to; what never opened by the first one alone."""
    everyone = [f"t{i}" for i in range(8)]
    said: list[str] = []

    for each in of_study(monkeypatch, Study(everyone, broken=["t3_4CH"]), [1, 1]):
        for side in (each.training, each.validation):
            list(side(lambda skipped: said.append(skipped.identifier)))

    assert sorted(said) == ["t3_4CH", "unreadable"]


def test_a_patient_on_two_sides_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study(["t1", "t2"])
    study.splits = ("TRAIN", "VAL", "TRAIN", "TRAIN")

    with pytest.raises(DatasetError, match="patient 't1' is in TRAIN and in VAL"):
        of_study(monkeypatch, study, [1])
    # a new split by patient puts both views on one side
    assert names(of_study(monkeypatch, study, [1], "7:1:2"), "training")


def test_nothing_to_train_on_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match="no recording to train on"):
        of_study(monkeypatch, Study(["v1", "x1"]), [1])


def test_a_recording_without_ed_and_es_is_not_validated_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    skipped: list[Skipped] = []
    (found,) = of_study(monkeypatch, Study(["t1", "v1"]), [1])

    assert found.validation_clips((8, 8), 3, skipped.append) == []
    assert [s.identifier for s in skipped] == ["v1_2CH", "v1_4CH"]
    assert "no distinct ED and ES frames" in skipped[0].reason
