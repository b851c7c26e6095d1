"""`pkecho-edge verify`: score a bundle against its FP32 baseline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.cli.console import (
    Bars,
    DebugOption,
    GatesOption,
    JsonOption,
    QuietOption,
    check_file,
    check_folder,
    check_place,
    console,
    parse_split,
    plain,
    write_json,
    write_text,
)
from pkecho_edge.errors import UsageError

if TYPE_CHECKING:
    from pkecho_edge.data.sources import ClipSource

__all__ = ["newest_bundle", "print_reports", "verify_"]


def verify_(
    bundle: Annotated[
        Path | None, typer.Argument(help="Default: the newest *.pkb here.", metavar="BUNDLE")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Recordings; default: the standard phantom set.", metavar="DIR"),
    ] = None,
    split: Annotated[str, typer.Option(help="TRAIN, VAL, TEST or ALL of --data.")] = "TEST",
    clips: Annotated[
        int | None, typer.Option(help="At most this many clips; default: all.", min=1)
    ] = None,
    long: Annotated[
        int | None,
        typer.Option(help="Also follow long sequences of so many frames.", metavar="FRAMES", min=2),
    ] = None,
    sequences: Annotated[
        int, typer.Option(help="How many --long sequences, one per recording.", min=1)
    ] = 8,
    baseline: Annotated[
        Path | None,
        typer.Option(help="The checkpoint, where it cannot be found.", metavar="CHECKPOINT"),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Compare with another bundle, not the baseline.", metavar="BUNDLE"),
    ] = None,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Run the bundle's golden vectors, no more.")
    ] = False,
    gates: GatesOption = None,
    pack: Annotated[
        Path | None,
        typer.Option(help="Write the clips for the device kit, no more.", metavar="NPZ"),
    ] = None,
    merge: Annotated[
        Path | None,
        typer.Option(help="Score what the device kit reported.", metavar="RESULT"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; default: NAME.report.", metavar="DIR")
    ] = None,
    json: JsonOption = None,
    junit: Annotated[
        Path | None,
        typer.Option(help="Also write the gates to this file, as JUnit XML.", metavar="FILE"),
    ] = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure accuracy drift and speed, check the gates, and write a report."""
    from pkecho_edge import verifying
    from pkecho_edge.bundle.reader import read_bundle
    from pkecho_edge.verify.gates import (
        AGAINST_LIMITS,
        DEFAULT_LIMITS,
        check_gates,
        load_gates,
    )
    from pkecho_edge.verify.junit import junit_xml
    from pkecho_edge.verify.report import render_table

    bundle = bundle or newest_bundle(Path())
    if junit:
        check_file(junit)
    if self_test:
        _check_self_test_alone(data, clips, baseline, against, gates, pack, merge, out, long)
        _run_self_test(bundle, json, junit, quiet)
        return
    manifest = read_bundle(bundle).manifest
    _check_device_options(manifest.target, bundle, pack, merge, long)
    _check_pack_alone(pack, against, gates, json, junit)
    folder = out or verifying.report_folder(bundle)
    check_folder(folder)
    source = _clips_of(manifest.preprocessing.size, data, split, clips, long, sequences)
    if pack is not None:
        _write_pack(bundle, source, pack, baseline, quiet)
        return
    usual = DEFAULT_LIMITS if against is None else AGAINST_LIMITS
    limits = load_gates(gates) if gates else usual
    with Bars(quiet) as bars:
        result = verifying.verify(
            bundle,
            source,
            baseline=baseline,
            against=against,
            limits=limits,
            out=out,
            merge=merge,
            observer=bars,
        )
    if not quiet:
        console.print(render_table(result.report))
        print_reports(folder)
    if json:
        write_json(json, result.report.to_dict())
    if junit:
        write_text(junit, junit_xml(result.report.to_dict()))
    check_gates(result.gates, path=folder / "report.json")


def _clips_of(
    size: tuple[int, int],
    data: Path | None,
    split: str,
    clips: int | None,
    long: int | None,
    sequences: int,
) -> ClipSource:
    """Those that are verified on."""
    from dataclasses import replace

    from pkecho_edge.data import sources
    from pkecho_edge.data.standard import STANDARD_COUNT

    if data is None:
        source = sources.standard_set(size, clips or STANDARD_COUNT)
    else:
        source = sources.dataset(data, size, split=parse_split(split), count=clips)
    if long is not None:
        source = replace(source, long=sources.LongRun(long, sequences))
    return source


