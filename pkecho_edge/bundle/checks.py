"""Checks that the sections of a manifest share; each raises ValueError naming what it looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = [
    "check_choice",
    "check_fraction",
    "check_label",
    "check_labels",
    "check_sha256",
    "check_threshold",
]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_TEXT = 1000


def check_choice(value: str, choices: tuple[str, ...], what: str) -> None:
    if value not in choices:
        raise ValueError(f"{what} must be {' or '.join(choices)}, not {value[:60]!a}")


def check_label(value: str, what: str) -> None:
    """One printable line of at most 1000 characters: safe to show on a terminal."""
    if not value or len(value) > _MAX_TEXT or not value.isprintable():
        raise ValueError(f"{what} must be one printable line")


def check_sha256(value: str, what: str) -> None:
    if not _SHA256.fullmatch(value):
        raise ValueError(f"{what} must be 64 lower-case hexadecimal digits")


def check_labels(values: Mapping[str, str], what: str) -> None:
    for name, value in values.items():
        check_label(name, f"a name in {what}")
        check_label(value, f"{what}.{name}")


def check_fraction(value: float, what: str) -> None:
    if not 0 <= value <= 1:  # also false for NaN
        raise ValueError(f"{what} must lie between 0 and 1")


def check_threshold(value: float) -> None:
    if not -1000 <= value <= 1000:  # also false for NaN
        raise ValueError("the threshold on logits must lie between -1000 and 1000")
