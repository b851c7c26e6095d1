"""`pkecho-edge train`: train a network by the paper's recipe."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pkecho_edge.cli.console import (
    Bars,
    DebugOption,
    QuietOption,
    check_folder,
    console,
    errors,
    parse_size,
    plain,
)
from pkecho_edge.errors import MissingDependency, PkechoEdgeError, UnusableInput, UsageError

if TYPE_CHECKING:
    from pkecho_edge.data.clip import Clip
    from pkecho_edge.data.dataset import Skipped
    from pkecho_edge.model.network import PKEchoNet
    from pkecho_edge.training.loop import Progress, Trained
    from pkecho_edge.training.material import Material
    from pkecho_edge.training.processes import Processes
    from pkecho_edge.training.recipe import Recipe
    from pkecho_edge.training.samples import Samples

__all__ = ["train_"]


class _Interrupted(PkechoEdgeError):
    """Ctrl-C."""

    exit_code = 130


def train_(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and log.", metavar="DIR")],
    data: Annotated[
        Path | None, typer.Option(help="Labelled recordings; default: phantoms.", metavar="DIR")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with a \\[training] table.", metavar="FILE")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    encoder_weights: Annotated[
        Path | None,
        typer.Option(help="ImageNet weights in torchvision's format.", metavar="FILE"),
    ] = None,
    backbone: Annotated[str, typer.Option(help="resnet18, resnet34 or resnet50.")] = "resnet18",
    size: Annotated[
        list[str],
        typer.Option(
            help="Frame size, N or HxW. Give it again to train several, each recording at one of "
            "them: 128:4 and 320:1 deal out four to one.",
            metavar="SIZE[:PARTS]",
        ),
    ] = ["128"],  # noqa: B006 - typer copies it
    phantoms: Annotated[int, typer.Option(help="Phantoms, without --data.", min=1)] = 1600,
    epochs: Annotated[int | None, typer.Option(help="Default: 50.", min=1)] = None,
    batch: Annotated[int | None, typer.Option(help="Clips per step; default: 8.", min=1)] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of Adam, at the first step; default: 0.001.")
    ] = None,
    windows: Annotated[
        int | None, typer.Option(help="Samples per recording; default: 1, ED to ES.", min=1)
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="own (the dataset's; default) or 7:1:2 by patient.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="bf16 (default) or f32.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of everything random; default: 0.", min=0)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train PKEcho-Net with labels on the first and the last frame only.

    Started by torchrun, the batch is shared among the processes; each then has its own cross-video
    attention, so the result is another one than that of a single process.
    """
    from pkecho_edge.model.resnet import BACKBONES
    from pkecho_edge.training.loop import STATE
    from pkecho_edge.training.processes import chosen_device, joined_processes
    from pkecho_edge.training.recipe import Recipe, load_recipe
    from pkecho_edge.training.state import require_state

    if backbone not in BACKBONES:
        raise UsageError(f"unknown backbone {backbone!r}", remedy=f"Use {', '.join(BACKBONES)}")
    chosen_device(device)  # refuse it before anything else is done
    given: dict[str, Any] = {
        "epochs": epochs,
        "batch": batch,
        "learning_rate": learning_rate,
        "windows": windows,
        "split": split,
        "precision": precision,
        "seed": seed,
    }
    recipe = replace(
        load_recipe(config) if config else Recipe(),
        **{name: value for name, value in given.items() if value is not None},
    )
    sizes = _parse_sizes(size)
    check_folder(out)
    if resume:
        require_state(out / STATE)
    elif (out / STATE).exists():  # a command typed again must not cost the checkpoints
        raise UsageError(
            "holds a training run already",
            path=out,
            remedy="Go on with --resume, or choose another --out",
        )
    try:
        with joined_processes(device) as processes, Bars(quiet or not processes.writes) as bars:
            processes.share([0] * recipe.batch)  # refuses a batch that is too small
            network = _network(backbone, encoder_weights, recipe)
            materials = _materials(data, phantoms, sizes, recipe, network.config.frames)
            trained = _run(network, materials, recipe, out, resume, processes, bars)
    except KeyboardInterrupt as stop:
        again = "with --resume" if (out / STATE).is_file() else "for nothing was saved yet"
        raise _Interrupted("interrupted", remedy=f"Run the same command again, {again}") from stop
    if processes.writes and not quiet:
        _tell(trained, out)


def _network(backbone: str, encoder_weights: Path | None, recipe: Recipe) -> PKEchoNet:
    import torch

    from pkecho_edge.model.configuration import NetworkConfig
    from pkecho_edge.model.imagenet import load_encoder_weights
    from pkecho_edge.model.network import PKEchoNet

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(recipe.seed)
    network = PKEchoNet(NetworkConfig(backbone=backbone))
    if encoder_weights is not None:
        load_encoder_weights(network, encoder_weights)
    return network