def _write_pack(
    bundle: Path, source: ClipSource, pack: Path, baseline: Path | None, quiet: bool
) -> None:
    """The clips for a device, and what to do with them there."""
    from pkecho_edge import verifying

    check_place(pack)
    with Bars(quiet) as bars:
        verifying.pack(bundle, source, pack, baseline=baseline, observer=bars)
    if quiet:
        return
    console.print(
        f"Pack:  {plain(pack)}, {pack.stat().st_size / 1e6:.1f} MB: clips, the baseline's masks, "
        "and the FP32 network for a PyTorch on the device",
        soft_wrap=True,
    )
    kit = f"python3 {plain(bundle.name)}/device/pkecho_device.py"
    console.print(f"Next, on the device: {kit} --pack {plain(pack.name)}", soft_wrap=True)


def _check_self_test_alone(*others: object) -> None:
    """UsageError where --self-test comes with what says on what else to verify."""
    if any(other is not None for other in others):
        raise UsageError(
            "--self-test runs the golden vectors alone",
            remedy="Leave out --self-test, or all but --json, --junit and --quiet",
        )


def _check_pack_alone(pack: Path | None, *others: object) -> None:
    """UsageError where --pack, which measures nothing, comes with what asks for figures."""
    if pack is not None and any(other is not None for other in others):
        raise UsageError(
            "--pack measures nothing",
            remedy="Leave out --against, --gates, --json and --junit",
        )


def _run_self_test(bundle: Path, json: Path | None, junit: Path | None, quiet: bool) -> None:
    """Golden vectors of every mode; AccuracyGateFailed where one is off."""
    from pkecho_edge import targets
    from pkecho_edge.errors import AccuracyGateFailed, EnvironmentMismatch
    from pkecho_edge.runtime import open_bundle
    from pkecho_edge.self_testing import self_test_document, self_test_table, self_test_xml

    with open_bundle(bundle) as engine:
        manifest = engine.bundle.manifest
        if targets.get(manifest.target).capabilities.device_kit:
            raise EnvironmentMismatch(
                f"is for target {manifest.target}, whose engine a device builds and tests",
                path=bundle,
                remedy=f"Run there: python3 {bundle.name}/device/pkecho_device.py",
            )
        document = self_test_document(manifest.bundle_id, engine.self_test(), manifest.golden)
    if not quiet:
        console.print(self_test_table(document))
    if json:
        write_json(json, document)
    if junit:
        write_text(junit, self_test_xml(document))
    failed = [mode for mode, found in document["modes"].items() if not found["pass"]]
    if failed:
        raise AccuracyGateFailed(
            f"the golden self-test failed: {', '.join(failed)}",
            path=bundle,
            remedy="Build the bundle again with this machine's toolchain; see pkecho-edge doctor",
        )


def _check_device_options(
    target: str, bundle: Path, pack: Path | None, merge: Path | None, long: int | None
) -> None:
    """UsageError where --pack or --merge make no sense."""
    from pkecho_edge import targets

    if pack is None and merge is None:
        return
    if not targets.get(target).capabilities.device_kit:
        raise UsageError(
            f"is for target {target}, which needs no device kit",
            path=bundle,
            remedy="Leave out --pack and --merge",
        )
    if pack is not None and merge is not None:
        raise UsageError("--pack and --merge together", remedy="Pack, run the kit, then merge")
    if long is not None:
        raise UsageError(
            "--long with --pack or --merge", remedy="Leave out --long: the device saw no such clips"
        )


def print_reports(folder: Path) -> None:
    """Where the report and its page are, or what the page needs."""
    from pkecho_edge.verify.html import INSTALL

    page = folder / "report.html"
    console.print(f"Report:  {plain(folder / 'report.json')}", soft_wrap=True)
    last = f"Page:    {plain(page)}" if page.is_file() else f"report.html needs: {plain(INSTALL)}"
    console.print(last, soft_wrap=True)


def newest_bundle(folder: Path) -> Path:
    """The bundle in `folder` that was written last.

    Raises:
        UsageError: there is none.
    """
    bundles = [path for path in folder.glob("*.pkb") if path.is_dir()]
    if not bundles:
        raise UsageError(
            "there is no bundle (*.pkb) here", remedy="Make one with: pkecho-edge compile"
        )
    return max(bundles, key=lambda path: path.stat().st_mtime)
