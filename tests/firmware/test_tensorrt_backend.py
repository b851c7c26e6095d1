"""The C library's back-end for TensorRT, against a stand-in for TensorRT and CUDA.

No GPU is used and nothing of NVIDIA's is run: the stand-in (firmware/tests/tensorrt_stand_in) is
compiled against TensorRT's public headers, which are not in this repository.
PKECHO_TENSORRT_HEADERS names folders that hold NvInfer.h and NvOnnxParser.h, one per version,
joined by ":"; CUDA's headers are those of PKECHO_CUDA_HEADERS, else of /usr/local/cuda.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pkecho_edge.device import pkecho_device as kit

FIRMWARE = Path(__file__).parents[2] / "firmware"
BACKEND, STAND_IN = FIRMWARE / "backends/tensorrt", FIRMWARE / "tests/tensorrt_stand_in"
COMMON = FIRMWARE / "backends/common"
SHARED = [FIRMWARE / "src" / name for name in ("json.cpp", "safe_file.cpp", "text.cpp")]
HEADERS = [Path(p) for p in os.environ.get("PKECHO_TENSORRT_HEADERS", "").split(":") if p]
CUDA = Path(os.environ.get("PKECHO_CUDA_HEADERS", "/usr/local/cuda/include"))
BUNDLE = "pkb-0123456789abcdef0123456789abcdef"  # as in tensorrt_check.cpp

SCENARIOS = {
    "build": "options, layers in FP32 and weights reach the builder; outputs are found by name",
    "cache_hit": "a second load builds nothing",
    "stale": "another graph, option, kit, driver, GPU or TensorRT: built again, with a warning",
    "tampered_plan": "a plan whose bytes are not the record's, or that is a link, is not used",
    "damaged_record": "cut off anywhere, or no record: built again",
    "refused_plan": "a plan that TensorRT does not take is built again",
    "no_cache": "every load builds, and says so",
    "unwritable_cache": "the plan is used and not kept",
    "interface_differs": "other tensors than the manifest's: PKECHO_ENGINE_INTERFACE",
    "build_fails": "TensorRT's own words, with the node's name; too little memory",
    "damaged_files": "ONNX, weights and recipe that contradict each other or are cut off",
    "wrong_device": "another GPU than the profile's, an older or newer TensorRT",
    "run_fails": "PKECHO_INFERENCE_FAILED with the reason; the next run works",
    "cuda_graph": "captured in the second run; where that fails, or is off, the plain way",
    "integrated": "no copies on an integrated GPU, but of memory that it does not see",
    "bound_wrongly": "missing, unknown and too small tensors",
    "every_call_fails": "each call of CUDA fails once: a status, and nothing leaks",
    "threads": "two loads build once; two requests run at a time",
    "timings": "TensorRT's timings are kept, and damaged ones never given to it",
    "no_kit": "without the kit's hash, records have names of their own",
}


def _compiler() -> str:
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler")
    return compiler


@pytest.fixture(scope="session", params=HEADERS or [Path()], ids=str)
def headers(request: pytest.FixtureRequest) -> Path:
    """TensorRT's, of one version."""
    found: Path = request.param
    if not HEADERS:
        pytest.skip("PKECHO_TENSORRT_HEADERS names no headers of TensorRT")
    if not (CUDA / "cuda_runtime_api.h").is_file():
        pytest.skip(f"no headers of CUDA in {CUDA}; PKECHO_CUDA_HEADERS names others")
    return found


