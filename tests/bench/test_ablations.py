"""The paper's ablations: its tables, the figures that come of scores, and the runs behind them.

Runs train a narrow ResNet-18 on samples of 64x64 pixels.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors import safe_open

from pkecho_edge.bench import ablations
from pkecho_edge.bench.ablation_report import AblationReport
from pkecho_edge.bench.ablation_tables import (
    TABLES,
    VARIANTS,
    AblationTable,
    PaperFigures,
    Row,
    chosen_tables,
)
from pkecho_edge.bench.ablations import (
    AblationRow,
    Scores,
    Study,
    run_ablations,
    table_rows,
    variants_of,
)
from pkecho_edge.cli import ablate as command
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import UnusableInput, UsageError
from pkecho_edge.metrics.significance import signed_rank
from pkecho_edge.model import baseline
from pkecho_edge.model.checkpoint import load_checkpoint
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.training.distance import signed_distance
from pkecho_edge.training.recipe import Recipe
from pkecho_edge.training.samples import Samples
from pkecho_edge.verify.evaluation import evaluate

FRAMES, SIDE = 3, 64
RECIPE = Recipe(epochs=1, batch=2, precision="f32", save_every=1)
STEPS = 2  # three samples in batches of two

# The paper's tables


def test_every_row_is_a_network() -> None:
    for name, table in TABLES.items():
        assert table.reference in [row.variant for row in table.rows], name
        assert len({row.label for row in table.rows}) == len(table.rows), name
        for row in table.rows:
            NetworkConfig(backbone="resnet50", **VARIANTS[row.variant])


def test_no_two_variants_are_one_network() -> None:
    configs = [NetworkConfig(**fields) for fields in VARIANTS.values()]

    assert len(set(configs)) == len(configs)
    assert NetworkConfig() == NetworkConfig(**VARIANTS["whole"])
    assert set(variants_of(TABLES)) == set(VARIANTS)  # none that no table has


def test_the_rows_differ_in_what_their_table_is_about() -> None:
    def values(name: str, *fields: str) -> list[tuple[Any, ...]]:
        configs = [NetworkConfig(**VARIANTS[row.variant]) for row in TABLES[name].rows]
        return [tuple(getattr(config, field) for field in fields) for config in configs]

    assert values("3", "region_proxies", "refinements") == [
        ("none", 0), ("vanilla", 0), ("interval-3", 0), ("interval-2", 0), ("interval-1", 0),
    ]  # fmt: skip
    assert values("4", "region_proxies", "refinements", "interaction", "temporal_attention")[
        1:
    ] == [
        ("none", 3, "gating", False),
        ("none", 3, "gating", True),
        ("none", 3, "hybrid", False),
        ("none", 3, "hybrid", True),
    ]
    assert values("5", "region_proxies", "refinements") == [
        ("interval-1", number) for number in range(5)
    ]


def test_the_papers_figures() -> None:
    def figures(name: str, label: str) -> PaperFigures | None:
        (row,) = (row for row in TABLES[name].rows if row.label == label)
        return row.paper

    assert figures("5", "3") == PaperFigures(94.2, 3.4, 1.1)
    assert figures("3", "bilinear") == PaperFigures(92.3, 4.5, 1.6)
    # one network has one set of figures, in whichever table
    seen: dict[str, set[PaperFigures]] = {}
    for table in TABLES.values():
        for row in table.rows:
            if row.paper is not None:
                seen.setdefault(row.variant, set()).add(row.paper)
    assert {variant: len(figures) for variant, figures in seen.items()} == dict.fromkeys(seen, 1)


def test_variants_come_once_each_in_the_order_of_their_list() -> None:
    assert variants_of(chosen_tables(["5", "3"])) == [
        "backbone", "vanilla", "interval-3", "interval-2", "interval-1",
        "refinements-1", "refinements-2", "whole", "refinements-4",
    ]  # fmt: skip


def test_tables_are_chosen_by_name() -> None:
    assert list(chosen_tables(["5", "whole"])) == ["5", "whole"]
    with pytest.raises(UsageError, match=r"unknown table '6'\. Use 3, 4, 5, whole"):
        chosen_tables(["5", "6"])
    with pytest.raises(UsageError, match="no table is named"):
        chosen_tables([])


# Figures of made-up scores

PATIENTS = tuple(f"patient-{number}" for number in range(6))
TABLE = AblationTable(
    "made up",
    (Row("less", "kss", PaperFigures(90.0, 4.0, None)), Row("more", "whole")),
    reference="whole",
)


def run(dsc: Mapping[str, float], hd95: Mapping[str, float], asd: float = 1.0) -> Scores:
    figures = {"dsc": dsc, "hd95": hd95, "asd": dict.fromkeys(hd95, asd), "ef": {}}
    others: dict[str, dict[str, float]] = {column: {"x": -1.0} for column in figures}
    return {"ed_es": figures, "labelled": others}


def by_patient(*values: float) -> dict[str, float]:
    return dict(zip(PATIENTS, values, strict=True))


LESS = [
    run(by_patient(90, 91, 92, 93, 94, 86), by_patient(4, 5, 6, 5, 4, 6), asd=1.5),
    run(by_patient(92, 93, 94, 95, 96, 88), by_patient(5, 4, 3, 4, 5, 3), asd=2.5),
]
MORE = [
    run(by_patient(92, 90, 95, 94, 97, 90), by_patient(3, 3, 3, 3, 3, 3)),
    run(by_patient(91, 94, 92, 93, 95, 87), by_patient(3, 3, 3, 3, 3, 3)),
]


def test_means_and_spread_over_seeds() -> None:
    less, more = table_rows(TABLE, {"kss": LESS, "whole": MORE})

    assert (less.label, less.variant, less.paper) == ("less", "kss", PaperFigures(90.0, 4.0, None))
    # means of the two seeds: 91 and 93; 93 and 92
    assert (less.dsc, more.dsc) == (92.0, 92.5)
    assert less.dsc_sd == pytest.approx(math.sqrt(2))
    assert more.dsc_sd == pytest.approx(math.sqrt(0.5))
    assert (less.hd95, more.hd95) == (4.5, 3.0)
    assert (less.asd, more.asd) == (2.0, 1.0)


def test_seeds_are_compared_one_by_one() -> None:
    less, more = table_rows(TABLE, {"kss": [*LESS, LESS[0]], "whole": [*MORE, MORE[0]]})

    assert less.seeds_below == 2  # 91 < 93, 93 > 92, 91 < 93
    assert more.seeds_below == 0


def test_p_values_are_of_each_patients_mean_over_the_seeds() -> None:
    less, more = table_rows(TABLE, {"kss": LESS, "whole": MORE})

    expected = signed_rank([91, 92, 93, 94, 95, 87], [91.5, 92, 93.5, 93.5, 96, 88.5])
    assert less.p_dsc == expected.p_value
    assert (expected.n, expected.n_zero) == (6, 1)
    hd95 = signed_rank([4.5] * 6, [3.0] * 6)
    assert less.p_hd95 == hd95.p_value < 0.05 < less.p_dsc
    assert math.isnan(more.p_dsc)
    assert math.isnan(more.p_hd95)


def test_a_patient_without_the_figure_in_one_run_is_left_out_of_p() -> None:
    values = by_patient(4, 5, 6, 5, 4, 6)
    gap = {patient: value for patient, value in values.items() if patient != PATIENTS[2]}
    less = [run(by_patient(*[90] * 6), gap), run(by_patient(*[90] * 6), values)]
    more = [run(by_patient(*[90] * 6), by_patient(3, 4, 9, 4, 3, 5))] * 2

    row, _ = table_rows(TABLE, {"kss": less, "whole": more})
    turned, _ = table_rows(TABLE, {"kss": more, "whole": less})

    expected = signed_rank([4, 5, 5, 4, 6], [3, 4, 4, 3, 5]).p_value
    assert expected != signed_rank([4, 5, 6, 5, 4, 6], [3, 4, 9, 4, 3, 5]).p_value
    assert row.p_hd95 == turned.p_hd95 == expected


def test_one_seed_has_no_spread() -> None:
    less, _ = table_rows(TABLE, {"kss": LESS[:1], "whole": MORE[:1]})

    assert less.dsc == 91
    assert math.isnan(less.dsc_sd)
    assert less.p_dsc == signed_rank(
        list(LESS[0]["ed_es"]["dsc"].values()), list(MORE[0]["ed_es"]["dsc"].values())
    ).p_value  # fmt: skip


def test_the_frames_can_be_chosen() -> None:
    less, _ = table_rows(TABLE, {"kss": LESS, "whole": MORE}, frames="labelled")

    assert less.dsc == less.hd95 == -1


def undefined() -> dict[str, list[Scores]]:
    """In its second run, `kss` finds no ventricle: no HD95 and no ASD anywhere."""
    return {"kss": [LESS[0], run(by_patient(*[0] * 6), {})], "whole": MORE}


def test_a_run_without_a_figure_costs_that_figure_alone() -> None:
    less, more = table_rows(TABLE, undefined())

    assert less.dsc == 45.5
    assert less.seeds_below == 2
    assert 0 < less.p_dsc < 1
    assert all(math.isnan(value) for value in (less.hd95, less.asd, less.p_hd95))
    assert more.hd95 == 3


# Reports


def report(tables: Mapping[str, Any], seeds: int = 3, unit: str = "mm") -> AblationReport:
    return AblationReport(tables, "Reduced: conditions", ("a warning",), unit, seeds, {"cpu": "x"})


def row(variant: str, label: str = "", **figures: Any) -> AblationRow:
    values: dict[str, Any] = {
        "paper": PaperFigures(92.3, 4.5, None), "dsc": 91.234, "hd95": 4.567, "asd": 1.0,
        "dsc_sd": 0.123, "p_dsc": 0.012345, "p_hd95": 0.00001, "seeds_below": 2,
    }  # fmt: skip
    return AblationRow(label=label or variant, variant=variant, **values | figures)


NAN = float("nan")
KSS = row("kss")
WHOLE = row("whole", paper=None, p_dsc=NAN, p_hd95=NAN, dsc_sd=NAN, seeds_below=0)


def test_the_document_is_strict_json() -> None:
    lost = row("kss", dsc=NAN, hd95=NAN, asd=NAN, dsc_sd=NAN, p_dsc=NAN, p_hd95=NAN)
    found = json.loads(json.dumps(report({"whole": [KSS, lost, WHOLE]}).to_dict(), allow_nan=False))

    assert found["schema"] == "pkecho-edge/ablations/1"
    assert (found["seeds"], found["unit"], found["warnings"]) == (3, "mm", ["a warning"])
    table = found["tables"]["whole"]
    assert (table["title"], table["reference"]) == ("the parts together", "whole")
    first, second, third = table["rows"]
    assert first == {
        "label": "kss", "variant": "kss", "paper": {"dsc": 92.3, "hd95": 4.5, "asd": None},
        "dsc": 91.234, "hd95": 4.567, "asd": 1.0, "dsc_sd": 0.123, "p_dsc": 0.012345,
        "p_hd95": 0.00001, "seeds_below": 2,
    }  # fmt: skip
    assert {second[name] for name in ("dsc", "hd95", "asd", "dsc_sd", "p_dsc", "p_hd95")} == {None}
    assert third["paper"] is third["p_dsc"] is None


def test_markdown() -> None:
    text = report({"5": [row("interval-1", "0"), row("whole", "3", p_dsc=NAN, p_hd95=NAN)]})

    assert text.markdown() == (
        "Reduced: conditions\n"
        "\n"
        "### Table 5: refinements, whole network\n"
        "\n"
        "|  | DSC (%) | ± seeds | P | HD95 (mm) | P | ASD (mm) | seeds below "
        "| paper: DSC, HD, ASD |\n"
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |\n"
        "| 0 | 91.23 | 0.12 | 0.012 | 4.57 | <0.0001 | 1.00 | 2 of 3 | 92.3, 4.5, - |\n"
        "| 3 | 91.23 | 0.12 | - | 4.57 | - | 1.00 | reference | 92.3, 4.5, - |\n"
        "\n"
        "- a warning\n"
    )


def test_narrow_lines() -> None:
    lost = row("kss", dsc=NAN, hd95=NAN, asd=NAN, dsc_sd=NAN, p_dsc=NAN, p_hd95=NAN)

    header, *lines = report({"whole": [KSS, lost, WHOLE]}, unit="px").narrow("whole")

    assert header == ("", "DSC (%)", "P", "HD95 (px)", "P", "ASD (px)", "below", "paper")
    assert lines == [
        ("kss", "91.23±0.12", "0.012", "4.57", "<0.0001", "1.00", "2/3", "92.3"),
        # a P-value that there is not does not make a reference
        ("kss", "-", "-", "-", "-", "-", "2/3", "92.3"),
        ("whole", "91.23", "-", "4.57", "-", "1.00", "-", "-"),
    ]


@pytest.mark.parametrize("name", TABLES)
def test_no_cell_is_cut_at_80_columns(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Every label of the paper, with figures as wide as they come."""
    rows = [
        row(
            each.variant, each.label, paper=each.paper or PaperFigures(92.3, 4.5, 1.6),
            dsc=89.99, dsc_sd=10.99, hd95=123.45, asd=123.45, p_dsc=0.00012, p_hd95=0.00012,
            seeds_below=10,
        )
        for each in TABLES[name].rows
    ]  # fmt: skip
    made = report({name: rows}, seeds=10)
    console = Console(width=80, file=io.StringIO(), record=True)
    monkeypatch.setattr(command, "console", console)

    command._show(made)

    printed = console.export_text().splitlines()
    assert max(map(len, printed)) <= 80
    assert made.title(name) in " ".join(printed)
    for cells in made.narrow(name):
        words = [word for cell in cells for word in cell.split()]
        assert any(line.split() == words for line in printed), cells


