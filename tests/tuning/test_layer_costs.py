"""The table of layer costs: what is measured, that it is plausible, and that it is kept."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pkecho_edge.errors import MissingDependency, PkechoEdgeError, UsageError
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.pruning.cost import LatencyTable, latency_cost
from pkecho_edge.pruning.layers import network_layers
from pkecho_edge.pruning.places import widths_of
from pkecho_edge.stages import SilentObserver, StageCache
from pkecho_edge.targets.base import CompileOptions
from pkecho_edge.targets.openvino_cpu import OpenVinoCpu
from pkecho_edge.targets.openvino_profile import Profiler, compile_model
from pkecho_edge.tuning import layer_costs
from pkecho_edge.tuning.layer_costs import cached_latency_table, ladder, measure_latency_table
from pkecho_edge.tuning.layer_graph import Convolution, side_by_side

SIZE, ROUND_TO, OPTIONS = (96, 96), 8, CompileOptions(threads=1)
SMALL = NetworkConfig(
    widths=Widths(
        stem=32,
        outputs=(32, 16, 16, 32),
        # an odd one, as a pruned network may have
        inner=(((32,), (32,)), ((16,), (16,)), ((16,), (23,)), ((16,), (16,))),
    )
)


@dataclass(frozen=True)
class Measured:
    """A table, the cache that keeps it, and what was timed for it."""

    table: LatencyTable
    stages: StageCache
    convolutions: tuple[Convolution, ...]
    same_random_state: bool


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    timed: list[Convolution] = []

    def spy(convolutions: Sequence[Convolution]) -> Any:
        timed.extend(convolutions)
        return side_by_side(convolutions)

    stages = StageCache(tmp_path_factory.mktemp("cache"))
    before = torch.get_rng_state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer_costs, "side_by_side", spy)
        table = kept_table(stages)
    same = torch.equal(before, torch.get_rng_state())
    return Measured(table, stages, tuple(timed), same)


def kept_table(
    stages: StageCache,
    size: tuple[int, int] = SIZE,
    round_to: int = ROUND_TO,
    options: CompileOptions = OPTIONS,
    config: NetworkConfig = SMALL,
) -> LatencyTable:
    return cached_latency_table(
        config, size, round_to=round_to, options=options, stages=stages, observer=SilentObserver()
    )


def test_every_layer_is_there_up_to_the_widths_of_the_network(measured: Measured) -> None:
    widths = widths_of(SMALL)

    assert list(measured.table.grids) == sorted(layer.name for layer in network_layers(SMALL))
    for layer in network_layers(SMALL):
        grid = measured.table.grids[layer.name]
        inputs, outputs = layer.channels(widths)
        assert (grid.inputs[-1], grid.outputs[-1]) == (1 if layer.depthwise else inputs, outputs)
        assert len(grid.outputs) == (1 if isinstance(layer.outputs, int) else len(grid.outputs))
    assert measured.table.grids["encoder_layer3.1.conv1"].outputs == (8, 16, 23)


def test_a_wider_layer_costs_more(measured: Measured) -> None:
    """At a size where a layer's work outweighs what every layer costs; vectors of 16 are full."""
    table = kept_table(measured.stages, size=(320, 320))
    stem = table.grids["encoder_layer0.0"]
    wide = table.grids["encoder_layer1.0.conv2"]  # 32 to 32 channels at 80x80

    assert stem.ms[0][-1] > 1.3 * stem.ms[0][stem.outputs.index(16)]  # twice the work
    assert wide.ms[-1][-1] > 2 * wide.ms[0][0]  # sixteen times the work


def test_layers_that_are_alike_are_measured_once(measured: Measured) -> None:
    grids = measured.table.grids
    points = sum(len(grid.inputs) * len(grid.outputs) for grid in grids.values())

    assert len(set(measured.convolutions)) == len(measured.convolutions) < points
    assert grids["encoder_layer1.0.conv1"] == grids["encoder_layer1.1.conv2"]


def test_widths_between_cost_no_less_and_no_more_than_what_was_measured(
    measured: Measured,
) -> None:
    cost = latency_cost(measured.table)
    for layer in network_layers(SMALL):
        times = [ms for row in measured.table.grids[layer.name].ms for ms in row]
        for width in (1, 9, 13, 21, 32, 4096):
            assert min(times) <= cost(layer, width, width) <= max(times)


def test_scores_are_measured_in_the_convolutions_of_the_lowered_graph(measured: Measured) -> None:
    scores = {
        (each.size, each.outputs)
        for each in measured.convolutions
        if not each.quantized and each.size != (3, 3)
    }

    # layer 1: eight convolutions of 4 x 4 sub-pixels; layers 2 and 3: one of 8 x 2 x 2
    assert scores == {((24, 24), 16), ((12, 12), 32), ((6, 6), 32)}
    assert measured.same_random_state


