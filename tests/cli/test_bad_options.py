"""Options, calibration sets and gates that must be refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Refuses = Callable[..., str]
Spoil = Callable[[Path], None]

VERIFY = "verify heart.pkb --data data --gates gates.toml"
COMPILE = "compile network.safetensors --data data --size 96 --clips 2 --out new.pkb"


# Options


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        pytest.param(f"{VERIFY} --split NOWHERE", 2, "'NOWHERE'", id="unknown split, verify"),
        pytest.param(
            "calibrate data --split NOWHERE --out new.json",
            2,
            "'NOWHERE'",
            id="unknown split, calibrate",
        ),
        pytest.param(
            "calibrate data --size 100 --out new.json", 2, "multiples of 32", id="size 100"
        ),
        pytest.param(
            "compile network.safetensors --data data --size 96x100 --out new.pkb",
            2,
            "multiples of 32",
            id="width 100",
        ),
        pytest.param("phantom --size 64 --out new", 2, "96 to 640", id="size 64"),
        pytest.param("train --size 672 --out new", 2, "96 to 640", id="size 672"),
        pytest.param("bench peers --size big", 2, "'big'", id="size that is no number"),
        pytest.param("calibrate data --clips 0", 2, "--clips", id="no clips"),
        pytest.param("calibrate data --clips many", 2, "--clips", id="clips that are no number"),
        pytest.param("calibrate data --rule best", 2, "'best'", id="unknown rule"),
        pytest.param("train --backbone resnet99 --out new", 2, "resnet50", id="unknown backbone"),
        pytest.param("train --learning-rate nan --out new", 2, "nan", id="NaN as learning rate"),
        pytest.param(
            f"{COMPILE} --float-precision int3", 2, "'int3'", id="unknown float precision"
        ),
        pytest.param(f"{COMPILE} --mode sideways", 2, "'sideways'", id="unknown mode"),
        pytest.param("calibrate", 2, "DATA", id="missing argument"),
        pytest.param("calibrate data --colour red", 2, "--colour", id="unknown option"),
        pytest.param("calibrat data", 2, "'calibrat'", id="unknown command"),
        pytest.param(
            f"{VERIFY} --split TRAIN",
            7,
            "both calibration and verification",
            id="calibration overlapping verification",
        ),
        pytest.param(
            "compile network.safetensors --data data --target toaster --out new.pkb",
            2,
            "'toaster'",
            id="unknown target",
        ),
    ],
)
def test_an_option_is_refused(refuses: Refuses, command: str, code: int, says: str) -> None:
    refuses(command, code, says)


# What is verified, and against what


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ("--against heart.pkb", 2, "heart.pkb: is compared with itself"),
        ("--against absent.pkb", 2, "absent.pkb: is not a bundle folder"),
        ("--against heart.pkb --baseline network.safetensors", 2, "--against with --baseline"),
        ("--self-test --data data", 2, "--self-test runs the golden vectors alone"),
        ("--self-test --gates gates.toml", 2, "--self-test runs the golden vectors alone"),
        ("--junit heart.pkb/gates.xml", 2, "lies in a bundle"),
    ],
    ids=[
        "verify against itself",
        "verify against no bundle",
        "verify against bundle and baseline",
        "self-test with data",
        "self-test with gates",
        "JUnit file into a bundle",
    ],
)
def test_what_verify_is_not_asked_together(
    refuses: Refuses, options: str, code: int, says: str
) -> None:
    refuses(f"verify heart.pkb {options}", code, says)


# Calibration sets and gates


def other_clips(path: Path) -> None:
    document = json.loads(path.read_text())
    document["entries"][0]["content_sha256"] = "0" * 64
    path.write_text(json.dumps(document))


def of_another_version(path: Path) -> None:
    document = json.loads(path.read_text())
    document["schema"] = "pkecho-edge/calibration/1"
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(Path.unlink, "cannot be read", id="missing calibration set"),
        pytest.param(
            lambda path: path.write_text(path.read_text()[:99]),
            "not a calibration set",
            id="truncated calibration set",
        ),
        pytest.param(
            lambda path: path.write_bytes(bytes(99)),
            "not a calibration set",
            id="calibration set of NUL bytes",
        ),
        pytest.param(
            other_clips,
            "is missing or its frames have changed",
            id="calibration set of other clips",
        ),
        pytest.param(
            of_another_version,
            "pkecho-edge/calibration/2",
            id="calibration set of another schema version",
        ),
    ],
)
def test_a_calibration_set_is_refused(
    world: Path, refuses: Refuses, spoil: Spoil, says: str
) -> None:
    spoil(world / "set.json")

    refuses(f"{COMPILE} --calibration set.json", 7, says)


def test_a_calibration_set_of_another_size_is_refused(refuses: Refuses) -> None:
    command = "compile network.safetensors --data data --size 128 --calibration set.json"
    refuses(
        f"{command} --out new.pkb", 7, "it is of clips at 96x96, these are 128x128",
        case="calibration set of another size",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(
            "[gates]\ndsc_drfit = 1", "'dsc_drfit' is no gate", id="gates file, unknown key"
        ),
        pytest.param("[gates", "cannot read the gates", id="gates file that is not TOML"),
        pytest.param("", "nothing", id="empty gates file"),
        pytest.param("[gates]\nspeedup = -1", "speedup", id="gates file, negative limit"),
        pytest.param("[gates]\nspeedup = nan", "speedup", id="gates file, NaN as limit"),
        pytest.param("\x00", "cannot read the gates", id="gates file of a NUL byte"),
    ],
)
def test_a_gates_file_is_refused(world: Path, refuses: Refuses, text: str, says: str) -> None:
    (world / "limits.toml").write_text(text)

    refuses("verify heart.pkb --data data --gates limits.toml", 2, "limits.toml", says)


def test_a_missing_gates_file_is_refused(refuses: Refuses) -> None:
    refuses(
        "verify heart.pkb --data data --gates limits.toml", 2, "limits.toml",
        case="missing gates file",
    )  # fmt: skip
