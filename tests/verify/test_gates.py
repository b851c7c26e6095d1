"""What passes, what fails, what is incomplete, and the exit code of each."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import (
    AccuracyGateFailed,
    SpeedGateFailed,
    UsageError,
    VerificationIncomplete,
)
from pkecho_edge.verify.accuracy import AccuracyResult, measure_accuracy
from pkecho_edge.verify.gates import (
    DEFAULT_LIMITS,
    LIVE_GATES,
    MIN_PATIENTS,
    OPTIONAL_LIMITS,
    UNITS,
    Gate,
    check_gates,
    evaluate_gates,
    exit_code,
    limits_of_mode,
    load_gates,
    verdict,
)
from pkecho_edge.verify.live import LiveResult, follow_sequence, summarize_live
from pkecho_edge.verify.speed import SpeedResult

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
MakeClip = Callable[..., Clip]
TimeSides = Callable[[float, float], SpeedResult]


def results(gates: tuple[Gate, ...]) -> dict[str, bool | None]:
    return {gate.name: gate.passed for gate in gates}


def gate(passed: bool | None, name: str = "dsc_drift") -> Gate:
    return Gate(name, "clip", 0.5, None if passed is None else 0.1, "points", passed)


def test_an_engine_identical_to_the_baseline_and_faster_passes(
    unchanged: AccuracyResult, time_sides: TimeSides
) -> None:
    gates = evaluate_gates("clip", unchanged, time_sides(40, 10))

    assert set(results(gates)) == {*DEFAULT_LIMITS, "finite_logits"}
    assert verdict(gates) == "pass"
    assert exit_code(gates) == 0
    check_gates(gates)


def test_an_engine_that_erodes_fails_with_3(
    degraded: AccuracyResult, time_sides: TimeSides
) -> None:
    gates = evaluate_gates("clip", degraded, time_sides(40, 10))

    assert results(gates) == {
        "finite_logits": True,
        "dsc_drift": False,
        "dsc_drift_worst_clip": False,
        "hd95_drift": True,  # by one pixel, which is the limit
        "ef_drift": False,
        "speedup": True,
    }
    assert exit_code(gates) == 3
    with pytest.raises(AccuracyGateFailed, match=r"report\.json: .*dsc_drift .clip. 5"):
        check_gates(gates, path=Path("report.json"))


def test_a_slower_engine_fails_with_4(unchanged: AccuracyResult, time_sides: TimeSides) -> None:
    gates = evaluate_gates("clip", unchanged, time_sides(10, 11))

    assert verdict(gates) == "fail"
    assert exit_code(gates) == 4
    with pytest.raises(SpeedGateFailed, match=r"speedup .clip. 0.909 x, limit >= 1"):
        check_gates(gates)


def test_accuracy_beats_speed(degraded: AccuracyResult, time_sides: TimeSides) -> None:
    gates = evaluate_gates("clip", degraded, time_sides(10, 20))

    assert results(gates)["speedup"] is False
    assert exit_code(gates) == 3
    with pytest.raises(AccuracyGateFailed, match="speedup"):  # and says both
        check_gates(gates)


def test_without_truth_verification_is_incomplete(
    make_clip: MakeClip, baseline: Network, time_sides: TimeSides
) -> None:
    clips = [make_clip(f"p{index}", truth=False) for index in range(5)]
    accuracy = measure_accuracy(baseline, baseline, clips)

    gates = evaluate_gates("clip", accuracy, time_sides(40, 10))

    assert results(gates)["dsc_drift"] is None
    assert results(gates)["dsc_drift_worst_clip"] is None
    assert verdict(gates) == "incomplete"
    assert exit_code(gates) == 8
    with pytest.raises(VerificationIncomplete, match="no clip with ground truth"):
        check_gates(gates)
    check_gates(gates, allow_incomplete=True)


@pytest.mark.parametrize("n_patients", range(1, MIN_PATIENTS + 1))
def test_an_interval_needs_enough_patients_however_many_clips(
    n_patients: int, make_clip: MakeClip, baseline: Network
) -> None:
    clips = [
        make_clip(f"p{patient}", f"clip{index}")
        for patient, index in itertools.product(range(n_patients), range(4))
    ]

    found = results(evaluate_gates("clip", measure_accuracy(baseline, baseline, clips), None))

    for name in ("dsc_drift", "hd95_drift", "ef_drift"):
        assert found[name] is (True if n_patients >= MIN_PATIENTS else None)
    assert found["dsc_drift_worst_clip"] is True


def test_the_dsc_gate_is_on_the_upper_end_of_the_interval(unchanged: AccuracyResult) -> None:
    dsc = dataclasses.replace(unchanged.drift.dsc, mean=0.4, low=0.1, high=0.6)
    drift = dataclasses.replace(unchanged.drift, dsc=dsc)

    gates = evaluate_gates("clip", dataclasses.replace(unchanged, drift=drift), None)

    (found,) = (gate for gate in gates if gate.name == "dsc_drift")
    assert (found.value, found.passed) == (0.6, False)


@pytest.mark.parametrize(
    ("name", "field", "ends"),
    [
        ("dsc_drift", "dsc", (-9.0, 0.5)),
        ("ef_drift", "ef", (0.0, 1.0)),
        ("hd95_drift", "hd95_px", (-1.0, 9.0)),  # the lower end is where the engine is worse
    ],
)
def test_a_gate_on_an_interval_holds_at_exactly_its_limit(
    unchanged: AccuracyResult, name: str, field: str, ends: tuple[float, float]
) -> None:
    def passed(low: float, high: float) -> bool | None:
        summary = dataclasses.replace(getattr(unchanged.drift, field), low=low, high=high)
        drift = dataclasses.replace(unchanged.drift, **{field: summary})
        accuracy = dataclasses.replace(unchanged, drift=drift)
        return results(evaluate_gates("clip", accuracy, None))[name]

    assert passed(*ends) is True
    assert passed(ends[0] - 1e-9, ends[1] + 1e-9) is False


def test_hd95_is_gated_in_pixels_whatever_the_spacing(
    make_clip: MakeClip, baseline: Network, eroding_engine: Network
) -> None:
    """An engine that erodes by a pixel all around loses a pixel; of 0.2 x 0.7 mm or unknown."""
    for spacing in (None, (0.3, 0.3), (0.2, 0.7)):
        clips = [make_clip(f"p{index}", spacing_mm=spacing) for index in range(4)]
        accuracy = measure_accuracy(baseline, eroding_engine, clips)

        (found,) = (g for g in evaluate_gates("clip", accuracy, None) if g.name == "hd95_drift")

        assert found.value == pytest.approx(1)
        assert found.unit == "px"


def test_an_engine_that_loses_two_pixels_of_border_fails(
    five_clips: list[Clip], baseline: Network, eroding_engine: Network
) -> None:
    def twice(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        once = np.where(eroding_engine(frames) > 0, 200, 0).astype(np.uint8)
        return eroding_engine(once)

    found = evaluate_gates("clip", measure_accuracy(baseline, twice, five_clips), None)

    assert results(found)["hd95_drift"] is False


def test_hd95_without_truth_is_not_measured(make_clip: MakeClip, baseline: Network) -> None:
    clips = [make_clip(f"p{index}", truth=False) for index in range(5)]

    gates = evaluate_gates("clip", measure_accuracy(baseline, baseline, clips), None)

    (found,) = (gate for gate in gates if gate.name == "hd95_drift")
    assert found.passed is None
    assert "HD95" in found.reason


@pytest.mark.parametrize(
    ("limit", "passed"), [(99.0, True), (99.5, True), (99.50001, False), (100.0, False)]
)
def test_agreement_must_not_fall_below_its_limit(
    unchanged: AccuracyResult, limit: float, passed: bool
) -> None:
    dsc = dataclasses.replace(unchanged.agreement.dsc, mean=99.5)
    agreement = dataclasses.replace(unchanged.agreement, dsc=dsc)
    accuracy = dataclasses.replace(unchanged, agreement=agreement)

    gates = evaluate_gates("clip", accuracy, None, {"agreement_dsc": limit})

    (found,) = (gate for gate in gates if gate.name == "agreement_dsc")
    assert (found.value, found.passed, found.relation) == (99.5, passed, ">=")


BEAT = (60, 70, 72, 66, 52, 42, 40, 42, 50)


def live_of(*sides: tuple[tuple[int, ...], tuple[int, ...]]) -> LiveResult:
    """Areas (baseline, engine) of one sequence of each patient, of 1,000 pixels."""

    def mask(pixels: int) -> NDArray[np.bool_]:
        return np.arange(1000).reshape(10, 100) < pixels

    rows = [
        follow_sequence(
            f"s{index}",
            f"p{index}",
            "test",
            [(mask(a), mask(b)) for a, b in zip(*pair, strict=True)],
            4,
        )
        for index, pair in enumerate(sides)
    ]
    return summarize_live(rows, 4)


LIVE_LIMITS = {"flicker": 0.4, "ed_es_shift": 1.0}


def test_live_gates_are_of_the_stream_alone(unchanged: AccuracyResult) -> None:
    gates = evaluate_gates("clip", unchanged, None, LIVE_LIMITS)

    assert LIVE_GATES.isdisjoint(results(gates))
    assert set(OPTIONAL_LIMITS) >= LIVE_GATES
    assert LIVE_GATES.isdisjoint(results(evaluate_gates("stream", unchanged, None)))
    assert limits_of_mode("clip", {"speedup": 1, **LIVE_LIMITS}) == {"speedup": 1}
    assert limits_of_mode("stream", LIVE_LIMITS) == LIVE_LIMITS


def test_live_gates_at_exactly_their_limits(unchanged: AccuracyResult) -> None:
    late = BEAT[:1] + BEAT[:-1]
    flickers = tuple(area + 4 * (index % 2) for index, area in enumerate((100,) * 9))

    shifted = evaluate_gates("stream", unchanged, None, LIVE_LIMITS, live_of((BEAT, late)))
    restless = evaluate_gates(
        "stream", unchanged, None, {"flicker": 0.4}, live_of(((100,) * 9, flickers))
    )

    assert results(shifted)["ed_es_shift"] is True
    assert results(restless)["flicker"] is True
    limits = {"ed_es_shift": 0.999, "flicker": 0.3999}
    assert (
        results(evaluate_gates("stream", None, None, limits, live_of((BEAT, late))))["ed_es_shift"]
        is False
    )
    assert (
        results(evaluate_gates("stream", None, None, limits, live_of(((100,) * 9, flickers))))[
            "flicker"
        ]
        is False
    )


def test_live_gates_that_could_not_be_measured_are_null(unchanged: AccuracyResult) -> None:
    still = live_of(((50,) * 9, (50,) * 9))
    one = live_of(((50,), (50,)))

    for live, expected in ((None, (None, None)), (still, (True, None)), (one, (None, None))):
        found = results(evaluate_gates("stream", unchanged, None, LIVE_LIMITS, live))
        assert (found["flicker"], found["ed_es_shift"]) == expected


def test_a_beat_that_only_the_engine_lacks_fails(unchanged: AccuracyResult) -> None:
    live = live_of((BEAT, BEAT), (BEAT, (50,) * 9))

    gates = evaluate_gates("stream", unchanged, None, LIVE_LIMITS, live)

    (found,) = (gate for gate in gates if gate.name == "ed_es_shift")
    assert (found.value, found.passed) == (0, False)  # over the other: would pass
    assert "1 beats" in found.reason


def test_every_gate_has_a_unit() -> None:
    assert set(UNITS) == {*DEFAULT_LIMITS, *OPTIONAL_LIMITS}


GATES = Path(__file__).parents[2] / "docs" / "gates"


def test_the_shipped_gates_can_be_loaded_and_are_stricter_than_the_default_ones() -> None:
    strict, double = (load_gates(GATES / f"{name}.toml") for name in ("int8", "int8-tensorrt"))

    assert strict == {
        "dsc_drift": 0.05,
        "dsc_drift_worst_clip": 0.8,
        "hd95_drift": 0.05,
        "ef_drift": 0.3,
        "speedup": 1.0,
        "agreement_dsc": 99.8,
        "pixel_disagreement": 0.05,
    }
    for name, limit in strict.items():
        if name == "speedup":
            assert double[name] == limit
        elif name == "agreement_dsc":
            assert 100 - double[name] == pytest.approx(2 * (100 - limit))
        else:
            assert double[name] == pytest.approx(2 * limit)
            assert double[name] <= DEFAULT_LIMITS.get(name, math.inf)
    assert set(double) == set(strict)
    assert {path.name for path in GATES.iterdir()} == {"int8.toml", "int8-tensorrt.toml"}


def test_what_was_not_measured_at_all_is_null() -> None:
    gates = evaluate_gates("stream", None, None)

    assert set(results(gates).values()) == {None}
    assert {gate.mode for gate in gates} == {"stream"}
    assert all(gate.reason for gate in gates)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["high", "worst"])
def test_a_value_that_is_no_number_is_null(
    unchanged: AccuracyResult, field: str, value: float
) -> None:
    dsc = unchanged.drift.dsc
    dsc = (
        dataclasses.replace(dsc, high=value)
        if field == "high"
        else dataclasses.replace(dsc, worst=value)
    )
    drift = dataclasses.replace(unchanged.drift, dsc=dsc)

    found = results(evaluate_gates("clip", dataclasses.replace(unchanged, drift=drift), None))

    assert found["dsc_drift" if field == "high" else "dsc_drift_worst_clip"] is None


def test_a_speedup_that_is_no_number_is_null(
    unchanged: AccuracyResult, time_sides: TimeSides
) -> None:
    gates = evaluate_gates("clip", unchanged, time_sides(0, 0))

    assert results(gates)["speedup"] is None
    assert exit_code(gates) == 8


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_or_inf_logits_fail_even_where_no_mask_changes(
    bad: float, five_clips: list[Clip], baseline: Network, time_sides: TimeSides
) -> None:
    def one_bad_background_pixel(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = baseline(frames)
        logits[1, 0, 0, 0] = bad
        return logits

    accuracy = measure_accuracy(baseline, one_bad_background_pixel, five_clips)
    gates = evaluate_gates("clip", accuracy, time_sides(40, 10))

    assert results(gates)["finite_logits"] is False
    assert exit_code(gates) == 3
    with pytest.raises(AccuracyGateFailed, match="5 clips with nan or inf"):
        check_gates(gates)


def test_nan_everywhere_fails(five_clips: list[Clip], baseline: Network) -> None:
    accuracy = measure_accuracy(
        baseline, lambda frames: np.full(frames.shape, np.nan, np.float32), five_clips
    )

    found = results(evaluate_gates("clip", accuracy, None))

    assert found["finite_logits"] is found["dsc_drift"] is found["ef_drift"] is False


def test_an_ejection_fraction_only_the_engine_lacks_fails(
    five_clips: list[Clip], baseline: Network
) -> None:
    def blank_on_one_clip(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        calls.append(1)
        logits = baseline(frames)
        if len(calls) == 1:
            logits[-1] = -5
        return logits

    calls: list[int] = []
    accuracy = measure_accuracy(baseline, blank_on_one_clip, five_clips)
    (found,) = (g for g in evaluate_gates("clip", accuracy, None) if g.name == "ef_drift")

    assert found.value == 0  # over the other four: would pass
    assert found.passed is False
    assert "on 1 clips" in found.reason


def test_pixel_disagreement_is_a_gate_only_when_asked_for(degraded: AccuracyResult) -> None:
    assert "pixel_disagreement" not in results(evaluate_gates("clip", degraded, None))

    gates = evaluate_gates("clip", degraded, None, {"pixel_disagreement": 1.0})

    assert results(gates)["pixel_disagreement"] is False
    assert "dsc_drift" in results(gates)  # a default gate that is not named stays


def test_a_gate_cannot_pass_without_a_number() -> None:
    for value in (None, math.nan, math.inf):
        with pytest.raises(ValueError, match="cannot pass"):
            Gate("dsc_drift", "clip", 0.5, value, "points", True)


@pytest.mark.parametrize(
    ("passed", "word", "code"),
    [
        ((True, True), "pass", 0),
        ((True, None), "incomplete", 8),
        ((None, False), "fail", 3),
        ((), "incomplete", 8),
    ],
)
def test_the_verdict_is_that_of_the_worst_gate(
    passed: tuple[bool | None, ...], word: str, code: int
) -> None:
    gates = [gate(p) for p in passed]

    assert verdict(gates) == word
    assert exit_code(gates) == code


def test_a_slow_engine_with_unmeasured_accuracy_is_a_failure() -> None:
    assert exit_code([gate(None), gate(False, "speedup")]) == 4


def test_limits_from_a_file_replace_the_default_ones(tmp_path: Path) -> None:
    path = tmp_path / "gates.toml"
    path.write_text("[gates]\ndsc_drift = 0.2\nspeedup = 3\n")

    assert load_gates(path) == {**DEFAULT_LIMITS, "dsc_drift": 0.2, "speedup": 3.0}


@pytest.mark.parametrize(
    "text",
    [
        "[gates]\ndsc_drfit = 0.2",
        "[gates]\ndsc_drift = nan",
        "[gates]\ndsc_drift = inf",
        "[gates]\ndsc_drift = -1",
        "[gates]\ndsc_drift = true",
        '[gates]\ndsc_drift = "0.5"',
        "dsc_drift = 0.5",
        "gates = 1",
        "[gates]\n[other]",
        "[gates",
        "",
    ],
)
def test_a_gates_file_with_a_mistake_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "gates.toml"
    path.write_text(text)

    with pytest.raises(UsageError, match=r"gates\.toml"):
        load_gates(path)


NAMES = (*DEFAULT_LIMITS, *OPTIONAL_LIMITS)

LIMITS = st.floats(min_value=0, allow_infinity=False) | st.integers(0, 10**15)

TOML_VALUES = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.text("abc\\n", max_size=5).map(repr),
    st.just("[]") | st.just("{}") | st.just("2026-01-01") | st.just("0x10") | st.just("1_000"),
    st.text(max_size=8),
)


def read_or_refused(path: Path, text: str) -> dict[str, float] | None:
    """The limits, or None where the file was refused in one line."""
    path.write_text(text, encoding="utf-8", newline="")
    try:
        return load_gates(path)
    except UsageError as error:
        message = str(error)
    assert path.name in message
    assert "\n" not in message
    return None


@given(limits=st.dictionaries(st.sampled_from(NAMES), LIMITS))
def test_any_limits_come_back_as_they_were_written(
    limits: dict[str, float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "written-gates.toml"
    lines = [f"{name} = {limit!r}" for name, limit in limits.items()]

    found = read_or_refused(path, "\n".join(["[gates]", *lines]))

    assert found == {**DEFAULT_LIMITS, **limits}


@given(name=st.sampled_from(NAMES) | st.text(max_size=8), value=TOML_VALUES)
@example(name="speedup", value="-0.0")
def test_any_line_is_a_limit_or_refused(
    name: str, value: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed-gates.toml"

    found = read_or_refused(path, f"[gates]\n{name} = {value}\n")

    if found is not None:
        assert set(found) <= set(NAMES)
        assert all(0 <= limit < math.inf for limit in found.values())


@settings(max_examples=60)
@given(content=st.binary(max_size=100))
def test_any_bytes_are_limits_or_refused(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes-gates.toml"
    path.write_bytes(content)

    with pytest.raises(UsageError):
        load_gates(path)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("gates = " + "[" * 5_000, id="nested 5000 deep"),
        pytest.param("[gates]\nspeedup = " + "9" * 5_000, id="an integer of 5000 digits"),
        pytest.param("[gates]\nspeedup = " + "9" * 400, id="an integer beyond any double"),
    ],
)
def test_a_hostile_gates_file_is_refused(text: str, tmp_path: Path) -> None:
    assert read_or_refused(tmp_path / "gates.toml", text) is None


def test_a_missing_gates_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        load_gates(tmp_path / "none.toml")


def test_limits_given_in_code_are_checked_too(unchanged: AccuracyResult) -> None:
    with pytest.raises(UsageError, match="dsc_drop"):
        evaluate_gates("clip", unchanged, None, {"dsc_drop": 1.0})


def test_a_settings_file_may_hold_the_gates(tmp_path: Path) -> None:
    path = tmp_path / "pkecho-edge.toml"
    path.write_text('[compile]\ntarget = "cpu"\n\n[gates]\nef_drift = 0.25\n')

    assert load_gates(path) == {**DEFAULT_LIMITS, "ef_drift": 0.25}

    path.write_text("[compile]\n[gate]\nef_drift = 0.25\n")
    with pytest.raises(UsageError, match=r"not one \[gates\] table"):
        load_gates(path)