def _parse_sizes(texts: list[str]) -> dict[tuple[int, int], int]:
    """["128:4", "320"] -> {(128, 128): 4, (320, 320): 1}: the size and its parts.

    Raises:
        UsageError: another form, an impossible size, or one that is given twice.
    """
    sizes: dict[tuple[int, int], int] = {}
    for text in texts:
        side, _, parts = text.partition(":")
        size = parse_size(side)
        if not re.fullmatch(r"|[1-9]\d{0,3}", parts) or size in sizes:
            raise UsageError(
                f"size {text!r} is given twice or has other parts than a number from 1 to 9999",
                remedy="Write for example --size 128:4 --size 320:1",
            )
        sizes[size] = int(parts or 1)
    return sizes


def _materials(
    data: Path | None,
    phantoms: int,
    sizes: dict[tuple[int, int], int],
    recipe: Recipe,
    length: int,
) -> dict[tuple[int, int], Material]:
    """What is trained on at each size."""
    from pkecho_edge.training.material import dataset_material, phantom_material

    parts = list(sizes.values())
    if data is not None:
        return {
            size: dataset_material(data, split=recipe.split, parts=parts, part=part)
            for part, size in enumerate(sizes)
        }
    whole = recipe.windows > 1
    return {
        size: phantom_material(phantoms, size, length=length, whole=whole, parts=parts, part=part)
        for part, size in enumerate(sizes)
    }


def _run(
    network: PKEchoNet,
    materials: dict[tuple[int, int], Material],
    recipe: Recipe,
    out: Path,
    resume: bool,
    processes: Processes,
    bars: Bars,
) -> Trained:
    """Prepare the samples and train."""
    from pkecho_edge.training.loop import train

    skipped: dict[str, str] = {}

    def on_skip(left_out: Skipped) -> None:
        skipped[left_out.identifier] = str(left_out)

    samples, validation = [], []
    for size, material in materials.items():
        try:
            drawn, held_out = _prepared(
                material, size, network.config.frames, recipe, on_skip, bars
            )
        except UnusableInput as error:
            shown = "; ".join(list(skipped.values())[:3]) + ("; ..." if len(skipped) > 3 else "")
            raise UnusableInput(
                f"{error.what} ({shown})" if skipped else error.what,
                path=error.path,
                remedy=error.remedy,
            ) from error
        samples.append(drawn)
        validation += held_out
    for reason in skipped.values() if processes.writes else ():
        errors.print(f"[yellow]warning:[/] left out {plain(reason)}")

    trained = train(
        network,
        samples,
        validation,
        recipe,
        out,
        processes=processes,
        resume=resume,
        notes={"training.data": next(iter(materials.values())).description},
        on_step=_Narrator(bars, quiet=not processes.writes or bars.quiet),
    )
    best = trained.best_dsc
    bars.done("finished" if best is None else f"best validation DSC {best:.2f}")
    return trained


def _prepared(
    material: Material,
    size: tuple[int, int],
    length: int,
    recipe: Recipe,
    on_skip: Callable[[Skipped], None],
    bars: Bars,
) -> tuple[Samples, list[Clip]]:
    """The training samples and the validation clips of one size."""
    from pkecho_edge.training.samples import draw_samples

    shape = f"{size[0]}x{size[1]}"
    bars.start(f"samples, {shape}", material.count)
    samples = draw_samples(
        material.training(on_skip),
        size,
        length=length,
        windows=recipe.windows,
        seed=recipe.seed,
        on_skip=on_skip,
        advance=bars.advance,
    )
    bars.done(f"{len(samples)} from {samples.recordings} recordings of {material.description}")
    bars.start(f"validation, {shape}", None)
    validation = material.validation_clips(size, length, on_skip)
    bars.done(f"{len(validation)} clips")
    return samples, validation


class _Narrator:
    """Says how the training goes: beside the bar at every step, on a line at every epoch's end."""

    def __init__(self, bars: Bars, quiet: bool) -> None:
        self._bars, self._quiet = bars, quiet
        self._started = False

    def __call__(self, progress: Progress) -> None:
        if not self._started:
            self._bars.start("training", progress.steps - progress.step + 1)
            self._started = True
        self._bars.describe(f"loss {progress.loss:.3f}, DSC {100 * progress.dsc:.1f}")
        self._bars.advance()
        if progress.ends_epoch and not self._quiet:
            score = progress.validation_dsc
            known = "" if score is None else f", validation DSC {score:.2f}"
            console.print(
                f"  epoch {progress.epoch}, step {progress.step} of {progress.steps}: "
                f"loss {progress.loss:.3f}{known}",
                soft_wrap=True,
            )


def _tell(trained: Trained, out: Path) -> None:
    """Draw the curve and say where everything is."""
    from pkecho_edge.training.log import draw_curve
    from pkecho_edge.training.loop import LOG

    console.print(f"Checkpoint: {plain(trained.checkpoint)}", soft_wrap=True)
    try:
        draw_curve(out / LOG, out / "curve.png")
        console.print(f"Curve:      {plain(out / 'curve.png')}", soft_wrap=True)
    except MissingDependency as missing:
        console.print(f"No curve:   {missing}", soft_wrap=True)
    console.print(f"Next:       pkecho-edge compile {plain(trained.checkpoint)} --data DIR")