def test_only_the_stem_reads_the_frame(measured: Measured) -> None:
    frames = [each for each in measured.convolutions if each.frame]

    assert {(each.inputs, each.kernel, each.size) for each in frames} == {(1, 7, (48, 48))}


def test_the_table_passes_through_json(measured: Measured) -> None:
    text = json.dumps(measured.table.as_dict())

    assert LatencyTable.from_dict(json.loads(text)) == measured.table


class Notes(SilentObserver):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def done(self, note: str) -> None:
        self.notes.append(note)


def refuse(*_: object, **__: object) -> Any:
    raise AssertionError("measured again")


def test_a_second_call_measures_nothing(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_costs, "measure_latency_table", refuse)
    notes = Notes()

    again = cached_latency_table(
        SMALL,
        SIZE,
        round_to=ROUND_TO,
        options=OPTIONS,
        stages=measured.stages,
        observer=notes,
    )

    assert again == measured.table
    assert "reused" in notes.notes[0]


@pytest.mark.parametrize(
    "change",
    [
        {"size": (96, 128)},
        {"round_to": 16},
        {"options": CompileOptions(threads=2)},
        {"config": replace(SMALL, widths=None)},
    ],
    ids=["size", "round_to", "options", "config"],
)
def test_other_questions_are_measured_anew(
    change: dict[str, Any], measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_costs, "measure_latency_table", refuse)

    with pytest.raises(AssertionError, match="measured again"):
        kept_table(measured.stages, **change)


@pytest.mark.parametrize("fact", ["model", "cores_usable", "flags"])
def test_so_is_another_machine(
    fact: str, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = layer_costs.machine_facts()
    cpu = facts["cpu"]
    assert isinstance(cpu, dict)
    monkeypatch.setattr(
        layer_costs, "machine_facts", lambda: {**facts, "cpu": {**cpu, fact: "another"}}
    )
    monkeypatch.setattr(layer_costs, "measure_latency_table", refuse)

    with pytest.raises(AssertionError, match="measured again"):
        kept_table(measured.stages)


@pytest.mark.parametrize("measure", [measure_latency_table, cached_latency_table])
@pytest.mark.parametrize(
    ("size", "round_to", "precision", "words"),
    [
        ((100, 96), 8, "f32", "100x96"),
        ((96, 96), 0, "f32", "multiples of 0"),
        ((96, 96), 8, "f16", "no f16"),
    ],
)
def test_impossible_orders_are_refused(
    size: tuple[int, int],
    round_to: int,
    precision: str,
    words: str,
    measure: Callable[..., LatencyTable],
    tmp_path: Path,
) -> None:
    more = {"stages": StageCache(tmp_path)} if measure is cached_latency_table else {}

    with pytest.raises(UsageError, match=words):
        measure(
            SMALL,
            size,
            round_to=round_to,
            options=CompileOptions(precision),
            observer=SilentObserver(),
            **more,
        )


def test_without_openvino_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenVinoCpu, "missing", lambda _: "pip install 'pkecho-edge[cpu]'")

    with pytest.raises(MissingDependency) as caught:
        kept_table(StageCache(tmp_path))

    assert "pip install" in caught.value.remedy


@pytest.mark.parametrize(
    ("full", "round_to", "widths"),
    [
        (64, 8, (8, 16, 24, 32, 48, 64)),
        (512, 8, (64, 128, 192, 256, 384, 512)),
        (512, 32, (64, 128, 192, 256, 384, 512)),
        (64, 32, (32, 64)),
        (23, 8, (8, 16, 23)),
        (8, 8, (8,)),
        (5, 8, (5,)),
        (1, 1, (1,)),
    ],
)
def test_ladders(full: int, round_to: int, widths: tuple[int, ...]) -> None:
    assert ladder(full, round_to) == widths


def test_convolutions_run_in_8_bits_and_under_their_names() -> None:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("the names of primitives are those of x86-64")
    convolutions = (
        Convolution(1, 16, 7, 2, (16, 16), frame=True),
        Convolution(16, 32, 3, 1, (16, 16)),
        Convolution(16, 24, 1, 2, (8, 8)),
        Convolution(16, 16, 3, 1, (16, 16), depthwise=True),
        Convolution(23, 16, 3, 1, (8, 8), quantized=False),
    )
    compiled = compile_model(side_by_side(convolutions), "f32", 1, {"PERF_COUNT": True})
    images = {port.any_name: np.zeros(tuple(port.shape), np.uint8) for port in compiled.inputs}

    nodes = {node.name: node for node in Profiler(compiled).block(images, 1).nodes}

    assert set(images) == {"32x32", "16x16", "8x8"}
    for index in range(len(convolutions)):
        assert nodes[f"layer.{index}"].primitive.endswith("_I8")


def test_a_profile_that_lacks_a_layer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_costs, "side_by_side", lambda some: side_by_side(some[:1]))

    with pytest.raises(PkechoEdgeError, match="lacks"):
        measure_latency_table(SMALL, SIZE, round_to=32, options=OPTIONS, observer=SilentObserver())
