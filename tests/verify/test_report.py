"""report.json and the table."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import EnvironmentMismatch, UnusableInput, UsageError
from pkecho_edge.verify.accuracy import AccuracyResult, measure_accuracy
from pkecho_edge.verify.live import follow_sequence, summarize_live
from pkecho_edge.verify.machine import machine_facts
from pkecho_edge.verify.report import (
    REPORT_SCHEMA,
    SYNTHETIC_NOTE,
    ModeResult,
    Report,
    build_report,
    read_report,
    render_table,
    write_report,
)
from pkecho_edge.verify.speed import SpeedResult

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
MakeClip = Callable[..., Clip]
TimeSides = Callable[[float, float], SpeedResult]

LINEAGE = {"checkpoint_sha256": "ab" * 32, "seed": 0}


@pytest.fixture
def passing(unchanged: AccuracyResult, time_sides: TimeSides) -> Report:
    modes = {"clip": ModeResult(unchanged, time_sides(40, 10))}
    return build_report(modes, machine_facts(), LINEAGE)


@pytest.fixture
def failing(degraded: AccuracyResult, time_sides: TimeSides) -> Report:
    modes = {"clip": ModeResult(degraded, time_sides(10, 20))}
    return build_report(modes, machine_facts(), LINEAGE)


def strict(text: str) -> Any:
    """JSON as the standard has it: no NaN, no Infinity, no key twice."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)


def text_of(report: Report | dict[str, Any], width: int = 100) -> str:
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(render_table(report))
    file = console.file
    assert isinstance(file, StringIO)
    return file.getvalue()


def test_the_keys_that_outside_tools_rely_on(passing: Report) -> None:
    document = strict(passing.to_json())

    assert document["schema"] == "pkecho-edge/report/1"
    assert document["verdict"] == "pass"
    assert {"name", "mode", "limit", "value", "unit", "pass"} <= set(document["gates"][0])
    clip = document["modes"]["clip"]
    assert {"n_clips", "n_patients", "baseline", "engine", "drift", "agreement"} <= set(
        clip["accuracy"]
    )
    assert {"baseline", "engine", "speedup"} <= set(clip["speed"])
    assert document["lineage"] == LINEAGE
    assert document["machine"]["python"]
    assert "stream" not in document["modes"]


def test_a_report_says_on_what_and_by_which_rules(failing: Report) -> None:
    document = failing.to_dict()

    data = document["modes"]["clip"]["data"]
    assert (data["sources"], data["n_recordings"], data["image_sizes"]) == (
        ["camus"],
        5,
        [[64, 64]],
    )
    assert (data["n_frames"], data["n_labelled_frames"]) == (20, 10)
    assert set(data["empty_masks"].values()) == {0}
    assert {"hd95", "asd", "ef", "empty_masks", "interval", "speedup"} <= set(
        document["conventions"]
    )
    rows = document["modes"]["clip"]["accuracy"]["clips"]
    assert len(rows) == 5
    assert rows[0]["dsc_drift"] == pytest.approx(rows[0]["dsc_baseline"] - rows[0]["dsc_engine"])
    assert len(rows[0]["content_sha256"]) == 64
    assert len(document["modes"]["clip"]["accuracy"]["worst_clips"]) == 5


def test_live_behaviour_is_of_the_stream_and_null_where_it_was_not_measured(
    unchanged: AccuracyResult, time_sides: TimeSides
) -> None:
    masks = [np.arange(100).reshape(10, 10) < 50 + index for index in range(30)]
    row = follow_sequence("s", "p", "camus", zip(masks, masks, strict=True), 10)
    live = summarize_live([row], 10)
    mode = ModeResult(unchanged, time_sides(40, 10), live=live)

    report = build_report({"clip": ModeResult(unchanged, None), "stream": mode}, {}, {})
    modes = strict(report.to_json())["modes"]

    assert modes["clip"]["live"] is modes["clip"]["live_long"] is modes["stream"]["live_long"]
    assert modes["clip"]["live"] is None
    found = modes["stream"]["live"]
    assert (found["n_sequences"], found["n_patients"], found["n_frames"]) == (1, 1, 30)
    assert found["length"] == 10
    assert found["warming_up"]["pixel_disagreement"]["mean"] == 0
    assert found["slope"]["low"] is None  # one patient
    assert found["curve"][0] == {
        "first": 0, "last": 0, "mean": 0, "low": None, "high": None, "n_sequences": 1,
    }  # fmt: skip
    (sequence,) = found["sequences"]
    assert sequence["identifier"] == "s"
    assert "pixel_disagreement" not in sequence  # a figure per frame
    assert sequence["quarter_change"] == 0
    text = text_of(report, width=80)
    assert "stream: over time, 1 sequences of 1 patients, 30 frames" in text
    assert "…" not in text
    assert {"flicker", "jitter", "slope", "ed_es_shift", "long_sequences"} <= set(
        strict(report.to_json())["conventions"]
    )


def test_beats_that_only_the_engine_lacks_are_a_warning(unchanged: AccuracyResult) -> None:
    beat = [np.arange(100).reshape(10, 10) < side for side in (40, 60, 70, 60, 40, 30, 35)]
    row = follow_sequence("s", "p", "camus", [(mask, beat[0]) for mask in beat], 4)
    mode = ModeResult(unchanged, None, live=summarize_live([row], 4))

    warnings = build_report({"stream": mode}, {}, {}).warnings

    assert any("no ED and ES in 1 of 1 beats" in warning for warning in warnings)


