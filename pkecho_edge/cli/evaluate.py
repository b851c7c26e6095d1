"""`pkecho-edge evaluate`: how good a checkpoint or a bundle is on labelled clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pkecho_edge.cli.console import (
    Bars,
    DebugOption,
    JsonOption,
    QuietOption,
    check_file,
    console,
    parse_size,
    parse_split,
    write_json,
    write_text,
)
from pkecho_edge.errors import UsageError

if TYPE_CHECKING:
    from pkecho_edge.calibration.calibration_set import CalibrationSet
    from pkecho_edge.data.clip import Clip
    from pkecho_edge.data.sources import ClipSource
    from pkecho_edge.verify.evaluation_report import Subject

__all__ = ["evaluate_"]

_DEFAULT_SIZE = "128"


@dataclass(frozen=True)
class _Network:
    """A checkpoint or bundle, ready to run.

    Attributes:
        subject: what reports say of it.
        run: u8 [T, 1, H, W] -> logits f32 [T, 1, H, W].
        length: T. size: (H, W) of a bundle's engine; None for a checkpoint, which takes any.
        calibration: of a bundle: clips that must not be evaluated on.
    """

    subject: Subject
    run: Callable[[Any], Any]
    length: int
    size: tuple[int, int] | None = None
    calibration: CalibrationSet | None = None


def evaluate_(
    network: Annotated[Path, typer.Argument(help="Checkpoint or bundle.", metavar="NETWORK")],
    data: Annotated[
        Path | None,
        typer.Option(help="Labelled dataset; default: the standard phantom set.", metavar="DIR"),
    ] = None,
    split: Annotated[str, typer.Option(help="TRAIN, VAL, TEST or ALL of --data.")] = "TEST",
    split_by: Annotated[
        str, typer.Option(help="own (the dataset's; default) or 7:1:2, as in train.")
    ] = "own",
    against: Annotated[
        Path | None,
        typer.Option(help="Compare with this checkpoint or bundle.", metavar="NETWORK"),
    ] = None,
    test: Annotated[str, typer.Option(help="signed-rank or rank-sum.")] = "signed-rank",
    size: Annotated[
        str | None,
        typer.Option(
            help="Frame size, N or HxW; default: the bundle's, 128 for a checkpoint.",
            metavar="SIZE",
        ),
    ] = None,
    clips: Annotated[
        int | None, typer.Option(help="At most this many clips; default: all.", min=1)
    ] = None,
    json: JsonOption = None,
    csv: Annotated[
        Path | None,
        typer.Option(help="Also write one line per clip to this file.", metavar="FILE"),
    ] = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Score a network against ground truth: the row of the paper's Table 1."""
    from pkecho_edge.verify.evaluation import TESTS, evaluate
    from pkecho_edge.verify.evaluation_report import EvaluationReport
    from pkecho_edge.verify.machine import machine_facts

    if test not in TESTS:
        raise UsageError(f"{test!r} is not a test", remedy=f"Use {' or '.join(TESTS)}")
    if csv is not None:
        check_file(csv)
    wanted = parse_size(size) if size else None
    with ExitStack() as stack:
        paths = [network] if against is None else [network, against]
        networks = [_open(path, stack) for path in paths]
        source = replace(
            _source(data, split, split_by, _common_size(networks, wanted), clips),
            length=_common_length(networks),
        )
        bars = stack.enter_context(Bars(quiet))
        bars.start("evaluate", source.count if data is None else clips)
        found = evaluate([n.run for n in networks], _held_out(source, networks), bars.advance)
        bars.done(f"{len(found[0].clips)} clips")
    report = EvaluationReport(
        subjects=tuple(n.subject for n in networks),
        evaluations=found,
        data=source.description,
        skipped=tuple(source.skipped),
        machine=machine_facts(),
        test=test,
    )
    if not quiet:
        console.print(report.table())
    if json:
        write_json(json, report.to_dict())
    if csv:
        write_text(csv, report.to_csv())


def _open(path: Path, stack: ExitStack) -> _Network:
    """A folder is a bundle, a file is a checkpoint."""
    is_bundle = path.is_dir() or path.suffix == ".pkb"
    return _open_bundle(path, stack) if is_bundle else _open_checkpoint(path)


def _open_bundle(path: Path, stack: ExitStack) -> _Network:
    from pkecho_edge.bundle.layout import MODEL
    from pkecho_edge.calibration.calibration_set import CalibrationSet
    from pkecho_edge.runtime import open_bundle
    from pkecho_edge.verify.evaluation_report import Subject

    engine = stack.enter_context(open_bundle(path))
    manifest = engine.bundle.manifest
    return _Network(
        subject=Subject(
            path.name or str(path), "bundle", engine.bundle.manifest_sha256, manifest.target
        ),
        run=engine.logits,
        length=manifest.window.length,
        size=manifest.preprocessing.size,
        calibration=CalibrationSet.load(engine.bundle.path / MODEL / "calibration.json"),
    )


def _open_checkpoint(path: Path) -> _Network:
    from pkecho_edge.model.baseline import baseline_runner
    from pkecho_edge.model.checkpoint import checkpoint_sha256, load_checkpoint
    from pkecho_edge.verify.evaluation_report import Subject

    network = load_checkpoint(path)
    return _Network(
        subject=Subject(
            path.name, "checkpoint", checkpoint_sha256(path), f"{network.config.backbone}, FP32"
        ),
        run=baseline_runner(network),
        length=network.config.frames,
    )


def _common_size(networks: list[_Network], wanted: tuple[int, int] | None) -> tuple[int, int]:
    """The size that every bundle was built for, else the one asked for.

    Raises:
        UsageError: two bundles, or a bundle and --size, want different sizes.
    """
    sizes = [n.size for n in networks if n.size is not None]
    if wanted is not None:
        sizes.append(wanted)
    if len(set(sizes)) > 1:
        told = " and ".join(f"{height}x{width}" for height, width in sizes)
        remedy = "Leave --size out: a bundle takes one size only"
        raise UsageError(
            f"frames cannot be {told} at once",
            remedy=remedy if wanted else "Compare bundles of one size",
        )
    return sizes[0] if sizes else parse_size(_DEFAULT_SIZE)


def _common_length(networks: list[_Network]) -> int:
    """T.

    Raises:
        UsageError: they take clips of different lengths.
    """
    lengths = {n.length for n in networks}
    if len(lengths) > 1:
        raise UsageError(
            f"one takes clips of {networks[0].length} frames, the other of {networks[1].length}",
            remedy="Compare networks of one clip length",
        )
    return networks[0].length


def _source(
    data: Path | None, split: str, split_by: str, size: tuple[int, int], clips: int | None
) -> ClipSource:
    from pkecho_edge.data import sources
    from pkecho_edge.data.sides import check_rule
    from pkecho_edge.data.standard import STANDARD_COUNT

    if data is None:
        return sources.standard_set(size, clips or STANDARD_COUNT)
    wanted = parse_split(split)
    return sources.dataset(data, size, split=wanted, count=clips, rule=check_rule(split_by))


def _held_out(source: ClipSource, networks: list[_Network]) -> Iterator[Clip]:
    """The clips; those that set a bundle's INT8 ranges are refused."""
    for clip in source:
        for network in networks:
            if network.calibration is not None:
                network.calibration.check_disjoint([clip])
        yield clip
