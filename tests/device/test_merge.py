"""From a pack to a device's result and back into the host's report; hostile results included."""

from __future__ import annotations

import base64
import copy
import io
import json
import shutil
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pkecho_edge import verifying
from pkecho_edge.data import sources
from pkecho_edge.device.result import read_result
from pkecho_edge.errors import UnusableInput
from pkecho_edge.model.baseline import baseline_runner
from pkecho_edge.model.checkpoint import default_checkpoint_path, load_checkpoint
from pkecho_edge.verify.report import render_table
from tests.device.conftest import SIZE, Kit

DATA = sources.standard_set(SIZE, 2)
CHECKPOINT = default_checkpoint_path()


@pytest.fixture(scope="module")
def made_pack(jetson_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    verifying.pack(
        jetson_bundle, DATA, folder / "heart.npz", baseline=CHECKPOINT, cache=folder / "cache"
    )
    return folder / "heart.npz"


@pytest.fixture
def pack(made_pack: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made_pack, tmp_path / "heart.npz"))


@pytest.fixture(scope="module")
def kept() -> dict[str, bytes]:
    """The first run's result, for tests that only look at it or spoil it."""
    return {}


@pytest.fixture
def result(kit: Kit, pack: Path, tmp_path: Path, kept: dict[str, bytes]) -> Path:
    """Of a run with the pack."""
    path = tmp_path / "result.json"
    if not kept:
        assert kit("--pack", pack).code in (0, 3)
        kept["result"] = path.read_bytes()
    path.write_bytes(kept["result"])
    return path


def test_a_device_s_masks_are_scored_like_the_engine_s_own(
    bundle: Path, result: Path, tmp_path: Path
) -> None:
    """The stand-in gives what ONNX Runtime gives: the host's own verification says the same."""
    raw = json.loads(result.read_text())
    merged = verifying.verify(
        bundle,
        DATA,
        baseline=CHECKPOINT,
        merge=tmp_path / "result.json",
        out=tmp_path / "merged",
        cache=tmp_path,
    )
    own = verifying.verify(bundle, DATA, baseline=CHECKPOINT, out=tmp_path / "own", cache=tmp_path)

    for mode in ("clip", "stream"):
        ours, theirs = merged.modes[mode].accuracy, own.modes[mode].accuracy
        assert ours is not None
        assert theirs is not None
        # sums in another order, with another number of threads, tip a rounding here and there
        assert ours.drift.dsc.mean == pytest.approx(theirs.drift.dsc.mean, abs=0.05)
        assert ours.agreement.dsc.mean == pytest.approx(theirs.agreement.dsc.mean, abs=0.05)
        assert ours.agreement.dsc.mean < 100
    # the kit's own figures, from which it chose, are the same means
    plans = {plan["mode"]: plan for plan in raw["plans"]}
    clip = merged.modes["clip"].accuracy
    assert clip is not None
    found = plans["clip"]["accuracy"]
    assert found["n_clips"] == 2
    assert found["agreement_dsc"] == pytest.approx(clip.agreement.dsc.mean)
    assert found["pixel_disagreement"] == pytest.approx(clip.agreement.pixel_disagreement.mean)
    assert found["dsc_drift_points"] == pytest.approx(clip.drift.dsc.mean, abs=1e-9)


def test_the_report_says_where_its_figures_come_from(
    bundle: Path, result: Path, tmp_path: Path
) -> None:
    merged = verifying.verify(
        bundle,
        DATA,
        baseline=CHECKPOINT,
        merge=tmp_path / "result.json",
        out=tmp_path / "merged",
        cache=tmp_path,
    )

    document = merged.report.to_dict()
    assert any("measured on Stand-in, sm_87, TensorRT 8.5.2.2" in w for w in document["warnings"])
    assert not any("Q/DQ graph" in warning for warning in document["warnings"])
    speedups = [gate for gate in document["gates"] if gate["name"] == "speedup"]
    assert all(gate["pass"] is None for gate in speedups)
    assert all("no speedup without a baseline on the device" in g["reason"] for g in speedups)
    assert {plan["mode"] for plan in document["machine"]["device"]["plans"]} == {"clip", "stream"}
    assert (tmp_path / "merged" / "report.html").exists()
    assert render_table(merged.report) is not None