# Runs


def squares(count: int, *, brightness: int = 100) -> Samples:
    """Bright squares on noise."""
    rng = np.random.default_rng(0)
    truth = np.zeros((count, 2, 1, SIDE, SIDE), dtype=np.bool_)
    for number in range(count):
        truth[number, :, :, 16:44, 12 + number : 40] = True
    noise = rng.integers(0, 100, (count, FRAMES, 1, SIDE, SIDE), dtype=np.uint8)
    distance = [[[signed_distance(mask[0])] for mask in pair] for pair in truth]
    return Samples(
        frames=noise + np.uint8(brightness) * truth[:, :1].astype(np.uint8),
        truth=truth,
        distance=np.array(distance, dtype=np.float16),
        labelled=np.ones((count, 2), dtype=np.bool_),
        identifiers=tuple(f"clip-{number}" for number in range(count)),
        recordings=count,
    )


def clips(count: int = 3) -> list[Clip]:
    """One of each patient, labelled at ED and ES."""
    taken = squares(count, brightness=90)
    found = []
    for number in range(count):
        truth = np.zeros((FRAMES, SIDE, SIDE), dtype=np.bool_)
        truth[[0, -1]] = taken.truth[number, 0, 0]
        found.append(
            Clip(
                f"clip-{number}", f"recording-{number}", f"patient-{number}", "test",
                taken.frames[number], (0, 1, 2), truth, (True, False, True), 0, 2, (0.5, 0.5),
            )
        )  # fmt: skip
    return found


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    def narrow(_: Study, variant: str) -> NetworkConfig:
        inner = (((8,), (8,)), ((8,), (8,)), ((8,), (8,)), ((8,), (8,)))
        widths = Widths(8, (8, 8, 8, 8), inner)
        return NetworkConfig(frames=FRAMES, widths=widths, **VARIANTS[variant])

    monkeypatch.setattr(Study, "config", narrow)
    return Study((squares(3),), clips(), RECIPE, "resnet18", range(2), tmp_path / "runs")


