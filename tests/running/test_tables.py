"""The figures of a run, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable

import pytest

from pkecho_edge.data.timed_recording import TimedRecording
from pkecho_edge.metrics.beats import Beat
from pkecho_edge.running.segmentation import Segmentation
from pkecho_edge.running.tables import (
    beats_csv,
    beats_document,
    frames_csv,
    mean_ejection_fraction,
)

MakeTimed = Callable[..., TimedRecording]
Found = Callable[..., Segmentation]

BEATS = [
    Beat(1, 20, 32, 32, 48, 80.0, 40.0, 50.0, ()),
    Beat(2, 52, 32, 64, 80, 100.0, 40.0, 60.0, ("spacing",)),
    Beat(3, 84, 8, 84, 90, 100.0, 90.0, 10.0, ("frames", "short")),
    Beat(4, 92, 8, 92, 98, 0.0, 0.0, math.nan, ("frames",)),
]


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_each_frame_has_its_phase_and_beat(make_timed: MakeTimed, found: Found) -> None:
    rows = read(frames_csv(found(make_timed(100)), BEATS))

    assert [(i, row["phase"]) for i, row in enumerate(rows) if row["phase"]] == [
        (32, "ED"),
        (48, "ES"),
        (64, "ED"),
        (80, "ES"),
        (84, "ED"),
        (90, "ES"),
        (92, "ED"),
        (98, "ES"),
    ]
    assert [rows[i]["beat"] for i in (0, 19, 20, 51, 52, 99)] == ["", "", "1", "1", "2", "4"]
    assert (rows[3]["valid"], rows[3]["warming_up"], rows[3]["flags"]) == (
        "false",
        "true",
        "warming_up",
    )
    assert (rows[9]["valid"], rows[9]["warming_up"], rows[9]["flags"]) == ("true", "false", "")
    assert rows[10]["time_s"] == "0.250000"


def test_each_beat_has_its_volumes_their_unit_and_the_method(
    make_timed: MakeTimed, found: Found
) -> None:
    rows = read(beats_csv(found(make_timed(100)), BEATS))

    assert [row["ejection_fraction"] for row in rows] == ["50.000", "60.000", "10.000", ""]
    assert [row["volume_unit"] for row in rows] == ["ml", "cubic px", "ml", "ml"]
    assert [row["valid"] for row in rows] == ["true", "false", "false", "false"]
    assert [row["flags"] for row in rows] == ["", "spacing", "frames short", "frames"]
    assert (rows[0]["ed_frame"], rows[0]["ed_time_s"]) == ("32", "0.800000")
    assert (rows[0]["es_frame"], rows[0]["es_time_s"]) == ("48", "1.200000")
    assert {row["method"] for row in rows} == {"single-plane discs, 20, principal axis"}


def test_without_times_their_columns_are_empty(make_timed: MakeTimed, found: Found) -> None:
    untimed = found(make_timed(100, times_s=None))

    assert {row["time_s"] for row in read(frames_csv(untimed, BEATS))} == {""}
    assert {row["ed_time_s"] for row in read(beats_csv(untimed, BEATS))} == {""}


def test_the_mean_leaves_out_what_is_flagged_but_for_a_missing_spacing() -> None:
    assert mean_ejection_fraction(BEATS) == (55.0, 2)
    assert mean_ejection_fraction(BEATS[2:])[1] == 0
    assert math.isnan(mean_ejection_fraction([])[0])


def test_the_document_is_json_without_nan(make_timed: MakeTimed, found: Found) -> None:
    document = beats_document(found(make_timed(100)), BEATS)

    read_back = json.loads(json.dumps(document, allow_nan=False))
    assert read_back["ejection_fraction"]["mean"] == pytest.approx(55)
    assert (read_back["ejection_fraction"]["beats"], read_back["ejection_fraction"]["flagged"]) == (
        2,
        2,
    )
    assert read_back["beats"][3]["ejection_fraction"] is None
    assert read_back["beats"][2]["flags"] == ["frames", "short"]
