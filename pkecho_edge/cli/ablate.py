"""`pkecho-edge ablate`: the paper's Tables 3, 4 and 5 on a dataset."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pkecho_edge.cli.console import (
    Bars,
    DebugOption,
    JsonOption,
    QuietOption,
    SizeOption,
    check_file,
    check_folder,
    console,
    errors,
    parse_size,
    plain,
    write_json,
    write_text,
)
from pkecho_edge.errors import UnusableInput, UsageError

if TYPE_CHECKING:
    from pkecho_edge.bench.ablation_report import AblationReport
    from pkecho_edge.bench.ablations import Study
    from pkecho_edge.data.clip import Clip
    from pkecho_edge.training.loop import Progress
    from pkecho_edge.training.recipe import Recipe

__all__ = ["ablate"]

_PAPER_EPOCHS = 50
_JSON, _MARKDOWN = "ablations.json", "ablations.md"


def ablate(
    out: Annotated[Path, typer.Option(help="Folder for runs and tables.", metavar="DIR")],
    data: Annotated[
        Path | None, typer.Option(help="Labelled recordings; default: phantoms.", metavar="DIR")
    ] = None,
    tables: Annotated[
        str, typer.Option(help="Of the paper, with commas; whole: its parts together.")
    ] = "3,4,5,whole",
    seeds: Annotated[int, typer.Option(help="Runs of every variant.", min=1)] = 3,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with a \\[training] table.", metavar="FILE")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Default: 50.", min=1)] = None,
    batch: Annotated[int | None, typer.Option(help="Clips per step; default: 8.", min=1)] = None,
    split: Annotated[
        str | None, typer.Option(help="own (the dataset's; default) or 7:1:2 by patient.")
    ] = None,
    backbone: Annotated[str, typer.Option(help="resnet18, resnet34 or resnet50.")] = "resnet18",
    encoder_weights: Annotated[
        Path | None,
        typer.Option(
            help="ImageNet weights in torchvision's format, as the paper has.", metavar="FILE"
        ),
    ] = None,
    size: SizeOption = "128",
    phantoms: Annotated[
        int, typer.Option(help="Phantoms to train on, without --data.", min=1)
    ] = 1600,
    keep_checkpoints: Annotated[
        bool, typer.Option("--keep-checkpoints", help="Also keep every run's weights.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train every variant of the paper's ablations and tabulate DSC, HD95, ASD and P-values.

    A run that was interrupted goes on where it stopped: type the same command again.
    """
    from pkecho_edge.bench.ablation_tables import chosen_tables
    from pkecho_edge.bench.ablations import run_ablations, table_rows, variants_of
    from pkecho_edge.model.resnet import BACKBONES
    from pkecho_edge.training.processes import chosen_device
    from pkecho_edge.training.recipe import Recipe, load_recipe

    chosen = chosen_tables([name.strip() for name in tables.split(",") if name.strip()])
    if backbone not in BACKBONES:
        raise UsageError(f"unknown backbone {backbone!r}", remedy=f"Use {', '.join(BACKBONES)}")
    given: dict[str, Any] = {"epochs": epochs, "batch": batch, "split": split}
    recipe = replace(
        load_recipe(config) if config else Recipe(),
        **{name: value for name, value in given.items() if value is not None},
    )
    shape = parse_size(size)
    where = chosen_device(device).type
    check_folder(out)
    for name in (_JSON, _MARKDOWN):
        check_file(out / name)
    started = time.monotonic()
    with Bars(quiet) as bars:
        study, description, skipped = _study(
            data, phantoms, shape, recipe, backbone, seeds, out, bars
        )
        study = replace(
            study,
            keep_checkpoints=keep_checkpoints,
            encoder_weights=encoder_weights,
            device=where,
        )
        names = variants_of(chosen)
        follower = _Follower(bars, len(names) * seeds)
        found = run_ablations(study, names, on_start=follower.run, on_step=follower.step)
        follower.close()
    report = _report(
        {name: table_rows(table, found) for name, table in chosen.items()},
        study,
        f"{description}, {shape[0]}x{shape[1]}",
        time.monotonic() - started,
        skipped,
    )
    write_json(out / _JSON, report.to_dict())
    write_text(out / _MARKDOWN, report.markdown())
    if json:
        write_json(json, report.to_dict())
    if not quiet:
        _show(report)
        console.print(f"Tables: {plain(out / _MARKDOWN)}", soft_wrap=True)