def test_the_table_of_an_earlier_report_has_no_live_part(failing: Report) -> None:
    document = failing.to_dict()
    for mode in document["modes"].values():
        del mode["live"], mode["live_long"]

    assert "over time" not in text_of(document)


def test_both_accuracy_and_speed_failing_is_a_failure(failing: Report) -> None:
    assert failing.verdict == failing.to_dict()["verdict"] == "fail"
    failed = {gate["name"] for gate in failing.to_dict()["gates"] if gate["pass"] is False}
    assert {"dsc_drift", "speedup"} <= failed


def test_what_was_not_measured_is_null_and_strict_json(
    make_clip: MakeClip, baseline: Network
) -> None:
    accuracy = measure_accuracy(baseline, baseline, [make_clip(truth=False)])

    report = build_report({"clip": ModeResult(accuracy, None)}, {"ratio": float("inf")}, {})
    document = strict(report.to_json())

    assert document["verdict"] == "incomplete"
    assert document["modes"]["clip"]["accuracy"]["drift"]["dsc"]["mean"] is None
    assert document["modes"]["clip"]["speed"] is None
    assert document["machine"] == {"ratio": None}
    assert "not measured" in text_of(report)


def test_a_report_without_any_mode_is_incomplete() -> None:
    report = build_report({}, {}, {})

    assert report.verdict == "incomplete"
    assert "INCOMPLETE" in text_of(report)


def test_it_comes_back_as_it_was_written(failing: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.json"

    write_report(failing, path)

    assert read_report(path) == failing.to_dict()
    assert text_of(read_report(path)) == text_of(failing)
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_an_old_report_survives_a_write_that_fails(
    step: str, passing: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "report.json"
    path.write_text("old")
    monkeypatch.setattr(step, full_disk)

    with pytest.raises(UsageError, match="No space left"):
        write_report(passing, path)

    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_a_folder_that_is_not_there_is_a_usage_error(passing: Report, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"report\.json"):
        write_report(passing, tmp_path / "none" / "report.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1}', "{", "[" * 100_000])
def test_something_else_is_not_a_report(text: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)

    with pytest.raises(UnusableInput, match=r"report\.json"):
        read_report(path)


def test_a_report_of_another_version_says_so(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text('{"schema": "pkecho-edge/report/2"}')

    with pytest.raises(EnvironmentMismatch, match=f"report/2, this version reads {REPORT_SCHEMA}"):
        read_report(path)


def test_a_lineage_that_is_not_json_is_refused(passing: Report) -> None:
    with pytest.raises(TypeError, match="set"):
        Report({}, (), {}, {"tools": {"a", "b"}}).to_json()


def test_warnings_say_what_to_doubt(
    make_clip: MakeClip, baseline: Network, time_sides: TimeSides
) -> None:
    clips = [make_clip("p0", source="phantom"), make_clip("p1", truth=False, source="phantom")]
    accuracy = measure_accuracy(baseline, baseline, clips)

    report = build_report(
        {"clip": ModeResult(accuracy, time_sides(40, 10))},
        {},
        {},
        calibration_clips=4,
        warnings=("mine",),
    )

    text = "\n".join(report.warnings)
    assert report.warnings[0] == "mine"
    assert SYNTHETIC_NOTE in text
    assert "small calibration set: 4 clips" in text
    assert "DSC drift covers 1 of 2 clips" in text
    assert "noisy" not in text
    assert "clinical DSC" in " ".join(text_of(report).split())


def test_ordinary_data_and_calibration_raise_no_such_warning(unchanged: AccuracyResult) -> None:
    report = build_report({"clip": ModeResult(unchanged, None)}, {}, {}, calibration_clips=30)

    assert not [w for w in report.warnings if "calibration" in w or "synthetic" in w]


def test_noisy_timing_is_a_warning(time_sides: TimeSides) -> None:
    speed = time_sides(0, 0)  # no spread to be had

    report = build_report({"clip": ModeResult(None, speed)}, {}, {})

    assert any("noisy timing" in warning for warning in report.warnings)


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_the_table_keeps_to_its_width_without_colour(failing: Report, width: int) -> None:
    text = text_of(failing, width)

    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines()) <= min(width, 100)


def test_the_table_shows_the_figures_of_the_report(failing: Report) -> None:
    text = text_of(failing)
    rows = [line.split() for line in text.splitlines() if line.strip()]
    drift = failing.to_dict()["modes"]["clip"]["accuracy"]["drift"]

    assert ["baseline", "100.00", "0.00", "0.00", "0.00"] in rows
    assert [f"{drift['dsc']['mean']:+.2f}"] == [row[1] for row in rows if row[0] == "drift"][:1]
    assert [row[1] for row in rows if row[0] == "engine"][1] == "500.0"  # 10 frames in 20 ms
    assert "<= 0.5 FAIL" in text
    assert "0.50 x" in text
    assert ">= 1 FAIL" in text
    assert "worse by less than the margin: DSC not shown, HD95 not shown, EF error" in text
    assert "EF on the other side: 0 at 35 %, 0 at 40 %, " in text
    assert "machine: " in text
    assert "verdict: FAIL" in text
    assert "…" not in text  # nothing was cut off


def test_names_with_brackets_are_shown_as_they_are(make_clip: MakeClip, baseline: Network) -> None:
    accuracy = measure_accuracy(baseline, baseline, [make_clip("[red]p[/red]")])

    report = build_report({"clip": ModeResult(accuracy, None)}, {}, {"name": "[/]"})

    assert "[red]p[/red]-clip" in text_of(report)