def test_a_baseline_on_the_device_makes_a_speedup(
    bundle: Path, result: Path, tmp_path: Path
) -> None:
    raw = json.loads(result.read_text())
    latency = dict(raw["plans"][0]["latency"], ms_p50=900.0, ms_p95=950.0, ms_p99=990.0)
    raw["baseline"] = {"what": "PyTorch 2.3 eager, FP32, on this GPU", "latency": latency}
    result.write_text(json.dumps(raw))

    merged = verifying.verify(
        bundle, DATA, baseline=CHECKPOINT, merge=result, out=tmp_path / "merged", cache=tmp_path
    )

    clip = merged.modes["clip"].speed
    assert clip is not None
    ours = next(p["latency"]["ms_p50"] for p in raw["plans"] if p["mode"] == "clip")
    assert clip.speedup == pytest.approx(900 / ours)


def test_a_result_of_another_bundle_is_refused(bundle: Path, result: Path, tmp_path: Path) -> None:
    raw = json.loads(result.read_text())
    result.write_text(json.dumps({**raw, "manifest_sha256": "0" * 64}))

    with pytest.raises(UnusableInput, match="is a result of bundle"):
        verifying.verify(bundle, DATA, baseline=CHECKPOINT, merge=result, cache=tmp_path)


def test_clips_that_the_device_did_not_see_are_named(
    bundle: Path, result: Path, tmp_path: Path
) -> None:
    more = sources.standard_set(SIZE, 3)

    with pytest.raises(UnusableInput, match="has no clip masks of the clip"):
        verifying.verify(bundle, more, baseline=CHECKPOINT, merge=result, cache=tmp_path)


def test_without_a_pack_there_is_nothing_to_merge(kit: Kit, bundle: Path, tmp_path: Path) -> None:
    assert kit().code == 0

    with pytest.raises(UnusableInput, match="has no clip masks to score"):
        verifying.verify(
            bundle, DATA, baseline=CHECKPOINT, merge=tmp_path / "result.json", cache=tmp_path
        )


def test_a_pack_of_another_bundle_is_refused(kit: Kit, pack: Path) -> None:
    arrays = dict(np.load(pack))
    index = json.loads(bytes(arrays["index"]))
    arrays["index"] = np.frombuffer(json.dumps({**index, "bundle_id": "x"}).encode(), np.uint8)
    np.savez(pack, **arrays)

    outcome = kit("--pack", pack)

    assert outcome.code == 7
    assert "was made for bundle x" in outcome.err


def test_a_file_that_is_no_pack_is_refused(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "no.npz").write_bytes(b"PK\3\4nonsense")

    outcome = kit("--pack", tmp_path / "no.npz")

    assert outcome.code == 7
    assert "is no pack" in outcome.err


