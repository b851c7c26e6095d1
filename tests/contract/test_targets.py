"""What every target must do. A new one is covered by its line in the registry."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from pkecho_edge import targets
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import EnvironmentMismatch, MissingDependency, PkechoEdgeError, UsageError
from pkecho_edge.runtime.window import stream_runner
from pkecho_edge.targets.base import CompileOptions, Engine, Session, Target, TensorSpec

EXAMPLES = Path(__file__).resolve().parents[2] / "docs/examples"
OPTIONS = CompileOptions(threads=1)
CLOSE = 1e-3
"""Largest accepted difference of FP32 engines over the largest logit; another order of summation
moves it, another graph moves it by far more."""

INT8_CLOSE = 0.005
"""Largest accepted mean difference of INT8 engines over the largest logit: a fused kernel rounds a
few activations the other way."""
INT8_PIXELS = 0.001
"""Largest accepted share of pixels whose logit changes its sign."""


@pytest.fixture(scope="module", params=(*targets.names(), "onnxruntime-ahead"))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Every registered target that this machine can run, and the example of the documents."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param not in targets.names():
            patch.syspath_prepend(EXAMPLES)
            patch.setitem(targets.REGISTRY, request.param, "onnxruntime_ahead:OnnxRuntimeAhead")
        found = targets.get(request.param)
        if command := found.missing():
            pytest.skip(f"not installed; {command}")
        yield found


@pytest.fixture(scope="module")
def taken(target: Target, request: pytest.FixtureRequest) -> dict[str, Path]:
    """Mode -> the network in FP32, as the kind of file that the target takes."""
    fixtures = {"onnx": ("graph", "stream_graph"), "pt2": ("program", "stream_program")}
    paths = map(request.getfixturevalue, fixtures[target.capabilities.takes])
    return dict(zip(("clip", "stream"), paths, strict=True))


@pytest.fixture(scope="module")
def engine(
    target: Target, taken: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Engine:
    out = tmp_path_factory.mktemp(f"engine-{target.name}")
    return target.compile({"clip": taken["clip"]}, out, OPTIONS)["clip"]


@pytest.fixture
def session(target: Target, engine: Engine) -> Iterator[Session]:
    with target.load(engine) as session:
        yield session


def test_a_target_says_what_it_can_do(target: Target) -> None:
    assert target.name in targets.names()
    assert target.capabilities.precisions
    assert set(target.capabilities.precisions) <= {"int8", "fp16", "f16", "bf16", "f32"}
    takes_onnx = target.capabilities.takes == "onnx"
    assert target.capabilities.opset >= 17 if takes_onnx else target.capabilities.opset == 0
    assert bool(target.capabilities.scheme) == ("int8" in target.capabilities.precisions)
    assert target.capabilities.float_precision in target.capabilities.precisions


def test_an_engine_lists_its_files(target: Target, engine: Engine) -> None:
    on_disk = {p.relative_to(engine.directory).as_posix() for p in engine.directory.rglob("*")}

    assert engine.target == target.name
    assert set(engine.files) == on_disk
    assert len(set(engine.files)) == len(engine.files) > 0


def test_an_engine_describes_its_interface(engine: Engine) -> None:
    assert engine.inputs == (TensorSpec("frames", "u8", (4, 1, 96, 128)),)
    assert engine.outputs == (TensorSpec("logits", "f32", (4, 1, 96, 128)),)


def test_an_engine_records_how_it_was_built(engine: Engine) -> None:
    assert engine.options.items() >= OPTIONS.as_dict().items()
    assert all(isinstance(value, str) for value in engine.options.values())
    assert engine.toolchain
    assert all(version[0].isdigit() for version in engine.toolchain.values())


def test_it_agrees_with_onnx_runtime(
    session: Session, graph: Path, frames: NDArray[np.uint8]
) -> None:
    reference = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    for clip in (frames, frames[::-1].copy()):
        (expected,) = reference.run(None, {"frames": clip})
        outputs = session.run({"frames": clip})

        assert list(outputs) == ["logits"]
        assert outputs["logits"].dtype == np.float32
        assert outputs["logits"].shape == (4, 1, 96, 128)
        difference = np.abs(outputs["logits"] - expected).max()
        assert difference < CLOSE * np.abs(expected).max()


def test_it_runs_the_quantized_graph_as_it_is_written(
    target: Target, quantized: Path, phantom: Clip, tmp_path: Path
) -> None:
    if "int8" not in target.capabilities.precisions:
        pytest.skip("it has no INT8")
    # unfused: every QuantizeLinear and DequantizeLinear is computed for itself
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    reference = onnxruntime.InferenceSession(
        quantized, settings, providers=["CPUExecutionProvider"]
    )
    (expected,) = reference.run(None, {"frames": phantom.frames})
    with target.load(target.compile({"clip": quantized}, tmp_path, OPTIONS)["clip"]) as session:
        logits = session.run({"frames": phantom.frames})["logits"]

    assert np.abs(logits - expected).mean() < INT8_CLOSE * np.abs(expected).max()
    assert np.mean((logits > 0) != (expected > 0)) < INT8_PIXELS


def test_two_compiles_give_the_same_bytes(target: Target, quantized: Path, tmp_path: Path) -> None:
    if target.capabilities.takes == "pt2":
        pytest.skip("native code, which names the folders that it was compiled in")
    made = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        engine = target.compile({"clip": quantized}, tmp_path / name, OPTIONS)["clip"]
        made.append({f: (engine.directory / f).read_bytes() for f in engine.files})

    assert made[0] == made[1]


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_precision_it_does_not_have_is_refused(
    target: Target, taken: dict[str, Path], tmp_path: Path, precision: str
) -> None:
    options = CompileOptions(float_precision=precision)
    if precision in target.capabilities.precisions:
        engine = target.compile({"clip": taken["clip"]}, tmp_path, options)["clip"]
        assert engine.options["float_precision"] == precision
        return

    with pytest.raises(UsageError, match=rf"target {target.name} has no {precision}"):
        target.compile({"clip": taken["clip"]}, tmp_path, options)
    assert list(tmp_path.iterdir()) == []


def test_the_same_input_gives_the_same_bits(session: Session, frames: NDArray[np.uint8]) -> None:
    first, second = (session.run({"frames": frames})["logits"] for _ in range(2))

    assert np.array_equal(first, second)


def test_outputs_belong_to_the_caller(session: Session, frames: NDArray[np.uint8]) -> None:
    first = session.run({"frames": frames})["logits"]
    kept = first.copy()

    session.run({"frames": 255 - frames})
    assert np.array_equal(first, kept)

    first[:] = 0
    assert np.array_equal(session.run({"frames": frames})["logits"], kept)


def test_inputs_are_left_as_they_are(session: Session, frames: NDArray[np.uint8]) -> None:
    given = frames.copy()

    session.run({"frames": given})

    assert np.array_equal(given, frames)


@pytest.mark.parametrize("kind", ["strided", "mirrored", "read-only"])
def test_any_layout_of_the_input_will_do(
    session: Session, frames: NDArray[np.uint8], kind: str
) -> None:
    expected = session.run({"frames": frames})["logits"]
    given = frames.copy()
    if kind == "strided":
        given = np.repeat(frames, 2, axis=-1)[..., ::2]
    elif kind == "mirrored":
        given = np.ascontiguousarray(frames[::-1])[::-1]
    else:
        given.flags.writeable = False
    assert np.array_equal(given, frames)

    assert np.array_equal(session.run({"frames": given})["logits"], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.astype(np.float32), "frames is float32"),
        (lambda x: x.astype(np.int8), "frames is int8"),
        (lambda x: x[:3], r"frames is uint8 \[3, 1, 96, 128\]"),
        (lambda x: x[:, 0], r"\[4, 96, 128\]"),
        (lambda x: x.transpose(0, 1, 3, 2), r"\[4, 1, 128, 96\]"),
    ],
    ids=["float", "signed", "three frames", "no channel", "transposed"],
)
def test_a_wrong_dtype_or_shape_is_refused(
    session: Session,
    frames: NDArray[np.uint8],
    change: Callable[[NDArray[np.uint8]], NDArray[np.generic]],
    message: str,
) -> None:
    with pytest.raises(UsageError, match=message):
        session.run({"frames": change(frames)})


@pytest.mark.parametrize("names", [(), ("frame",), ("frames", "history")])
def test_missing_and_unknown_inputs_are_refused(
    session: Session, frames: NDArray[np.uint8], names: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match=r"inputs are \[.*\], not \['frames'\]"):
        session.run(dict.fromkeys(names, frames))


def test_a_refused_input_leaves_the_session_usable(
    session: Session, frames: NDArray[np.uint8]
) -> None:
    with pytest.raises(UsageError):
        session.run({})

    assert session.run({"frames": frames})["logits"].any()


def test_a_closed_session_says_so(
    target: Target, engine: Engine, frames: NDArray[np.uint8]
) -> None:
    session = target.load(engine)

    session.close()
    session.close()

    with pytest.raises(UsageError, match="the session is closed"):
        session.run({"frames": frames})


def test_with_closes_the_session(target: Target, engine: Engine, frames: NDArray[np.uint8]) -> None:
    with target.load(engine) as session:
        session.run({"frames": frames})

    with pytest.raises(UsageError, match="closed"):
        session.run({"frames": frames})


def test_two_sessions_work_side_by_side(
    target: Target, engine: Engine, frames: NDArray[np.uint8]
) -> None:
    results: list[NDArray[np.generic]] = []

    def work() -> None:
        with target.load(engine) as session:
            results.extend(session.run({"frames": frames})["logits"] for _ in range(3))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(results) == 6
    assert all(np.array_equal(result, results[0]) for result in results)


def outputs_of(engine: Engine) -> dict[str, NDArray[np.generic]]:
    return {spec.name: np.zeros(spec.shape, dtype=np.float32) for spec in engine.outputs}


def test_a_bound_inference_reads_and_fills_the_arrays_given(
    session: Session, engine: Engine, frames: NDArray[np.uint8]
) -> None:
    given, outputs = frames.copy(), outputs_of(engine)
    infer = session.bind({"frames": given}, outputs)

    for clip in (frames, 255 - frames, frames):
        given[:] = clip
        infer()
        assert np.array_equal(outputs["logits"], session.run({"frames": clip})["logits"])


def test_bound_arrays_live_as_long_as_the_inference(
    session: Session, engine: Engine, frames: NDArray[np.uint8]
) -> None:
    outputs = outputs_of(engine)
    infer = session.bind({"frames": frames.copy()}, outputs)

    _others = [np.full_like(frames, 7) for _ in range(20)]  # would take over freed memory
    infer()

    assert np.array_equal(outputs["logits"], session.run({"frames": frames})["logits"])


def test_what_is_bound_apart_runs_at_once(
    session: Session, engine: Engine, frames: NDArray[np.uint8]
) -> None:
    clips = [frames, 255 - frames]
    expected = [session.run({"frames": clip})["logits"] for clip in clips]
    places = [outputs_of(engine) for _ in clips]
    bound = [
        session.bind({"frames": clip}, outputs) for clip, outputs in zip(clips, places, strict=True)
    ]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(5):
            bound[index]()
            if not np.array_equal(places[index]["logits"], expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("kind", ["missing", "strided", "dtype"])
def test_arrays_that_cannot_be_used_in_place_are_not_bound(
    session: Session, engine: Engine, frames: NDArray[np.uint8], side: str, kind: str
) -> None:
    arrays = {"inputs": {"frames": frames}, "outputs": outputs_of(engine)}
    ((name, array),) = arrays[side].items()
    changed = {
        "missing": {},
        "strided": {name: np.repeat(array, 2, axis=-1)[..., ::2]},
        "dtype": {name: array.astype(np.float64)},
    }

    with pytest.raises(UsageError, match=f"{side} are|{name} (is float64|cannot be used)"):
        session.bind(**{**arrays, side: changed[kind]})


def test_an_output_that_cannot_be_written_is_not_bound(
    session: Session, engine: Engine, frames: NDArray[np.uint8]
) -> None:
    outputs = outputs_of(engine)
    outputs["logits"].flags.writeable = False

    with pytest.raises(UsageError, match="logits cannot be used where it lies"):
        session.bind({"frames": frames}, outputs)


def test_a_bound_inference_of_a_closed_session_says_so(
    target: Target, engine: Engine, frames: NDArray[np.uint8]
) -> None:
    session = target.load(engine)
    infer = session.bind({"frames": frames}, outputs_of(engine))

    session.close()

    with pytest.raises(UsageError, match="the session is closed"):
        infer()
    with pytest.raises(UsageError, match="the session is closed"):
        session.bind({"frames": frames}, outputs_of(engine))


def test_both_modes_are_compiled_side_by_side(
    target: Target, taken: dict[str, Path], frames: NDArray[np.uint8], tmp_path: Path
) -> None:
    engines = target.compile(taken, tmp_path, OPTIONS)

    assert list(engines) == ["clip", "stream"]
    files = {name for engine in engines.values() for name in engine.files}
    assert files == {path.name for path in tmp_path.iterdir()}
    with target.load(engines["clip"]) as clip, target.load(engines["stream"]) as stream:
        whole = clip.run({"frames": frames})["logits"]
        live = stream_runner(stream, engines["stream"])(frames)
    assert live.shape == whole.shape
    assert np.abs(live[-1] - whole[-1]).max() < CLOSE * np.abs(whole).max()


def test_what_is_not_installed_is_said_with_its_install_line(
    target: Target,
    engine: Engine,
    taken: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    command = target.missing()

    assert command is not None
    assert command.startswith("pip install ")
    compiles, loads = (
        lambda: target.compile(taken, tmp_path, OPTIONS),
        lambda: target.load(engine),
    )
    for call in (compiles, loads):
        with pytest.raises(MissingDependency) as caught:
            call()
        assert command in str(caught.value)
        assert caught.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []


def test_an_engine_of_a_newer_toolchain_is_refused(target: Target, engine: Engine) -> None:
    newer = replace(engine, toolchain=dict.fromkeys(engine.toolchain, "9999.12.31"))

    with pytest.raises(EnvironmentMismatch, match=r"built with .*9999\.12\.31"):
        target.load(newer)


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_damaged_engine_is_an_error_of_ours(
    target: Target, engine: Engine, tmp_path: Path, content: bytes
) -> None:
    for name in engine.files:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(PkechoEdgeError) as caught:
        target.load(replace(engine, directory=tmp_path))

    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_graph_that_is_none_is_an_error_of_ours(
    target: Target, tmp_path: Path, content: bytes | None
) -> None:
    graph, out = tmp_path / "graph.onnx", tmp_path / "out"
    out.mkdir()
    if content is not None:
        graph.write_bytes(content)

    with pytest.raises(PkechoEdgeError) as caught:
        target.compile({"clip": graph}, out, OPTIONS)

    assert str(graph) in str(caught.value)