@pytest.fixture(scope="session")
def program(headers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tensorrt_check, with sanitizers; the back-end without a warning."""
    folder = tmp_path_factory.mktemp("tensorrt")
    stubs = subprocess.run(
        [sys.executable, STAND_IN / "stubs.py", headers], check=True, capture_output=True
    )
    (folder / "stubs.h").write_bytes(stubs.stdout)
    common = [_compiler(), "-std=c++17", "-O1", "-g", "-fvisibility=hidden"]
    common += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    common += [f"-I{FIRMWARE / 'include'}", f"-I{FIRMWARE / 'src'}", f"-I{COMMON}", f"-I{folder}"]
    common += ["-isystem", str(headers), "-isystem", str(CUDA)]
    strict = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
    objects = []
    own = [FIRMWARE / "tests/tensorrt_check.cpp", STAND_IN / "stand_in.cpp"]
    for source in [*sorted(BACKEND.glob("*.cpp")), *sorted(COMMON.glob("*.cpp")), *SHARED, *own]:
        objects.append(folder / f"{source.stem}.o")
        # the stubs are NVIDIA's signatures
        warnings = strict if source.parent in (BACKEND, COMMON) else ["-w"]
        _run([*common, *warnings, "-c", source, "-o", objects[-1]])
    _run([*common, *objects, "-lsodium", "-pthread", "-o", folder / "tensorrt_check"])
    return folder / "tensorrt_check"


def _run(command: list[Any]) -> str:
    """What it said; the test fails with that where it failed."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(program: Path, scenario: str, tmp_path: Path) -> None:
    _run([program, scenario, tmp_path])


# ---- Shared with the device kit


def _kit_of(record: dict[str, Any], folder: Path) -> tuple[kit.Kit, Path]:
    """A kit on the device and for the bundle of a record, as far as its keys need one."""
    graph, sources = record["graph"], record["sources"]
    bundle = kit.Bundle.__new__(kit.Bundle)
    bundle.folder = folder
    bundle.manifest = {
        "files": [{"path": f"engine/{name}", "sha256": sha} for name, sha in sources.items()]
    }
    bundle.recipe = {"half_flags": True, "weights": [name for name in sources if name != graph]}
    bundle.profile = {"workspace_mb": record["how"]["workspace_mb"]}
    bundle.modes = {"stream": {"float32_nodes": record["how"]["float32_nodes"]}}
    made = kit.Kit.__new__(kit.Kit)
    made.bundle, made.facts, made.strong = bundle, record["facts"], record["how"]["strong"]
    made.cache = kit.Cache(folder, record["facts"], read_only=True)
    return made, folder / graph


@pytest.fixture
def cache(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the back-end left of one build, of a bundle whose kit hashes to "feed"."""
    _run([program, "import_prepare", tmp_path])
    monkeypatch.setattr(kit, "sha256_of", lambda path: "feed")
    return tmp_path / "cache" / BUNDLE


def test_the_kit_takes_a_plan_of_the_back_end(cache: Path) -> None:
    record = json.loads((cache / "stream-int8.json").read_text())
    made, graph = _kit_of(record, cache)

    found = made.cache.record("stream", "int8")

    assert found == record
    assert made.spec("stream", "int8", graph)["key"] == record["key"]
    assert made.cache.plan(record) is not None
    assert made.cache.timings().is_file()


@pytest.mark.parametrize("where", ["own", "above"])
def test_the_back_end_takes_a_plan_of_the_kit(program: Path, cache: Path, where: str) -> None:
    """Also from `--cache FOLDER` itself, and with the fourth number of the version."""
    record = json.loads((cache / "stream-int8.json").read_text())
    plan = (cache / record["plan"]).read_bytes()
    shutil.rmtree(cache)
    folder = cache if where == "own" else cache.parent
    folder.mkdir(exist_ok=True)
    facts = dict(record["facts"], tensorrt=record["facts"]["tensorrt"] + ".9")
    made, graph = _kit_of(dict(record, facts=facts), folder)
    key = made.spec("stream", "int8", graph)["key"]
    assert key != record["key"]

    made.cache.commit(
        "stream", "int8", plan, {"key": key, "facts": kit.identity_of(facts), "graph": graph.name}
    )

    _run([program, "import_use", folder.parent if where == "above" else folder.parent.parent])


def test_keys_are_hashes_of_one_text(program: Path, tmp_path: Path) -> None:
    value: dict[str, Any] = {
        "ü": ["\u00e9\U0001f600", '"\\/\b\f\n\r\t\x00\x1f\x7f', "a b: c, {d}", ""],
        "null": None,
        "numbers": [0, -1, 1024, True, False],
        "empty": [{}, []],
        "Z": {"b": 1, "a": "\u2028"},
    }
    (tmp_path / "in.json").write_text(json.dumps(value, indent=1))

    _run([program, "canonical", tmp_path])

    assert (tmp_path / "out.json").read_bytes() == kit.canonical(value)


# ---- The build


@pytest.fixture
def root(headers: Path, tmp_path: Path) -> Path:
    """Folders as PKECHO_TENSORRT_ROOT and PKECHO_CUDA_ROOT name them, without libraries."""
    if shutil.which("cmake") is None:
        pytest.skip("no cmake")
    for name, found in (("tensorrt", headers), ("cuda", CUDA)):
        (tmp_path / name / "lib").mkdir(parents=True)
        (tmp_path / name / "include").symlink_to(found)
    return tmp_path


def _cmake(root: Path, target: str) -> Path:
    """The build's folder; a warning of the compiler fails the test."""
    build = root / "build"
    told = [f"-DPKECHO_{name.upper()}_ROOT={root / name}" for name in ("tensorrt", "cuda")]
    told += ["-DPKECHO_OPENVINO=OFF", "-DPKECHO_EXAMPLES=OFF", "-DCMAKE_BUILD_TYPE=Debug"]
    _run(["cmake", "-S", FIRMWARE, "-B", build, *told])
    said = _run(["cmake", "--build", build, "--target", target])
    assert "warning" not in said
    return build


def test_cmake_compiles_it_without_libraries(root: Path) -> None:
    build = _cmake(root, "pkecho_tensorrt_objects")

    assert not (build / "lib" / "pkecho").exists()


def test_cmake_links_one_plug_in_under_two_names(program: Path, root: Path, headers: Path) -> None:
    shared = root / "tensorrt/lib/libnvinfer.so"
    command: list[Any] = [
        _compiler(),
        "-std=c++17",
        "-w",
        "-shared",
        "-fPIC",
        f"-I{program.parent}",
    ]
    command += ["-isystem", headers, "-isystem", CUDA, STAND_IN / "stand_in.cpp"]
    _run([*command, "-Wl,-soname,libnvinfer.so", "-o", shared])
    (root / "tensorrt/lib/libnvonnxparser.so").symlink_to(shared)
    (root / "cuda/lib/libcudart.so").symlink_to(shared)

    folder = _cmake(root, "pkecho_backend_tensorrt") / "lib" / "pkecho"

    for name in ("jetson", "tensorrt"):
        library = ctypes.CDLL(str(folder / f"libpkecho-backend-{name}.so"))
        library.pkecho_backend_entry.restype = ctypes.POINTER(ctypes.c_uint32)
        assert library.pkecho_backend_entry()[0] == 1  # PKECHO_BACKEND_ABI
    plug_in = folder / "libpkecho-backend-tensorrt.so"
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", plug_in], check=True, capture_output=True, text=True
    )
    strong = [line.split()[2] for line in listed.stdout.splitlines() if line.split()[1] == "T"]
    assert strong == ["pkecho_backend_entry"]