class Heard:
    """What a study tells of its runs; `kill_at` stands for a kill at that step."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.runs: list[tuple[str, int, bool]] = []
        self.steps: list[int] = []
        self._kill_at = kill_at

    def run(self, variant: str, seed: int, reused: bool) -> None:
        self.runs.append((variant, seed, reused))

    def step(self, progress: Any) -> None:
        self.steps.append(progress.step)
        if len(self.steps) == self._kill_at:
            raise Killed


class Killed(Exception):
    """Nothing after it runs."""


def go(study: Study, *variants: str, heard: Heard | None = None) -> dict[str, list[Scores]]:
    heard = heard or Heard()
    return run_ablations(study, variants, on_start=heard.run, on_step=heard.step)


def files(root: Path) -> dict[str, bytes]:
    paths = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def test_every_variant_is_trained_with_every_seed_round_by_round(study: Study) -> None:
    heard = Heard()

    found = go(study, "backbone", "whole", heard=heard)

    assert heard.runs == [
        ("backbone", 0, False), ("whole", 0, False), ("backbone", 1, False), ("whole", 1, False),
    ]  # fmt: skip
    assert heard.steps == [1, 2] * 4
    assert {variant: len(scores) for variant, scores in found.items()} == {
        "backbone": 2, "whole": 2,
    }  # fmt: skip
    for variant, scores in found.items():
        for seed, given in enumerate(scores):
            document = json.loads((study.folder(variant, seed) / "scores.json").read_text())
            assert document["scores"] == given
            assert document["unit"] == "mm"
            assert set(given["ed_es"]["dsc"]) == {f"test/patient-{n}" for n in range(3)}
    logs = {content for name, content in files(study.out).items() if name.endswith("log.csv")}
    assert len(logs) == 4  # no two runs are one
    names = {"log.csv", "scores.json"}  # no weights
    assert {Path(name).name for name in files(study.out)} == names


def test_the_scores_are_the_trained_networks_on_the_clips(study: Study) -> None:
    study = replace(study, keep_checkpoints=True)

    found = go(study, "whole")["whole"]

    for seed, scores in enumerate(found):
        folder = study.folder("whole", seed)
        assert {"state.pt", "last.safetensors"} <= {path.name for path in folder.iterdir()}
        network = load_checkpoint(folder / "last.safetensors")
        assert network.config == study.config("whole")
        with safe_open(folder / "last.safetensors", "pt") as file:
            header = json.loads(file.metadata()["pkecho_edge"])
        assert header["notes"]["training.seed"] == str(seed)
        (direct,) = evaluate([baseline.baseline_runner(network)], study.clips)
        for column in ("dsc", "hd95", "asd"):
            assert scores["ed_es"][column] == pytest.approx(direct.per_patient(column, "ed_es"))
            assert scores["labelled"][column] == pytest.approx(
                direct.per_patient(column, "labelled")
            )


def test_a_finished_run_is_not_trained_again(study: Study) -> None:
    first = go(study, "whole")
    before = files(study.out)
    heard = Heard()

    again = go(study, "backbone", "whole", heard=heard)

    assert again["whole"] == first["whole"]
    assert [run for run in heard.runs if run[2]] == [("whole", 0, True), ("whole", 1, True)]
    assert len(heard.steps) == 2 * STEPS
    after = files(study.out)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("killed_at", [1, 3])
def test_a_killed_study_goes_on_in_mid_training(
    study: Study, tmp_path: Path, killed_at: int
) -> None:
    whole = replace(study, out=tmp_path / "whole")
    go(whole, "whole")

    with pytest.raises(Killed):
        go(study, "whole", heard=Heard(kill_at=killed_at))
    torch.manual_seed(5)  # what ran before must not matter
    heard = Heard()
    go(study, "whole", heard=heard)

    assert len(heard.steps) == 2 * STEPS - killed_at
    assert files(study.out) == files(whole.out)


def test_a_run_killed_before_it_is_scored_is_only_scored(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> Any:
        raise Killed

    study = replace(study, seeds=[3])
    whole = replace(study, out=tmp_path / "whole")
    go(whole, "whole")
    with monkeypatch.context() as patch:
        patch.setattr(ablations, "evaluate", killed)
        with pytest.raises(Killed):
            go(study, "whole")

    heard = Heard()
    go(study, "whole", heard=heard)

    assert heard.steps == []
    assert files(study.out) == files(whole.out)


OTHERS: dict[str, Callable[[Study], Study]] = {
    "recipe": lambda study: replace(study, recipe=replace(RECIPE, learning_rate=0.002)),
    "samples": lambda study: replace(study, samples=(squares(3, brightness=80),)),
    "clips": lambda study: replace(study, clips=clips(2)),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_scores_of_other_inputs_are_refused(study: Study, change: Callable[[Study], Study]) -> None:
    study = replace(study, seeds=[0])
    go(study, "backbone")
    before = files(study.out)
    heard = Heard()

    with pytest.raises(UnusableInput, match=r"scores\.json: is of a run on other data or") as told:
        go(change(study), "backbone", heard=heard)

    assert told.value.exit_code == 7
    assert heard.steps == []
    assert files(study.out) == before


def test_the_beginning_of_a_run_on_other_inputs_is_refused(study: Study) -> None:
    with pytest.raises(Killed):
        go(study, "backbone", heard=Heard(kill_at=1))
    before = files(study.out)

    with pytest.raises(UsageError, match=r"state\.pt: the run began with another recipe"):
        go(OTHERS["recipe"](study), "backbone")

    after = files(study.out)
    assert after["backbone-seed0/state.pt"] == before["backbone-seed0/state.pt"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"nonsense", b"[]", b"\xff", b'{"scores": {}}', b'{"key": "KEY", "scores": {}}',
        b'{"key": "KEY", "scores": {"ed_es": []}}',
        b'{"key": "KEY", "scores": {"ed_es": {"dsc": []}}}',
        b'{"key": "KEY", "scores": {"ed_es": {"dsc": {"a": "high"}}}}', None,
    ],
)  # fmt: skip
def test_scores_that_cannot_be_read_are_refused(study: Study, content: bytes | None) -> None:
    path = study.folder("whole", 0) / "scores.json"
    path.parent.mkdir(parents=True)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content.replace(b"KEY", study.key("whole", 0).encode()))
    before = files(study.out)
    heard = Heard()

    with pytest.raises(UnusableInput, match=r"scores\.json: cannot be read \(") as told:
        go(study, "whole", heard=heard)

    assert told.value.exit_code == 7
    assert (heard.steps, files(study.out)) == ([], before)


def test_a_damaged_state_says_what_to_do(study: Study) -> None:
    """Not to leave out --resume, which this command does not have."""
    folder = study.folder("whole", 0)
    folder.mkdir(parents=True)
    (folder / "state.pt").write_bytes(b"nonsense")

    with pytest.raises(UnusableInput, match=r"state\.pt: .*\. Remove it and run again$"):
        go(study, "whole")


def test_a_loss_that_is_not_finite_names_the_run(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a remedy that this command has."""
    from pkecho_edge.training import loop

    monkeypatch.setattr(loop, "deep_loss", lambda *_, **__: torch.tensor(float("nan")))

    with pytest.raises(UnusableInput, match=r"whole-seed0: the loss is nan at step 1\. .*--config"):
        go(study, "whole")


def test_a_network_that_finds_nothing_costs_its_own_figures_only(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No mask, no distance: the tables are made all the same."""

    def blind(_: Any) -> Callable[[Any], Any]:
        return lambda frames: np.full(frames.shape, -5, dtype=np.float32)

    monkeypatch.setattr(baseline, "baseline_runner", blind)

    found = go(study, "backbone", "interval-1", "kss", "whole")
    rows = table_rows(TABLES["whole"], found)
    made = report({"whole": rows}, seeds=2)

    assert {(each.dsc, each.seeds_below) for each in rows} == {(0.0, 0)}
    assert all(math.isnan(each.hd95) and math.isnan(each.asd) for each in rows)
    assert made.narrow("whole")[1] == ("neither", "0.00±0.00", "1", "-", "-", "-", "0/2", "92.3")
    json.dumps(made.to_dict(), allow_nan=False)
    assert "nan" not in made.markdown()