def test_one_data_makes_one_pack(
    jetson_bundle: Path, made_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = tmp_path / "again.npz"
    verifying.pack(jetson_bundle, DATA, again, baseline=CHECKPOINT, cache=tmp_path / "cache")

    ours, theirs = np.load(again), np.load(made_pack)
    assert ours.files == theirs.files
    for name in set(ours.files) - {"baseline_torchscript"}:  # torch notes what it likes in it
        np.testing.assert_array_equal(ours[name], theirs[name])


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda arrays: arrays.pop(name)


def _longer(arrays: dict[str, Any]) -> None:
    index = json.loads(bytes(arrays["index"]))
    index["modes"]["clip"][0]["length"] = 11
    arrays["index"] = np.frombuffer(json.dumps(index).encode(), np.uint8)


DAMAGE: dict[str, Callable[[dict[str, Any]], None]] = {
    "a clip that is missing": _without("clip_1_frames"),
    "no index": _without("index"),
    "a length that is not the window's": _longer,
    "frames of another type": lambda arrays: arrays.update(
        clip_0_frames=arrays["clip_0_frames"].astype(np.float32)
    ),
    "masks that are too few": lambda arrays: arrays.update(
        stream_1_baseline=arrays["stream_1_baseline"][1:]
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_pack_is_refused(kit: Kit, pack: Path, name: str) -> None:
    arrays = dict(np.load(pack))
    DAMAGE[name](arrays)
    np.savez(pack, **arrays)

    outcome = kit("--pack", pack)

    assert outcome.code == 7, outcome.err
    assert "Make" in outcome.err.splitlines()[-1]
    assert outcome.result is None


def test_a_compressed_pack_is_refused(kit: Kit, pack: Path) -> None:
    np.savez_compressed(pack, **dict(np.load(pack)))

    outcome = kit("--pack", pack)

    assert outcome.code == 7
    assert "its arrays are compressed" in outcome.err


def test_an_index_without_its_keys_is_refused(kit: Kit, pack: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(pack))
    index = json.loads(bytes(arrays["index"]))
    del index["bundle_id"]
    arrays["index"] = np.frombuffer(json.dumps(index).encode(), np.uint8)
    np.savez(tmp_path / "short.npz", **arrays)
    np.save(tmp_path / "array.npy", np.zeros(3))

    for name in ("short.npz", "array.npy"):
        outcome = kit("--pack", tmp_path / name)

        assert outcome.code == 7, outcome.err
        assert "is no pack" in outcome.err


def test_a_torch_that_is_broken_is_told_and_hinders_nothing(
    kit: Kit, pack: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text(
        f"raise ImportError('libcudart.so:\\n  cannot open\\n' + {'x' * 500!r})"
    )
    environment["PYTHONPATH"] += f":{tmp_path / 'broken'}"

    assert kit("--pack", pack).code in (0, 3)

    read = read_result(tmp_path / "result.json")
    assert read.baseline is None
    assert read.baseline_what.startswith("PyTorch cannot be imported (libcudart.so: cannot open")


def test_the_packed_network_is_the_baseline(pack: Path) -> None:
    arrays = np.load(pack)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and what the PyTorch of a device reads
        network = torch.jit.load(io.BytesIO(bytes(arrays["baseline_torchscript"])))
    frames = arrays["clip_0_frames"][:, None]

    with torch.inference_mode():
        found = network(torch.from_numpy(frames)[None].float() / 255).numpy()

    expected = baseline_runner(load_checkpoint(CHECKPOINT))(frames)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.fixture
def scored(result: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def _set(*keys: object, to: object) -> Callable[[Any], None]:
    def spoil(raw: Any) -> None:
        for key in keys[:-1]:
            raw = raw[key]
        raw[keys[-1]] = to

    return spoil


BOMB = base64.b64encode(zlib.compress(bytes(1 << 24))).decode()
HOSTILE = {
    "another schema": _set("schema", to="x"),
    "a hash of a path": _set("manifest_sha256", to="../../etc"),
    "a mode that there is not": _set("chosen", to={"both": "int8"}),
    "a precision that there is not": _set("chosen", "clip", to="int4"),
    "a time of text": _set("plans", 0, "latency", "ms_p50", to="1"),
    "a time of zero": _set("plans", 0, "latency", "ms_p50", to=0),
    "percentiles that fall": _set("plans", 0, "latency", "ms_p99", to=1e-9),
    "true as a count": _set("plans", 0, "latency", "n", to=True),
    "a terminal's escape": _set("device", "gpu", to="\x1b[2J"),
    "a very long name": _set("device", "gpu", to="x" * 1000),
    "masks of impossible size": _set("masks", "clip", 0, "shape", to=[1 << 20, 1 << 20, 1 << 20]),
    "plans that are no list": _set("plans", to=7),
    "a reason that is none": _set("reason", "clip", to=None),
    "a device that is a list": _set("device", to=[]),
    "a choice that is a list": _set("chosen", to=[]),
    "masks that are a list": _set("masks", to=[]),
    "no reasons at all": _set("reason", to=None),
}


def test_a_hostile_result_is_refused(scored: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "hostile.json"
    for name, spoil in HOSTILE.items():
        raw = copy.deepcopy(scored)
        spoil(raw)
        path.write_text(json.dumps(raw))

        with pytest.raises(UnusableInput, match="is no result of the device kit") as caught:
            read_result(path)
        assert "\n" not in str(caught.value), name
    for text in ("", "[]", "{", "[" * 100_000, '{"schema": NaN}'):
        path.write_text(text)
        with pytest.raises(UnusableInput):
            read_result(path)


@pytest.mark.parametrize("data", [BOMB, "!", base64.b64encode(b"no zlib").decode(), ""])
def test_masks_that_are_not_what_they_say_are_refused(
    scored: dict[str, Any], tmp_path: Path, data: str
) -> None:
    path = tmp_path / "hostile.json"
    entry = scored["masks"]["clip"][0]
    entry["data"] = data
    path.write_text(json.dumps(scored))

    with pytest.raises(UnusableInput, match="damaged masks"):
        read_result(path).masks("clip", entry["content_sha256"], tuple(entry["shape"]))


def test_masks_of_another_shape_are_not_unpacked(scored: dict[str, Any], tmp_path: Path) -> None:
    """A small file may claim a large mask: what is unpacked is what the clip has."""
    entry = scored["masks"]["clip"][0]
    entry["shape"] = [1 << 10, 1 << 10, 1 << 10]
    entry["data"] = BOMB
    path = tmp_path / "large.json"
    path.write_text(json.dumps(scored))

    with pytest.raises(UnusableInput, match=r"has masks \[1024, 1024, 1024\] of a clip \[10, 96"):
        read_result(path).masks("clip", entry["content_sha256"], (10, *SIZE))
