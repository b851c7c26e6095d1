"""The search from end to end, with stand-ins for what takes long: pruning, building, compiling.

Scores and their cache are real: engines answer with the truth but for some columns of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pkecho_edge import candidates, pruning_stage, searching
from pkecho_edge.building import Built, EngineOrder
from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.candidates import Table
from pkecho_edge.data import sources
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import AccuracyGateFailed, CheckpointError, UsageError
from pkecho_edge.measuring import Side
from pkecho_edge.model import baseline as baselines
from pkecho_edge.pipeline import CompileOrder
from pkecho_edge.pruning_stage import Lineaged
from pkecho_edge.targets.base import CompileOptions, Engine
from pkecho_edge.tune_order import TuneOrder
from pkecho_edge.tuning.choose import QuantizationOrder
from pkecho_edge.tuning.search import Budget, Scored
from pkecho_edge.verify.gates import Gate

SIZE, FRAMES = (32, 64), 3
BUDGET = Budget(max_dsc_drop=5.0, max_ef_drift=100.0)
BASELINE = "b" * 64

Figures = Mapping[tuple[str, str], tuple[float, int]]
"""(network, quantization) -> frames/s, and how many of the mask's 32 columns its engine misses."""


def _clip(patient: int) -> Clip:
    truth = np.zeros((FRAMES, *SIZE), dtype=np.bool_)
    for frame in range(FRAMES):
        truth[frame, 4 + frame : 28, 16:48] = True
    return Clip(
        identifier=f"{patient}@0-2",
        recording=str(patient),
        patient=str(patient),
        source="test",
        frames=np.full((FRAMES, 1, *SIZE), patient, dtype=np.uint8),
        frame_indices=(0, 1, 2),
        truth=truth,
        labelled=(True,) * FRAMES,
        ed_index=0,
        es_index=2,
    )


CLIPS = [_clip(patient) for patient in range(4)]


