"""The same network and clip in everything a user might pick, interleaved in one run."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.bench.engines import (
    Graphs,
    bench_clips,
    build_graphs,
    compile_graphs,
    load_timed,
)
from pkecho_edge.bench.networks import BenchNetwork
from pkecho_edge.bench.pytorch import compiled_call, use_threads, weights_mb
from pkecho_edge.bench.rows import EAGER, OURS, BenchRow, make_row
from pkecho_edge.bench.turns import take_turns
from pkecho_edge.bench.unlowered import (
    as_floats,
    export_unlowered,
    quantize_by_nncf,
    quantize_by_onnxruntime,
    quantize_onnx_by_nncf,
)
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import PkechoEdgeError
from pkecho_edge.model.baseline import baseline_runner
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.stages import Observer
from pkecho_edge.targets.base import Engine

__all__ = ["PeerRow", "PeersResult", "Ratio", "measure_peers", "peer_ratios"]

COMPILED = "torch.compile"
UNLOWERED_NNCF = "unlowered, NNCF"
LAST_MASK_NNCF = "last mask, NNCF"
LOWERED_NNCF = "lowered, NNCF"


@dataclass(frozen=True)
class PeerRow(BenchRow):
    """One engine's figures in one use, and what it takes up.

    Attributes:
        size_mb: of its files, in MB of 10^6 bytes; of PyTorch the weights in memory.
        load_ms: to make a compiled engine ready, in milliseconds; of torch.compile the first call,
            which compiles. None for eager.
        memory_mb: growth of resident memory by loading and one call, in a process of its own; None
            where not known.
    """

    size_mb: float
    load_ms: float | None
    memory_mb: float | None


@dataclass(frozen=True)
class PeersResult:
    """All rows, PyTorch eager first, and notes on what was left out and why."""

    rows: tuple[PeerRow, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Ratio:
    """One engine's throughput over another's, with what is divided by what."""

    label: str
    value: float


@dataclass(frozen=True)
class _Peer:
    engine: str
    precision: str
    is_stream: bool
    call: Callable[[], object]
    size_mb: float
    load_ms: float | None = None
    memory_mb: float | None = None


def measure_peers(
    chosen: BenchNetwork,
    size: tuple[int, int],
    threads: int,
    rounds: int,
    observer: Observer,
    *,
    with_compiler: bool = True,
) -> PeersResult:
    """Build every engine from one network and time them turn by turn.

    Args:
        chosen: the network.
        size: (H, W) of the clip.
        threads: for every engine alike; 0 for every core.
        rounds: turns of each engine.
        observer: hears about progress.
        with_compiler: whether torch.compile takes part; compiling takes a minute.
    """
    network, notes = chosen.network, list[str]()
    use_threads(threads)
    clips = bench_clips(size, network.config.frames)
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        observer.start("build the engines", None)
        built = [*_build_unlowered(network, clips, threads, root / "unlowered", notes)]
        built += _build_lowered(build_graphs(network, clips, root), clips, threads, root / "ours")
        observer.done(f"{len(built)} engines")
        observer.start("load", len(built))
        peers = _pytorch(network, clips[0].frames, notes, with_compiler=with_compiler)
        for engine, precision, made in built:
            try:
                peers.append(_load(engine, precision, made, clips[0].frames, stack))
            except PkechoEdgeError as error:
                if engine.startswith("pkecho-edge"):
                    raise
                notes.append(f"{engine}, {precision} left out: {error.what}")
            observer.advance()
        observer.done(f"{len(peers)} engines")
        observer.start("time turn by turn", rounds)
        taken = take_turns([peer.call for peer in peers], rounds, advance=observer.advance)
        observer.done(f"{rounds} rounds")
    return PeersResult(
        tuple(_rows(peers, taken, chosen.backbone, size, len(clips[0].frames))), tuple(notes)
    )


def _pytorch(
    network: PKEchoNet, frames: NDArray[np.uint8], notes: list[str], *, with_compiler: bool
) -> list[_Peer]:
    """Eager, and torch.compile where it works."""
    run, size_mb = baseline_runner(network), weights_mb(network)
    peers = [_Peer(EAGER, "f32", False, lambda: run(frames), size_mb)]
    if not with_compiler:
        notes.append(f"{COMPILED} left out: not asked for")
        return peers
    compiled = compiled_call(network, frames)
    if isinstance(compiled, str):
        notes.append(f"{COMPILED} left out: {compiled}")
    else:
        peers.append(_Peer(COMPILED, "f32", False, compiled[0], size_mb, compiled[1]))
    return peers


def _build_unlowered(
    network: PKEchoNet, clips: Sequence[Clip], threads: int, folder: Path, notes: list[str]
) -> Iterator[tuple[str, str, Engine]]:
    """(engine, precision, compiled) of the export as it is, in each toolchain that takes it."""
    folder.mkdir()
    whole, last = folder / "whole.onnx", folder / "last.onnx"
    export_unlowered(network, clips[0].frames, whole)
    export_unlowered(network, clips[0].frames, last, last_mask_only=True)
    quantize_by_onnxruntime(whole, clips, folder / "int8.onnx")
    for name, target, graph, floats, precision in (
        ("unlowered, ONNX Runtime", "onnxruntime", "whole", "f32", "f32"),
        ("unlowered, ONNX Runtime", "onnxruntime", "int8", "f32", "int8 + f32"),
        ("unlowered, OpenVINO", "cpu", "whole", "f32", "f32"),
        ("unlowered, OpenVINO", "cpu", "whole", "bf16", "bf16"),
    ):
        out = folder / f"{target}-{graph}-{floats}"
        graphs = {"clip": folder / f"{graph}.onnx"}
        try:
            yield name, precision, compile_graphs(graphs, target, floats, threads, out)["clip"]
        except PkechoEdgeError as error:  # ONNX Runtime does not always read what it quantized
            notes.append(f"{name}, {precision} left out: {error.what}")
    for name, path in ((UNLOWERED_NNCF, whole), (LAST_MASK_NNCF, last)):
        feeds = [as_floats(clip.frames) for clip in clips]
        engines = quantize_by_nncf(path, feeds, threads, folder / f"nncf-{path.stem}")
        for floats, engine in engines.items():
            yield name, f"int8 + {floats}", engine


def _build_lowered(
    graphs: Graphs, clips: Sequence[Clip], threads: int, folder: Path
) -> Iterator[tuple[str, str, Engine]]:
    """(engine, precision, compiled): the lowered graph in float, NNCF's INT8 of it, and ours.

    NNCF's default quantizes the affinities' arithmetic, too, and leaves no mask that is of use: it
    shows what speed is given up for keeping that in float.
    """
    nncf = folder / "nncf" / "clip.onnx"
    quantize_onnx_by_nncf(graphs.clip, [clip.frames for clip in clips], nncf)
    for name, graph, precision in (
        ("lowered, OpenVINO", graphs.clip, ""),
        (LOWERED_NNCF, nncf, "int8 + "),
    ):
        for floats in ("f32", "bf16"):
            out = folder / f"{graph.parent.name}-{graph.stem}-{floats}"
            compiled = compile_graphs({"clip": graph}, "cpu", floats, threads, out)
            yield name, f"{precision}{floats}", compiled["clip"]
    engines = {
        (target, floats): compile_graphs(
            graphs.of("int8", target), target, floats, threads, folder / f"{target}-{floats}"
        )
        for target, floats in (("onnxruntime", "f32"), ("cpu", "f32"), ("cpu", "bf16"))
    }
    for mode in ("clip", "stream"):
        for (target, floats), compiled in engines.items():
            yield f"pkecho-edge, {target}", f"int8 + {floats}", compiled[mode]


def _load(
    name: str, precision: str, engine: Engine, frames: NDArray[np.uint8], stack: ExitStack
) -> _Peer:
    is_stream = any(spec.name == "history" for spec in engine.inputs)
    floats = engine.inputs[0].dtype == "f32"
    loaded = load_timed(engine, as_floats(frames) if floats else frames, stack)
    return _Peer(
        name, precision, is_stream, loaded.call, loaded.size_mb, loaded.load_ms, loaded.memory_mb
    )


def _rows(
    peers: Sequence[_Peer],
    taken: Sequence[list[int]],
    backbone: str,
    size: tuple[int, int],
    length: int,
) -> Iterator[PeerRow]:
    """A stream engine has one use; a clip engine two, by the same timing."""
    eager_fps = length / (statistics.median(taken[0]) / 1e9)
    for peer, latencies in zip(peers, taken, strict=True):
        uses = {"stream": 1} if peer.is_stream else {"clip": length, "sliding": 1}
        for mode, results in uses.items():
            row = make_row(
                peer.engine, mode, backbone, size, peer.precision, latencies, results, eager_fps
            )
            yield PeerRow(
                **vars(row),
                size_mb=peer.size_mb,
                load_ms=peer.load_ms,
                memory_mb=peer.memory_mb,
            )


def peer_ratios(rows: Sequence[BenchRow]) -> list[Ratio]:
    """The comparisons that matter, each INT8 engine against INT8 with the same other layers.

    Args:
        rows: of measure_peers.

    Returns:
        for "int8 + f32", then for "int8 + bf16": ours on clips against the unlowered INT8 export,
        against the same with its last mask only, against NNCF's INT8 of the lowered graph, and
        against eager; ours on a stream against a sliding window over either export, and against
        eager on clips. A toolchain's engine that was left out has none.
    """
    fps = {(row.engine, row.mode, row.precision): row.fps for row in rows}
    eager = fps[EAGER, "clip", "f32"]
    exports = (UNLOWERED_NNCF, LAST_MASK_NNCF)
    ratios = []
    for precision in ("int8 + f32", "int8 + bf16"):
        for mode, other_mode, use, others in (
            ("clip", "clip", "", (*exports, LOWERED_NNCF)),
            ("stream", "sliding", " used as a sliding window", exports),
        ):
            ours = fps[OURS, mode, precision]
            for other in others:
                if theirs := fps.get((other, other_mode, precision)):
                    name = f"{mode}, {precision} / {other}, {precision}{use}"
                    ratios.append(Ratio(name, ours / theirs))
            ratios.append(Ratio(f"{mode}, {precision} / {EAGER}, f32, clip", ours / eager))
    return ratios