def _study(
    data: Path | None,
    phantoms: int,
    size: tuple[int, int],
    recipe: Recipe,
    backbone: str,
    seeds: int,
    out: Path,
    bars: Bars,
) -> tuple[Study, str, str]:
    """What every run trains on and is scored on, that in words, and what was left out of it."""
    import torch

    from pkecho_edge.bench.ablations import Study
    from pkecho_edge.data.clip import CLIP_LENGTH
    from pkecho_edge.training.material import dataset_material, phantom_material
    from pkecho_edge.training.samples import draw_samples

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)
    if data is None:
        material = phantom_material(phantoms, size, length=CLIP_LENGTH, whole=recipe.windows > 1)
    else:
        material = dataset_material(data, split=recipe.split)
    left_out: dict[str, None] = {}  # each once, in their order
    bars.start("test clips", None)
    clips, tested_on = _test_clips(data, size, recipe.split, left_out)
    bars.done(f"{len(clips)} clips of {tested_on}")
    bars.start("training samples", material.count)
    samples = draw_samples(
        material.training(lambda skipped: left_out.update({str(skipped): None})),
        size,
        length=CLIP_LENGTH,
        windows=recipe.windows,
        seed=recipe.seed,
        on_skip=lambda skipped: left_out.update({str(skipped): None}),
        advance=bars.advance,
    )
    bars.done(f"{len(samples)} from {samples.recordings} recordings")
    skipped = "; ".join(list(left_out)[:3]) + ("; ..." if len(left_out) > 3 else "")
    if skipped:
        skipped = f"{len(left_out)} recordings left out: {skipped}"
        errors.print(f"[yellow]{plain(skipped)}[/]")
    description = (
        f"trained on {len(samples)} samples of {material.description}, "
        f"tested on {len(clips)} clips of {tested_on}"
    )
    return Study((samples,), clips, recipe, backbone, range(seeds), out), description, skipped


def _test_clips(
    data: Path | None, size: tuple[int, int], split: str, left_out: dict[str, None]
) -> tuple[list[Clip], str]:
    """The labelled clips of patients that no run trains on, and where they come from.

    Raises:
        UnusableInput: there is none, or none with ED and ES, which the tables are of.
    """
    from pkecho_edge.data import sources
    from pkecho_edge.verify.ef_methods import find_phases

    if data is None:
        source = sources.standard_set(size)
    else:
        source = sources.dataset(data, size, split="TEST", rule=split)
    clips = [clip for clip in source if any(clip.labelled)]
    left_out.update(dict.fromkeys(source.skipped))
    if not any(find_phases(clip) for clip in clips):
        raise UnusableInput(
            "no recording to test on is labelled at ED and at ES",
            path=data,
            remedy=f"See what it holds: pkecho-edge data check {data}",
        )
    return clips, source.description


class _Follower:
    """Which run of how many, and how it is going."""

    def __init__(self, bars: Bars, total: int) -> None:
        self._bars, self._total = bars, total
        self._number = 0
        self._open = False

    def run(self, variant: str, seed: int, reused: bool) -> None:
        """A run begins, or is there already."""
        self.close()
        self._number += 1
        self._name = f"{variant}, seed {seed}"
        self._reused = reused
        self._bars.start(f"{self._number} of {self._total}", None)
        self._open = True

    def step(self, progress: Progress) -> None:
        """A training step was taken."""
        self._bars.describe(
            f"{self._name}: step {progress.step} of {progress.steps}, loss {progress.loss:.3f}, "
            f"DSC {100 * progress.dsc:.1f}"
        )

    def close(self) -> None:
        """The run is over."""
        if self._open:
            self._bars.done(f"{self._name}{' (there already)' if self._reused else ''}")
            self._open = False


def _report(
    tables: dict[str, Any], study: Study, description: str, seconds: float, skipped: str
) -> AblationReport:
    from pkecho_edge.bench.ablation_report import AblationReport
    from pkecho_edge.verify.machine import machine_facts
    from pkecho_edge.verify.report import SYNTHETIC_NOTE

    recipe = study.recipe
    begun = "ImageNet's" if study.encoder_weights is not None else "random"
    reduced = "Reduced: " if recipe.epochs < _PAPER_EPOCHS else ""
    conditions = (
        f"{reduced}{study.backbone}, encoder weights {begun} at first, "
        f"{_counted(recipe.epochs, 'epoch')}, batch {recipe.batch}, "
        f"{_counted(len(study.seeds), 'seed')}, {description}; ED and ES frames. "
        "P: Wilcoxon signed-rank against the table's reference, paired by patient, each the mean "
        "over the seeds. "
        f"The paper: ResNet-50 from ImageNet's weights, {_PAPER_EPOCHS} epochs, 320x320, CAMUS. "
        "Took "
        f"{_counted(round(seconds / 60), 'minute')} (what was there already not counted)."
    )
    warnings = [
        "P-values are over patients, not over seeds: another seed may turn a small difference"
    ]
    if skipped:
        warnings.append(skipped)
    if any(each.source == "phantom" for each in study.clips):
        warnings.append(SYNTHETIC_NOTE)
    # of the scores, too: see Evaluation.distance_unit
    unit = "mm" if any(clip.spacing_mm is not None for clip in study.clips) else "px"
    return AblationReport(tables, conditions, warnings, unit, len(study.seeds), machine_facts())


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _show(report: AblationReport) -> None:
    from rich import box
    from rich.table import Table

    for name in report.tables:
        header, *lines = report.narrow(name)
        table = Table(
            title=report.title(name),
            title_justify="left",
            box=box.SIMPLE,
            padding=(0, 1, 0, 0),
            pad_edge=False,
            show_edge=False,
        )
        for index, text in enumerate(header):
            table.add_column(text, justify="right" if index else "left")
        for line in lines:
            table.add_row(*line)
        console.print(table)
        console.print()
    console.print(plain(report.conditions), style="dim")
    for warning in report.warnings:
        console.print(f"[yellow]warning:[/] {plain(warning)}")