def _logits(missing: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The truth as logits [T, 1, H, W], without `missing` columns."""
    assert CLIPS[0].truth is not None
    mask = CLIPS[0].truth.copy()
    mask[:, :, 16 : 16 + missing] = False
    return np.where(mask, np.float32(1), np.float32(-1))[:, None]


@dataclass
class World:
    """What the stand-ins answer, and what they were asked."""

    folder: Path
    figures: dict[tuple[str, str], tuple[float, int]]
    restored: set[str] = field(default_factory=set)
    unreachable: set[float] = field(default_factory=set)
    fails_verification: set[str] = field(default_factory=set)
    pruned: list[float] = field(default_factory=list)
    scored: list[str] = field(default_factory=list)
    compiled: list[tuple[str, QuantizationOrder]] = field(default_factory=list)
    dies_at: str = ""

    def tune(self, on_scored: Table = len, **options: Any) -> searching.TuneResult:
        source = sources.phantoms(range(4), SIZE)
        asked: dict[str, Any] = {
            "calibration": source,
            "verification": source,
            "trial": source,
            "budget": BUDGET,
            "ratios": (0.0, 0.5, 0.8),
            "prune_steps": 0,
            "precisions": ("f32",),
        }
        order = TuneOrder(self.folder / "heart.pt", self.folder / "out", **{**asked, **options})
        return searching.tune(order, cache=self.folder / "cache", on_scored=on_scored)

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "out" / "tune.json").read_text())
        return found

    # the stand-ins

    def load_lineaged(self, path: Path, given: Path | None, stages: object) -> Lineaged:
        name = "unpruned" if path.stem == "heart" else path.stem
        network: Any = SimpleNamespace(name=name, config=SimpleNamespace(frames=FRAMES))
        report = None if name == "unpruned" else {"baseline_sha256": BASELINE}
        return Lineaged(network, f"sha of {name}", network, BASELINE, report)

    def prune(self, parent: Lineaged, order: Any, *_: Any, **__: Any) -> SimpleNamespace:
        if order.ratio in self.unreachable:
            raise UsageError(f"ratio {order.ratio} is out of reach", remedy="Use at most 0.7")
        self.pruned.append(order.ratio)
        return SimpleNamespace(path=Path(f"{order.ratio}.safetensors"))

    def build(self, material: Any, asked: EngineOrder, *_: object) -> Built:
        network, modes, options = material.network, asked.modes, asked.options
        order = asked.quantization
        assert (material.baseline is not None) == (network.name != "unpruned")
        restored = order.restore and network.name in self.restored
        kind = "float" if order.float_layers else "mixed" if restored else "int8"
        folder = self.folder / "engines" / f"{network.name} {kind}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "engine").write_text(folder.name)
        engine = Engine("cpu", folder, ("engine",), (), (), options.as_dict())
        quantization = {
            "rule": "minmax/minmax+bias",
            "float_layers": [*order.float_layers, *["stem"] * restored],
            "restoring": {"restored": [{"layer": "stem"}] if restored else []},
        }
        return Built(
            dict.fromkeys(modes, folder), dict.fromkeys(modes, engine), quantization, (), ()
        )

    @contextmanager
    def sides(self, target: str, engines: Mapping[str, Engine]) -> Iterator[dict[str, Side]]:
        found = {}
        for mode, engine in engines.items():
            name = engine.directory.name
            network, kind = name.split()
            fps, missing = self.figures[network, kind]
            found[mode] = Side(self._segment(name, missing), lambda _, fps=fps: fps, 1)
        yield found

    def _segment(self, name: str, missing: int) -> Callable[[Any], Any]:
        def segment(frames: object) -> Any:
            if name == self.dies_at:
                raise KeyboardInterrupt
            self.scored.append(name)
            return _logits(missing)

        return segment

    def compile(self, order: CompileOrder, **_: object) -> SimpleNamespace:
        name = "unpruned" if order.checkpoint.stem == "heart" else order.checkpoint.stem
        self.compiled.append((name, order.quantization))
        order.out.mkdir(exist_ok=order.overwrite)
        (order.out / "manifest.json").write_text(name)
        limit = order.limits["dsc_drift"]
        value = limit + 1 if name in self.fails_verification else limit
        gate = Gate("dsc_drift", "stream", limit, value, "points", value <= limit)
        return SimpleNamespace(verification=SimpleNamespace(gates=(gate,)))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    figures = {
        ("unpruned", "int8"): (100.0, 0),
        ("unpruned", "float"): (50.0, 0),
        ("0.5", "int8"): (200.0, 1),
        ("0.5", "mixed"): (180.0, 1),
        ("0.5", "float"): (80.0, 1),
        ("0.8", "int8"): (400.0, 4),
        ("0.8", "mixed"): (300.0, 2),
        ("0.8", "float"): (120.0, 4),
    }
    found = World(tmp_path, figures)

    def calibration(*_: object) -> tuple[CalibrationSet, list[Clip], list[Clip]]:
        return CalibrationSet.of(CLIPS, "random", 0), CLIPS, []

    def turns(calls: Sequence[Callable[[], Any]], rounds: int, **_: Any) -> list[list[int]]:
        return [[round(1e9 / call())] for call in calls]

    for module, name, stand_in in (
        (searching, "load_lineaged", found.load_lineaged),
        (searching, "calibration_clips_of", calibration),
        (searching, "trial_clips_of", lambda *_: CLIPS),
        (searching, "scored_clips", lambda *_: CLIPS),
        (searching, "draw_pareto", lambda *given: given[-1].write_bytes(b"a picture")),
        (searching, "read_bundle", lambda path: SimpleNamespace(path=path)),
        (searching.pipeline, "compile", found.compile),
        (candidates, "load_lineaged", found.load_lineaged),
        (candidates, "prune_checkpoint", found.prune),
        (candidates, "build_engines", found.build),
        (candidates, "loaded_sides", found.sides),
        (candidates, "count_gmacs", lambda *_: 1.0),
        (candidates, "take_turns", turns),
        (candidates, "_all_but_smallest", lambda _: ("stem", "neck")),
        (baselines, "baseline_stream_runner", lambda _: lambda frames: _logits(0)),
    ):
        monkeypatch.setattr(module, name, stand_in)
    return found


def test_the_fastest_engine_inside_the_budget_becomes_the_bundle(world: World) -> None:
    result = world.tune()

    assert result.choice.chosen is not None
    assert result.choice.chosen.candidate.label == "-50 % INT8/f32"
    assert result.bundle.path == world.folder / "out" / "heart-cpu.pkb"
    assert (result.bundle.path / "manifest.json").read_text() == "0.5"
    assert sorted(path.name for path in (world.folder / "out").iterdir()) == [
        "heart-cpu.pkb",
        "pareto.png",
        "tune.json",
    ]


def test_every_candidate_stands_in_the_figures(world: World) -> None:
    world.tune()

    document = world.document
    assert document["schema"] == "pkecho-edge/tune/1"
    assert document["bundle"] == "heart-cpu.pkb"
    assert document["chosen"] == "-50 % INT8/f32"
    assert document["reason"].startswith("-50 % INT8/f32 is the fastest of 4 inside")
    rows = {row["label"]: row for row in document["candidates"]}
    assert list(rows) == [
        f"{network} {kind}/f32"
        for network in ("unpruned", "-50 %", "-80 %")
        for kind in ("INT8", "float")
    ]
    assert rows["-50 % INT8/f32"]["fps"] == pytest.approx(200)
    # 31 of 32 columns: DSC 62/63
    assert rows["-50 % INT8/f32"]["dsc_drift"] == pytest.approx(100 / 63)
    assert rows["-50 % INT8/f32"]["hd95_drift"] == pytest.approx(1)  # one of its four sides
    assert rows["-80 % INT8/f32"]["breaks"] == ["DSC drift 6.67 > 5 points"]
    assert rows["unpruned float/f32"]["float_layers"] == ["stem", "neck"]
    assert [label for label, row in rows.items() if row["chosen"]] == ["-50 % INT8/f32"]
    assert "cpu" in document["machine"]


def test_layers_that_returned_to_float_make_two_candidates(world: World) -> None:
    world.restored = {"0.8"}

    result = world.tune()

    labels = [row.candidate.label for row in result.rows]
    assert labels[-3:] == ["-80 % mixed/f32", "-80 % INT8/f32", "-80 % float/f32"]
    assert result.choice.chosen is not None
    assert result.choice.chosen.candidate.label == "-80 % mixed/f32"
    ((name, order),) = world.compiled
    assert (name, order.restore) == ("0.8", True)


def test_a_ratio_out_of_reach_is_a_row_and_the_search_goes_on(world: World) -> None:
    world.unreachable = {0.8}

    result = world.tune()

    assert "ratio 0.8 is out of reach. Use at most 0.7" in result.rows[-1].failed
    assert result.choice.chosen is not None
    assert result.choice.chosen.candidate.label == "-50 % INT8/f32"


def test_where_every_candidate_fails_its_own_error_is_raised(world: World) -> None:
    world.unreachable = {0.5, 0.8}

    with pytest.raises(UsageError, match=r"ratio 0\.5 is out of reach"):
        world.tune(ratios=(0.5, 0.8))


def test_where_nothing_fits_the_closest_is_named_and_the_figures_are_written(world: World) -> None:
    with pytest.raises(AccuracyGateFailed, match=r"closest came -80 % INT8/f32") as caught:
        world.tune(budget=Budget(5.0, 100.0, 420))

    assert caught.value.exit_code == 3
    assert "400 < 420 frames/s" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert world.document["chosen"] is world.document["bundle"] is None
    assert (world.folder / "out" / "pareto.png").is_file()
    assert not (world.folder / "out" / "heart-cpu.pkb").exists()
    assert world.compiled == []


def test_when_verification_fails_the_next_candidate_is_taken(world: World) -> None:
    world.fails_verification = {"0.5"}

    result = world.tune()

    assert [name for name, _ in world.compiled] == ["0.5", "unpruned"]
    assert result.choice.chosen is not None
    assert result.choice.chosen.candidate.label == "unpruned INT8/f32"
    assert (result.bundle.path / "manifest.json").read_text() == "unpruned"
    (row,) = [row for row in result.rows if row.candidate.label == "-50 % INT8/f32"]
    assert row.ruled_out == "dsc_drift (stream) 6 points, limit <= 5"
    assert "-50 % INT8/f32 is faster but out: verification" in result.choice.reason


def test_when_verification_fails_them_all_no_bundle_is_left(world: World) -> None:
    world.fails_verification = {"unpruned", "0.5", "0.8"}

    with pytest.raises(AccuracyGateFailed, match="verification: dsc_drift"):
        world.tune()

    names = sorted(path.name for path in (world.folder / "out").iterdir())
    assert names == ["pareto.png", "tune.json"]


def test_an_interrupted_search_goes_on_without_repeating(world: World) -> None:
    world.dies_at = "0.5 float"
    with pytest.raises(KeyboardInterrupt):
        world.tune()
    before = set(world.scored)
    assert before == {"unpruned int8", "unpruned float", "0.5 int8"}

    world.dies_at = ""
    world.scored.clear()
    result = world.tune()

    assert set(world.scored) == {"0.5 float", "0.8 int8", "0.8 float"}
    assert len(result.rows) == 6
    assert all(row.measured for row in result.rows)
    assert not list((world.folder / "out").glob(".*"))


def test_speeds_are_of_one_run_in_which_all_engines_take_turns(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is twice as slow in every later run: the figures of an earlier one are gone."""
    runs: list[int] = []

    def turns(calls: Sequence[Callable[[], Any]], rounds: int, **_: Any) -> list[list[int]]:
        runs.append(len(calls))
        return [[round(1e9 * len(runs) / call())] for call in calls]

    monkeypatch.setattr(candidates, "take_turns", turns)
    result = world.tune()

    assert runs == [1, 2, 3, 4, 5, 6, 6]
    found = {row.candidate.label: row.fps for row in result.rows}
    assert found["unpruned INT8/f32"] == pytest.approx(100 / 7)
    assert found["-80 % INT8/f32"] == pytest.approx(400 / 7)


def test_a_table_hears_of_every_candidate(world: World) -> None:
    heard: list[Sequence[Scored]] = []

    world.tune(on_scored=heard.append)

    assert [len(rows) for rows in heard] == [1, 2, 3, 4, 5, 6, 6]


@pytest.fixture
def small(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint pruned elsewhere, from the same baseline, that makes the best engine."""
    report = {"baseline_sha256": BASELINE}
    monkeypatch.setattr(pruning_stage, "read_report", lambda _: report)
    world.figures |= {("small", "int8"): (900.0, 1), ("small", "float"): (300.0, 1)}
    return world.folder / "small.safetensors"


def test_a_checkpoint_pruned_elsewhere_is_a_candidate(world: World, small: Path) -> None:
    result = world.tune(also=[small])

    assert result.choice.chosen is not None
    assert result.choice.chosen.candidate.label == "small INT8/f32"
    assert world.compiled[0][0] == "small"
    assert world.pruned == [0.5, 0.8]


@pytest.mark.parametrize(
    ("report", "says"),
    [
        ({"baseline_sha256": "c" * 64}, "was pruned from another baseline, cccccccccccc"),
        (None, "does not say from which checkpoint it was pruned"),
    ],
)
def test_one_of_another_baseline_is_refused_before_any_work(
    world: World,
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
    report: dict[str, str] | None,
    says: str,
) -> None:
    monkeypatch.setattr(pruning_stage, "read_report", lambda _: report)

    with pytest.raises(CheckpointError, match=says):
        world.tune(also=[small])

    assert world.pruned == world.scored == []


def test_a_bundle_that_is_there_is_replaced_only_when_asked(world: World) -> None:
    world.tune()
    with pytest.raises(UsageError, match="exists"):
        world.tune()

    world.tune(overwrite=True, ratios=(0.0,))

    bundle = world.folder / "out" / "heart-cpu.pkb"
    assert (bundle / "manifest.json").read_text() == "unpruned"


def test_an_old_bundle_does_not_stay_where_nothing_fits(world: World) -> None:
    world.tune()

    with pytest.raises(AccuracyGateFailed):
        world.tune(overwrite=True, budget=replace(BUDGET, min_fps=1e6))

    assert not (world.folder / "out" / "heart-cpu.pkb").exists()


def test_a_folder_that_is_no_bundle_is_never_replaced(world: World) -> None:
    place = world.folder / "out" / "heart-cpu.pkb"
    place.mkdir(parents=True)
    (place / "thesis.txt").write_text("years of work")

    with pytest.raises(UsageError, match="no bundle"):
        world.tune(overwrite=True)

    assert (place / "thesis.txt").exists()


def test_a_target_that_is_timed_elsewhere_is_refused(world: World) -> None:
    options = CompileOptions("f16")

    with pytest.raises(UsageError, match="timed on their device"):
        world.tune(target="jetson", precisions=(), options=options)
