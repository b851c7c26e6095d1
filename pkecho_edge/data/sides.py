"""Which recordings of a dataset are trained on, validated on and tested on, and those alone.

Two rules: "own" is the dataset's TRAIN, VAL and TEST; "7:1:2", the paper's, ranks the patients
anew. Whoever trains by one must test by the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pkecho_edge.data.dataset import Dataset, check_split
from pkecho_edge.data.layouts import open_dataset
from pkecho_edge.data.plain import split_by_rank
from pkecho_edge.data.recording import Recording
from pkecho_edge.errors import DatasetError, UsageError

__all__ = ["SPLIT_RULES", "Part", "check_rule", "open_side", "sides_of"]

SPLIT_RULES = ("own", "7:1:2")


def check_rule(rule: str) -> str:
    """The rule itself when it is one.

    Raises:
        UsageError: it is none.
    """
    if rule not in SPLIT_RULES:
        raise UsageError(f"unknown split {rule!r}", remedy=f"Use {' or '.join(SPLIT_RULES)}")
    return rule


def sides_of(dataset: Dataset, rule: str) -> dict[str, str]:
    """Identifier -> TRAIN, VAL or TEST; a patient's recordings are all on one side.

    Raises:
        UsageError: an unknown rule.
        DatasetError: the dataset's own split has a patient on two sides.
    """
    if check_rule(rule) == "own":
        sides = dict(zip(dataset.identifiers, dataset.splits, strict=True))
    else:
        of_patient = split_by_rank(set(dataset.patients))
        sides = {
            name: of_patient[patient]
            for name, patient in zip(dataset.identifiers, dataset.patients, strict=True)
        }
    _check_apart(dataset, sides)
    return sides


def open_side(root: Path, side: str | None, rule: str = "own") -> Dataset:
    """The recordings of one side of a dataset; nothing is decoded yet.

    Args:
        root: of any layout that `open_dataset` reads.
        side: TRAIN, VAL or TEST in any case; None takes all.
        rule: of SPLIT_RULES.

    Raises:
        DatasetError, UsageError: see `open_dataset` and `sides_of`.
    """
    if rule == "own" or side is None:
        return open_dataset(root, side)
    whole, wanted = open_dataset(root, None), check_split(side)
    sides = sides_of(whole, rule)
    chosen = [sides[name] == wanted for name in whole.identifiers]
    return Part(whole, chosen, str(wanted), speaks=True)


def _check_apart(dataset: Dataset, sides: dict[str, str]) -> None:
    """No patient may be trained on and validated or tested on."""
    seen: dict[str, str] = {}
    for name, patient in zip(dataset.identifiers, dataset.patients, strict=True):
        side = seen.setdefault(patient, sides[name])
        if side != sides[name]:
            raise DatasetError(
                f"patient {patient!r} is in {side} and in {sides[name]}",
                path=dataset.root,
                remedy="Split by patient, for example with --split 7:1:2",
            )


class Part:
    """Some recordings of a dataset, as a dataset.

    Args:
        whole: the dataset.
        wanted: for each of its recordings, whether it is in this part.
        side: "TRAIN", "VAL" or "TEST", of all of them.
        speaks: whether this part tells what the whole dataset left out.
    """

    def __init__(self, whole: Dataset, wanted: Sequence[bool], side: str, *, speaks: bool) -> None:
        self._whole = whole
        self._at = [i for i, is_wanted in enumerate(wanted) if is_wanted]
        self.layout, self.root = whole.layout, whole.root
        self.identifiers = tuple(whole.identifiers[i] for i in self._at)
        self.patients = tuple(whole.patients[i] for i in self._at)
        self.splits = (side,) * len(self._at)
        self.skipped = list(whole.skipped) if speaks else []

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, index: int, /) -> Recording:
        return self._whole[self._at[index]]
