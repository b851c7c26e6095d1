#!/usr/bin/env python3
"""Build, test, time and score a bundle's TensorRT plans on the device that will run them.

    python3 heart.pkb/device/pkecho_device.py                       # everything, result in ./
    python3 heart.pkb/device/pkecho_device.py --pack heart.npz      # accuracy as well
    python3 heart.pkb/device/pkecho_device.py --self-test           # load and test, build nothing

One file for Python 3.8 and later; it needs NumPy and the device's own TensorRT, 8.5 to 11, and
nothing of pkecho-edge. In order: the bundle is checked against its manifest, the device against
the bundle's profile, plans are built (in a process of their own, below a memory cap) or taken from
the cache, every plan is tested against the golden vectors, timed turn by turn, scored on the clips
of a pack, and the fastest that holds accuracy is chosen. The result goes into one JSON file, for
`pkecho-edge verify --merge`.

In the cache lie MODE-PRECISION.json, a record, and the plan that it names. A record is written
after its plan and replaced in one step, so a kill at any moment leaves the old plan or the new one.

A precision that cannot be built or loaded is reported, and the run goes on with the others.

Exit codes: 0 done; 1 a defect of the kit; 2 usage; 3 no plan holds accuracy, or a self-test failed;
5 the environment: no TensorRT, another version or device, memory, a folder, no plan at all;
6 integrity: a file is not the bundle's; 7 the pack cannot be used; 130 Ctrl-C; 143 SIGTERM.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import ctypes
import fcntl
import hashlib
import json
import math
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import time
import traceback
import zipfile
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Sequence

import numpy as np

RECORD_SCHEMA = "pkecho-edge/plan/1"
RESULT_SCHEMA = "pkecho-edge/device-result/1"
PACK_SCHEMA = "pkecho-edge/pack/2"
RECIPE_SCHEMA = "pkecho-edge/recipe/1"
CHOSEN = "chosen.json"
IDENTITY = (
    *("gpu", "compute_capability", "multiprocessors", "gpu_memory_gb", "model"),
    *("cuda_driver", "tensorrt", "l4t", "power_mode"),
)
"""What a plan is tied to. Every Orin calls its GPU "Orin": size and model tell them apart."""
DTYPES = {"u8": np.uint8, "f32": np.float32}
FIRST_PLAUSIBLE = 1704067200  # 2024-01-01: a device without a battery starts in 1970

Json = Dict[str, Any]
DEFECT, USAGE, ACCURACY, ENVIRONMENT, INTEGRITY, INPUT = 1, 2, 3, 5, 6, 7


class KitError(Exception):
    """One line for the user: what is wrong, and what to do; and the exit code."""

    def __init__(self, code: int, what: str, remedy: str) -> None:
        what = one_line(what)
        super().__init__(f"{what}. {remedy}")
        self.code, self.what, self.remedy = code, what, remedy


REBUILD = "Run the kit with --rebuild"


class PlanError(KitError):
    """One plan cannot be had: the others may still be."""


def one_line(text: str) -> str:
    """Printable and of bearable length, whatever a library said."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return line if len(line) <= 360 else line[:357] + "..."


# ---------------------------------------------------------------------------------------- files


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, and have it on the disk before it has its name."""
    partial = path.with_name(path.name + ".partial")
    try:
        with open(str(partial), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(str(partial), str(path))
    except BaseException:  # a full disk, Ctrl-C
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    folder = os.open(str(path.parent), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sha256_of(path: Path) -> str:
    """Of a regular file, read in pieces; links are not followed."""
    digest = hashlib.sha256()
    with os.fdopen(os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def canonical(value: Any) -> bytes:
    """JSON of which equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def read_json(path: Path, code: int, remedy: str) -> Json:
    """A file that holds one JSON object."""
    try:
        found = json.loads(path.read_bytes().decode())
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError, RecursionError) as error:
        raise KitError(code, f"{path} cannot be read ({error})", remedy) from error
    return found


# --------------------------------------------------------------------------------------- bundle


class Bundle:
    """A bundle whose every file is what its manifest lists."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        again = "Copy the bundle to the device again"
        path = folder / "manifest.json"
        if not path.exists() and not (folder / "engine").is_dir():
            raise KitError(USAGE, f"{folder} is no bundle", "Name one with --bundle")
        self.manifest = read_json(path, INTEGRITY, "Name a bundle with --bundle")
        self.manifest_sha256 = sha256_of(path)
        try:
            check_files(folder, self.manifest)
            self.recipe = read_json(folder / "engine" / "recipe.json", INTEGRITY, again)
            if self.recipe["schema"] != RECIPE_SCHEMA:
                raise ValueError("the recipe is for another version of the kit")
            self.identity = str(self.manifest["bundle_id"])
            self.profile: Json = dict(self.recipe["profile"])
            self.modes: Json = dict(self.recipe["modes"])
            self.threshold = float(self.manifest["postprocessing"]["threshold"])
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise KitError(INTEGRITY, f"{folder} ({error})", again) from error

    def graph(self, mode: str, precision: str, strong: bool) -> Path:
        """The ONNX file that a precision is built from."""
        graphs = self.modes[mode]["graphs"][precision]
        return self.folder / "engine" / str(graphs["strong" if strong else "weak"])

    def limit(self, mode: str, name: str) -> float | None:
        """Of a gate; None where the bundle has none of this name."""
        for gate in self.manifest.get("gates", []):
            if (gate["mode"], gate["name"]) == (mode, name):
                return float(gate["limit"])
        return None


def check_files(folder: Path, manifest: Json) -> None:
    """ValueError where a file is missing, more, another, or a link."""
    listed = {e["path"]: e for e in [*manifest["files"], *manifest["reports"]["files"]]}
    for name in sorted(listed):
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"{name!r} leads out of the bundle")
        path = folder / name
        if any(p.is_symlink() for p in (path, *path.parents) if folder in p.parents):
            raise ValueError(f"{name} is a link")
        if not path.is_file():
            raise ValueError(f"{name} is missing")
        if path.stat().st_size != listed[name]["size"] or sha256_of(path) != listed[name]["sha256"]:
            raise ValueError(f"{name} is not the file that the manifest lists")
    unlisted = {"manifest.json", "manifest.json.minisig"}
    for base, folders, files in os.walk(str(folder)):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in files:
            relative = (Path(base) / name).relative_to(folder).as_posix()
            if relative not in listed and relative not in unlisted:
                raise ValueError(f"{relative} is not listed in the manifest")


# --------------------------------------------------------------------------------------- device


class Cuda:
    """The driver's library: memory, copies, streams and events, without any package.

    Its argument types are given with each call: addresses have 64 bits.
    """

    def __init__(self) -> None:
        name = os.environ.get("PKECHO_CUDA_LIBRARY", "libcuda.so.1")
        try:
            self._library = ctypes.CDLL(name)
        except OSError as error:
            what = f"there is no NVIDIA driver ({error})"
            raise KitError(ENVIRONMENT, what, "Run this on the device that has the GPU") from error
        self.call("cuInit", 0)
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self._device = device
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._context = context
        self.enter()

    def call(self, name: str, *arguments: Any) -> None:
        """A function of the driver.

        Raises:
            KitError: it failed.
        """
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            hint = {2: "out of memory", 100: "no GPU is there"}.get(status, "see cuda.h")
            what = f"the GPU driver's {name} failed with {status} ({hint})"
            raise KitError(ENVIRONMENT, what, "Free the GPU, or restart the device")

    def enter(self) -> None:
        """Let the calling thread use the GPU."""
        self.call("cuCtxSetCurrent", self._context)

    def facts(self) -> Json:
        """Name, compute capability, driver version, memory in MB."""
        name = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", name, 256, self._device)
        values = {}
        for key, attribute in (("major", 75), ("minor", 76), ("sms", 16), ("integrated", 18)):
            value = ctypes.c_int()
            self.call("cuDeviceGetAttribute", ctypes.byref(value), attribute, self._device)
            values[key] = value.value
        version = ctypes.c_int()
        self.call("cuDriverGetVersion", ctypes.byref(version))
        free, total = self.memory()
        return {
            "gpu": name.value.decode(errors="replace"),
            "compute_capability": "{}.{}".format(values["major"], values["minor"]),
            "cuda_driver": f"{version.value // 1000}.{version.value % 1000 // 10}",
            "multiprocessors": values["sms"],
            "integrated": bool(values["integrated"]),
            "gpu_memory_mb": total >> 20,
            "gpu_memory_gb": round(total / (1 << 30)),
            "gpu_memory_free_mb": free >> 20,
        }

    def release(self) -> None:
        """The end: the driver counts who holds the device's context."""
        self.call("cuDevicePrimaryCtxRelease_v2", self._device)

    def memory(self) -> tuple[int, int]:
        """Free and all bytes."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def allocate(self, size: int) -> int:
        """Device memory; its address."""
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return int(address.value)

    def free(self, address: int) -> None:
        """Device memory."""
        self.call("cuMemFree_v2", ctypes.c_uint64(address))

    def free_pinned(self, array: np.ndarray) -> None:
        """What `pinned` gave; the array must not be touched again."""
        self.call("cuMemFreeHost", ctypes.c_void_p(array.ctypes.data))

    def pinned(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """An array in memory that the GPU copies from and to without a detour."""
        size = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        address = ctypes.c_void_p()
        self.call("cuMemHostAlloc", ctypes.byref(address), ctypes.c_size_t(size), 0)
        buffer = (ctypes.c_uint8 * size).from_address(address.value or 0)
        count = int(np.prod(shape))
        return np.frombuffer(buffer, dtype=dtype, count=count).reshape(tuple(shape))

    def stream(self) -> int:
        """A queue that waits for no other."""
        stream = ctypes.c_void_p()
        self.call("cuStreamCreate", ctypes.byref(stream), 1)
        return int(stream.value or 0)

    def drop(self, stream: int, events: Sequence[int]) -> None:
        """A queue and events that nobody waits for any more."""
        for event in events:
            self.call("cuEventDestroy_v2", ctypes.c_void_p(event))
        self.call("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def event(self) -> int:
        """A mark to put into a queue."""
        event = ctypes.c_void_p()
        self.call("cuEventCreate", ctypes.byref(event), 0)
        return int(event.value or 0)

    def mark(self, event: int, stream: int) -> None:
        """The event happens when the queue comes to it."""
        self.call("cuEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(stream))

    def between(self, start: int, end: int) -> float:
        """Milliseconds from one event to another, of a queue that was waited for."""
        taken = ctypes.c_float()
        self.call(
            "cuEventElapsedTime", ctypes.byref(taken), ctypes.c_void_p(start), ctypes.c_void_p(end)
        )
        return taken.value

    def wait(self, stream: int) -> None:
        """Until all in the queue is done."""
        self.call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def upload(self, device: int, host: np.ndarray, stream: int) -> None:
        """In the queue."""
        target, source = ctypes.c_uint64(device), ctypes.c_void_p(host.ctypes.data)
        size, queue = ctypes.c_size_t(host.nbytes), ctypes.c_void_p(stream)
        self.call("cuMemcpyHtoDAsync_v2", target, source, size, queue)

    def download(self, host: np.ndarray, device: int, stream: int) -> None:
        """In the queue."""
        target, source = ctypes.c_void_p(host.ctypes.data), ctypes.c_uint64(device)
        size, queue = ctypes.c_size_t(host.nbytes), ctypes.c_void_p(stream)
        self.call("cuMemcpyDtoHAsync_v2", target, source, size, queue)


def import_tensorrt() -> Any:
    """The device's TensorRT.

    Raises:
        KitError: none, or one older than 8.5.
    """
    try:
        import tensorrt
    except Exception as error:  # a broken installation raises whatever it likes
        what = f"TensorRT's Python package cannot be imported ({error})"
        remedy = (
            "Run this on the device; install JetPack's python3-libnvinfer there, on a desktop "
            "`pip install tensorrt`, and let a virtual environment see it (--system-site-packages)"
        )
        raise KitError(ENVIRONMENT, what, remedy) from error
    if release(tensorrt.__version__) < (8, 5):
        what = f"this is TensorRT {tensorrt.__version__}"
        raise KitError(ENVIRONMENT, what, "The kit needs 8.5 or later: update JetPack")
    return tensorrt


def release(version: str) -> tuple[int, ...]:
    """A version's leading numbers, for comparing."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def older(here: str, wanted: str) -> bool:
    """By the first three numbers that both have: packages carry a fourth that Python does not."""
    pairs = list(zip(release(here)[:3], release(wanted)[:3]))
    return [a for a, _ in pairs] < [b for _, b in pairs]


def first_line(path: str) -> str | None:
    """Of a small text file; None where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(4096).decode(errors="replace").strip("\0\n ").splitlines()[0]
    except (OSError, IndexError):
        return None


def power_mode() -> str | None:
    """Of a Jetson, its number: it decides which kernels are fast.

    The status file is there in containers, too; `nvpmodel -q` ends with the same number, after
    names and, on JetPack 5, a fan profile that has nothing to do with it.
    """
    found = re.search(r"pmode:0*(\d+)", first_line("/var/lib/nvpmodel/status") or "")
    if found:
        return found.group(1)
    try:
        done = subprocess.run(
            ["nvpmodel", "-q"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return None
    numbers = re.findall(r"^\s*(\d+)\s*$", done.stdout.decode(errors="replace"), re.MULTILINE)
    return numbers[-1] if done.returncode == 0 and numbers else None


def device_facts(cuda: Cuda, trt: Any) -> Json:
    """Everything that a plan or a timing depends on."""
    return {
        **cuda.facts(),
        "tensorrt": trt.__version__,
        "l4t": first_line("/etc/nv_tegra_release"),
        "power_mode": power_mode(),
        "model": first_line("/proc/device-tree/model"),
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def check_device(profile: Json, facts: Json) -> list[str]:
    """Warnings; KitError where the profile is for another device."""
    wanted, found = profile.get("compute_capability"), facts["compute_capability"]
    if wanted is not None and wanted != found:
        what = "profile {} is for sm_{}, this is sm_{} ({})".format(
            profile["name"], wanted.replace(".", ""), found.replace(".", ""), facts["gpu"]
        )
        raise KitError(ENVIRONMENT, what, "Compile with the --profile of this device")
    if older(facts["tensorrt"], profile["tensorrt"]):
        what = "profile {} is for TensorRT {}, this is {}".format(
            profile["name"], profile["tensorrt"], facts["tensorrt"]
        )
        raise KitError(ENVIRONMENT, what, "Update JetPack, or compile with an older --profile")
    if release(facts["tensorrt"])[:2] > release(profile["tensorrt"])[:2]:
        text = "TensorRT {} is newer than the profile's {}: accuracy was checked for that one"
        return [text.format(facts["tensorrt"], profile["tensorrt"])]
    return []


def check_room(profile: Json, cuda: Cuda, integrated: bool) -> None:
    """KitError where building has no room. On a board the GPU's memory is everybody's.

    There the driver counts as free what the system has not touched; caches that it would give back
    stand in MemAvailable only.
    """
    free = cuda.memory()[0] >> 20
    if integrated:
        free = max(free, available_mb() or 0)
    if free < profile["workspace_mb"]:
        what = "{} MB of GPU memory are free, profile {} takes {} MB of workspace".format(
            free, profile["name"], profile["workspace_mb"]
        )
        raise KitError(ENVIRONMENT, what, "Stop what else uses the GPU, or lower workspace_mb")


# --------------------------------------------------------------------------- building, in a child


def is_strong(trt: Any) -> bool:
    """Whether networks say their types: from TensorRT 10 on; from 11 on there are no others."""
    version, kinds = release(trt.__version__), trt.NetworkDefinitionCreationFlag
    return version >= (11,) or (version >= (10,) and hasattr(kinds, "STRONGLY_TYPED"))


def build_one(spec: Json) -> bytes:
    """A plan, in this process. KitError with the parser's or the builder's own words."""
    trt = import_tensorrt()
    logger, said = the_logger(trt)
    builder, strong = trt.Builder(logger), bool(spec["strong"])
    kinds, flags = trt.NetworkDefinitionCreationFlag, 0
    if strong and hasattr(kinds, "STRONGLY_TYPED"):
        flags |= 1 << int(kinds.STRONGLY_TYPED)
    elif not strong and hasattr(kinds, "EXPLICIT_BATCH"):
        flags |= 1 << int(kinds.EXPLICIT_BATCH)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(spec["graph"]):
        errors = [parser.get_error(index) for index in range(min(parser.num_errors, 3))]
        nodes = node_names(Path(spec["graph"]).read_bytes())
        named = [nodes[e.node()] if 0 <= e.node() < len(nodes) else "the graph" for e in errors]
        text = "; ".join(f"{name}: {error.desc()}" for name, error in zip(named, errors))
        what = "TensorRT {} cannot parse {} ({})".format(
            trt.__version__, Path(spec["graph"]).name, text or "; ".join(said[-3:])
        )
        raise KitError(ENVIRONMENT, what, "Report it with this line")
    config = builder.create_builder_config()
    configure(trt, config, network, spec)
    timings = Timings(Path(spec["timing_cache"]))
    timings.give(config)
    if not spec["quiet"]:
        watch_progress(trt, config)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        what = "TensorRT {} built no plan ({})".format(trt.__version__, "; ".join(said[-3:]))
        raise KitError(ENVIRONMENT, what, "Free memory, or report it with this line")
    whole = bytes(memoryview(plan))
    with contextlib.suppress(Exception):  # they only save time: nothing of them may cost the plan
        timings.take(config)
    return whole


class Timings:
    """What TensorRT measured of kernels, in a file that begins with the SHA-256 of the rest.

    TensorRT may abort the process on a damaged one, so it sees none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def _read(self) -> bytes:
        with contextlib.suppress(OSError):
            data = self._path.read_bytes()
            if hashlib.sha256(data[32:]).digest() == data[:32]:
                return data[32:]
        return b""

    def give(self, config: Any) -> None:
        """To a build; an empty one where there is none, or another version's."""
        for data in (self._read(), b""):
            cache = config.create_timing_cache(data)
            if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
                return

    def take(self, config: Any) -> None:
        """From a build, grown."""
        data = bytes(memoryview(config.get_timing_cache().serialize()))
        write_whole(self._path, hashlib.sha256(data).digest() + data)


def node_names(model: bytes) -> list[str]:
    """ "/head/Conv (Conv)" for every node of an ONNX file, in order; [] where it cannot be read.

    A parser gives a node's number only. In ONNX's protocol buffers field 7 of a model is its graph,
    field 1 of that a node, fields 3 and 4 of that its name and its operator.
    """
    names = []
    with contextlib.suppress(IndexError, ValueError):
        for graph in fields_of(model, 7):
            for node in fields_of(graph, 1):
                name, kind = (b"".join(fields_of(node, field)) for field in (3, 4))
                names.append("{} ({})".format(name.decode(errors="replace"), kind.decode()))
    return names


def fields_of(message: bytes, wanted: int) -> Iterator[bytes]:
    """What lies in a message's length-delimited fields of one number."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        kind = tag & 7
        if kind == 2:
            length, at = varint(message, at)
            if tag >> 3 == wanted:
                yield message[at : at + length]
            at += length
        elif kind == 0:
            _, at = varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("no protocol buffer")


def varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def configure(trt: Any, config: Any, network: Any, spec: Json) -> None:
    """Workspace and, for networks that do not say their types, flags and layers that stay FP32."""
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(spec["workspace_mb"]) << 20)
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)  # FP32 is FP32
    if spec["strong"] or spec["precision"] == "fp32":
        return
    flags = ["FP16"] if spec["half"] else []
    flags += ["INT8"] if spec["precision"] == "int8" else []
    for name in flags:  # INT8 without FP16 would leave the rest in FP32
        config.set_flag(getattr(trt.BuilderFlag, name))
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    keep = set(spec["float32_nodes"])
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.name in keep or re.sub(r"(_\d+| .*)$", "", layer.name) in keep:
            keep_in_fp32(trt, layer)


def keep_in_fp32(trt: Any, layer: Any) -> None:
    """Where it computes at all: constants and shapes have no precision."""
    outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
    floats = [out is not None and out.dtype in (trt.float32, trt.float16) for out in outputs]
    if not all(floats) or layer.type in (trt.LayerType.CONSTANT, trt.LayerType.SHAPE):
        return
    layer.precision = trt.float32
    for index in range(layer.num_outputs):
        layer.set_output_type(index, trt.float32)


_LOGGERS: list[tuple[Any, Any]] = []
_SAID: list[str] = []


def the_logger(trt: Any) -> tuple[Any, list[str]]:
    """The process's logger, and the list of errors that it fills, empty.

    TensorRT keeps one pointer to the first logger that it is given: that one must never go.
    """
    del _SAID[:]
    for known, logger in _LOGGERS:
        if known is trt:
            return logger, _SAID
    _LOGGERS.append((trt, make_logger(trt, _SAID)))
    return _LOGGERS[-1][1], _SAID


def make_logger(trt: Any, said: list[str]) -> Any:
    """A logger that keeps errors."""

    class Logger(trt.ILogger):  # type: ignore[misc]  # there are no stubs
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                said.append(" ".join(message.split())[:300])

    return Logger()


def watch_progress(trt: Any, config: Any) -> None:
    """Phases on stderr, where this version tells them."""
    if not hasattr(trt, "IProgressMonitor"):
        return

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # there are no stubs
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if parent is None:
                print(f"phase {phase} ({steps} steps)", file=sys.stderr, flush=True)

        def step_complete(self, phase: str, step: int) -> bool:
            return True

        def phase_finish(self, phase: str) -> None:
            return None

    config.progress_monitor = Monitor()


def child_main(path: str) -> int:
    """`--build-one SPEC`: build, and write the plan beside the spec; 0 when it is whole."""
    spec = json.loads(Path(path).read_text())
    if sys.platform == "linux":  # the child dies with its parent
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != spec["parent"]:  # which was gone before it could be asked for
            return ENVIRONMENT
    with contextlib.suppress(OSError):  # rather the child than its parent, where memory ends
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        write_whole(Path(spec["out"]), build_one(spec))
        return 0
    except KitError as error:
        words = [error.code, error.what, error.remedy]
    except OSError as error:
        words = [ENVIRONMENT, f"the plan cannot be written ({error})", "Free disk space"]
    except Exception as error:  # TensorRT's and Python's own
        if spec["debug"]:
            traceback.print_exc()
        words = [ENVIRONMENT, f"building failed ({error!r})", "Report it with --debug's words"]
    sys.stdout.write(json.dumps(words))  # to the parent: a full disk would take no file
    return ENVIRONMENT


# ------------------------------------------------------------------------------ plans, in a cache


class Cache:
    """Plans of one bundle, their records, and TensorRT's timings."""

    def __init__(self, folder: Path, facts: Json, read_only: bool) -> None:
        self.folder, self._facts = folder, facts
        self._lock: Any = None
        if read_only:
            if not folder.is_dir():
                what = f"there is no cache {folder}"
                raise KitError(ENVIRONMENT, what, "Run the kit without --no-build first")
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(str(folder / "lock"), "a")  # noqa: SIM115  # held to the end
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._sweep()
        except BlockingIOError as error:
            what = f"another kit works in {folder}"
            raise KitError(ENVIRONMENT, what, "Wait for it, or give another --cache") from error
        except OSError as error:
            what = f"{folder} cannot be written ({error.strerror})"
            raise KitError(ENVIRONMENT, what, "Give a --cache that can") from error

    def close(self) -> None:
        """Let the next kit in; the end of the process does so, too."""
        if self._lock is not None:
            self._lock.close()

    def _sweep(self) -> None:
        """What a killed run left: unfinished files, and plans that no record names."""
        for left in self.folder.glob("*.partial"):
            left.unlink()
        for plan in self.folder.glob("*.plan"):
            found = re.fullmatch(r"(clip|stream)-(int8|fp16|fp32)-[0-9a-f]{12}\.plan", plan.name)
            record = self.record(found.group(1), found.group(2)) if found else None
            if found and (record is None or record["plan"] != plan.name):
                plan.unlink()

    def timings(self) -> Path:
        """TensorRT's own timings, of this version and GPU."""
        digest = hashlib.sha256(canonical(identity_of(self._facts))).hexdigest()
        return self.folder / f"timing-{digest[:12]}.cache"

    def record(self, mode: str, precision: str) -> Json | None:
        """What is said of a plan; None where nothing is, or nothing sensible."""
        path = self.folder / f"{mode}-{precision}.json"
        try:
            found = json.loads(path.read_text())
            known = found["schema"] == RECORD_SCHEMA and isinstance(found["facts"], dict)
            plain = re.fullmatch(r"[a-z0-9-]+\.plan", found["plan"]) is not None
            return found if known and plain and isinstance(found["key"], str) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def chosen(self, bundle: Bundle) -> dict[str, str]:
        """Mode -> precision of the last whole run; empty where there was none of this bundle."""
        try:
            found = json.loads((self.folder / CHOSEN).read_text())
            mine = found["bundle_id"] == bundle.identity
            return {m: str(found["modes"][m]) for m in bundle.modes if m in found["modes"] and mine}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def plan(self, record: Json) -> bytes | None:
        """A plan's bytes, None where they are not the record's."""
        try:
            data = (self.folder / record["plan"]).read_bytes()
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == record["sha256"] else None

    def commit(self, mode: str, precision: str, data: bytes, record: Json) -> Json:
        """Plan first, then the record that names it, then the old plan goes."""
        name = f"{mode}-{precision}"
        digest = hashlib.sha256(data).hexdigest()
        plan = f"{name}-{digest[:12]}.plan"
        full = dict(record, schema=RECORD_SCHEMA, plan=plan, sha256=digest, bytes=len(data))
        write_whole(self.folder / plan, data)
        write_whole(self.folder / (name + ".json"), json.dumps(full, indent=1).encode())
        for old in self.folder.glob(name + "-*.plan"):
            if old.name != plan:
                old.unlink()
        return full


def identity_of(facts: Json) -> Json:
    """What a plan is tied to."""
    return {name: facts[name] for name in IDENTITY}


def in_words(facts: Json) -> str:
    """A device, short."""
    sm = str(facts.get("compute_capability", "?")).replace(".", "")
    text = "{} (sm_{}, {} SMs, {} GB, TensorRT {}, driver {}".format(
        facts.get("model") or facts.get("gpu"),
        sm,
        facts.get("multiprocessors"),
        facts.get("gpu_memory_gb"),
        facts.get("tensorrt"),
        facts.get("cuda_driver"),
    )
    mode = facts.get("power_mode")
    return text + (f", {mode})" if mode else ")")


class Plan:
    """One plan, and what is found out about it."""

    def __init__(self, mode: str, precision: str, graph: str, record: Json, data: bytes) -> None:
        self.mode, self.precision, self.graph = mode, precision, graph
        self.record, self.data = record, data
        self.built, self.build_s = False, 0.0
        self.self_test: Json | None = None
        self.latency: Json | None = None
        self.accuracy: Json | None = None
        self.error: str | None = None
        self.masks: list[Json] = []
        self.runner: Any = None

    @classmethod
    def failed(cls, mode: str, precision: str, graph: str, error: KitError) -> Plan:
        """A plan that there is not, and why."""
        plan = cls(mode, precision, graph, {}, b"")
        plan.error = error.what
        return plan

    def load(self, trt: Any, cuda: Cuda, mode: Json) -> None:
        """Onto the GPU; raises as Runner does."""
        what = f"{self.mode} {self.precision} plan"
        self.runner = Runner(trt, cuda, what, self.data, [*mode["inputs"], *mode["outputs"]])

    def unload(self) -> None:
        """Off the GPU: boards have little memory, and the other mode's plans come next."""
        runner, self.runner = self.runner, None
        if runner is not None:
            runner.close()

    @property
    def usable(self) -> bool:
        """Whether its self-test passed."""
        return self.self_test is not None and bool(self.self_test["passed"])

    def as_dict(self) -> Json:
        """For the result."""
        return {
            "mode": self.mode,
            "precision": self.precision,
            "graph": self.graph,
            "built": self.built,
            "build_s": round(self.build_s, 3),
            "bytes": self.record.get("bytes"),
            "sha256": self.record.get("sha256"),
            "key": self.record.get("key"),
            "self_test": self.self_test,
            "latency": self.latency,
            "accuracy": self.accuracy,
            "error": self.error,
        }


class Kit:
    """A run of the program."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.bundle = Bundle(options.bundle)
        self.warnings: list[str] = []
        self.trt = import_tensorrt()
        self.cuda = Cuda()
        self.facts = device_facts(self.cuda, self.trt)
        self.warnings += check_device(self.bundle.profile, self.facts)
        if not options.self_test:
            options.result = result_file(self.bundle, options)
        self.cache = Cache(cache_folder(self.bundle, options), self.facts, options.no_build)
        self.strong = is_strong(self.trt)

    def say(self, text: str) -> None:
        """On stderr, unless it must be quiet."""
        if not self.options.quiet:
            print(text, file=sys.stderr, flush=True)

    # -- plans

    def wanted(self) -> list[tuple[str, str]]:
        """Mode and precision: those asked for; for a self-test those chosen; else the profile's."""
        chosen = self.cache.chosen(self.bundle) if self.options.self_test else {}
        every = self.options.precisions or self.bundle.profile["precisions"]
        pairs = []
        for mode in self.bundle.modes:
            known = mode in chosen and not self.options.precisions
            pairs += [(mode, name) for name in ([chosen[mode]] if known else every)]
        for mode, precision in pairs:
            if precision not in self.bundle.modes[mode]["graphs"]:
                have = ", ".join(self.bundle.profile["precisions"])
                raise KitError(USAGE, f"the bundle has no {precision} graphs", f"It has {have}")
        return pairs

    def plans(self) -> list[Plan]:
        """Every plan that is wanted, from the cache or built now; none of them is loaded."""
        return [self.plan(*pair) for pair in self.wanted()]

    def tested(self, plan: Plan) -> Plan:
        """Loaded and held to the golden vectors; one of an earlier run that fails is built anew."""
        if plan.error is None:
            try:
                plan.load(self.trt, self.cuda, self.bundle.modes[plan.mode])
            except PlanError as error:
                if self.options.no_build:
                    raise
                if not plan.built and error.remedy == REBUILD:
                    self.say(f"{plan.mode} {plan.precision}: {error.what}; it is built again")
                    graph = self.bundle.graph(plan.mode, plan.precision, self.strong)
                    return self.tested(self.build(plan.mode, plan.precision, graph))
                plan.error = error.what
            else:
                plan.self_test = self_test(self.bundle, plan)
                if not plan.usable:
                    share = 100 * plan.self_test["pixels_differ_fraction"]
                    plan.error = f"self-test failed: {share:.3f} % of pixels differ"
        self.say("{} {}: {}".format(plan.mode, plan.precision, plan.error or "self-test passed"))
        return plan

    def plan(self, mode: str, precision: str) -> Plan:
        """From the cache where it is this device's and these graphs', else built."""
        graph = self.bundle.graph(mode, precision, self.strong)
        spec = self.spec(mode, precision, graph)
        record = self.cache.record(mode, precision)
        if record is not None and record["key"] == spec["key"] and not self.options.rebuild:
            data = self.cache.plan(record)
            if data is None:
                # a builder may just have replaced it: then its new record names another
                record = self.cache.record(mode, precision) or record
                data = self.cache.plan(record)
            if data is not None:
                return Plan(mode, precision, graph.name, record, data)
            if self.options.no_build:
                what = "plan {} is not the one that its record names".format(record["plan"])
                raise KitError(INTEGRITY, what, "Run the kit without --no-build")
            self.say(f"{mode} {precision}: the plan is damaged and is built again")
        elif record is not None:
            self.refuse_or_say(mode, precision, record)
        if self.options.no_build:
            what = f"there is no {mode} {precision} plan in {self.cache.folder}"
            raise KitError(ENVIRONMENT, what, "Run the kit without --no-build and --self-test")
        return self.build(mode, precision, graph)

    def refuse_or_say(self, mode: str, precision: str, record: Json) -> None:
        """A plan from elsewhere is not used: rejected, or built anew."""
        here, there = identity_of(self.facts), record["facts"]
        if {name: there.get(name) for name in here} != here:
            why = f"built for {in_words(there)}, this is {in_words(self.facts)}"
        else:
            why = "built from other graphs or options" if not self.options.rebuild else "--rebuild"
        if self.options.no_build:
            what = f"the {mode} {precision} plan is not for this device: {why}"
            raise KitError(ENVIRONMENT, what, "Run the kit without --no-build to build it anew")
        self.say(f"{mode} {precision}: {why}")

    def spec(self, mode: str, precision: str, graph: Path) -> Json:
        """How a plan is built, and the key over everything that matters."""
        recipe, profile = self.bundle.recipe, self.bundle.profile
        sources = [graph.name, *recipe["weights"]]
        listed = {entry["path"]: entry["sha256"] for entry in self.bundle.manifest["files"]}
        how = {
            "precision": precision,
            "strong": self.strong,
            "half": bool(recipe.get("half_flags", True)),
            "workspace_mb": profile["workspace_mb"],
            "float32_nodes": self.bundle.modes[mode].get("float32_nodes", []),
        }
        matters = {
            "kit": sha256_of(Path(os.path.abspath(__file__))),
            "sources": {name: listed["engine/" + name] for name in sources},
            "how": how,
            "device": identity_of(self.facts),
        }
        key = hashlib.sha256(canonical(matters)).hexdigest()
        return dict(how, graph=str(graph), key=key, timing_cache=str(self.cache.timings()))

    def build(self, mode: str, precision: str, graph: Path) -> Plan:
        """In a child below the memory cap; a plan with an error where TensorRT builds none."""
        check_room(self.bundle.profile, self.cuda, self.facts["integrated"])
        spec = self.spec(mode, precision, graph)
        name = f"{mode}-{precision}"
        base = self.cache.folder / name
        out = Path(str(base) + ".built.partial")
        request = Path(str(base) + ".spec.partial")
        told = {"quiet": self.options.quiet, "debug": self.options.debug}
        full = dict(spec, out=str(out), parent=os.getpid(), **told)
        try:
            request.write_text(json.dumps(full))
        except OSError as error:
            what = f"{request} cannot be written ({error.strerror})"
            raise KitError(ENVIRONMENT, what, "Free disk space, or give another --cache") from error
        self.say(f"{mode} {precision}: building from {graph.name}")
        start = time.monotonic()
        command = [sys.executable, os.path.abspath(__file__), "--build-one", str(request)]
        cap = self.options.memory_mb or int(self.bundle.profile["build_memory_mb"])
        try:
            child = Child(command, cap, self.facts["integrated"], self.say)
            code = child.run()
            if code != 0 or not out.is_file():
                raise build_error(name, code, child.words)
            data = out.read_bytes()
            record = {"key": spec["key"], "facts": identity_of(self.facts), "graph": graph.name}
            plan = Plan(mode, precision, graph.name, {}, data)
            plan.record = self.cache.commit(mode, precision, data, record)
        except PlanError as error:
            return Plan.failed(mode, precision, graph.name, error)
        except OSError as error:
            what = f"the plan cannot be kept in {self.cache.folder} ({error.strerror})"
            raise KitError(ENVIRONMENT, what, "Free disk space, or give another --cache") from error
        finally:
            for path in (out, request):
                with contextlib.suppress(OSError):
                    path.unlink()
        plan.built, plan.build_s = True, time.monotonic() - start
        self.say(f"{mode} {precision}: built in {plan.build_s:.1f} s")
        return plan


class Child:
    """A process that builds one plan, watched."""

    def __init__(
        self, command: list[str], cap_mb: int, integrated: bool, say: Callable[[str], None]
    ) -> None:
        self._command, self._cap_mb, self._say = command, cap_mb, say
        self._integrated, self._before = integrated, available_mb()
        self.words = b""

    def run(self) -> int:
        """Its exit code; `words` is what it printed.

        Raises:
            PlanError: it, or the machine, ran out of the memory it may have.
        """
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the parent, which ends the child
        )
        start, told = time.monotonic(), time.monotonic()
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.words = process.communicate(timeout=0.1)[0]
                    return process.returncode
                self._check(process.pid)
                if time.monotonic() - told >= 10:
                    told = time.monotonic()
                    self._say(f"  ... {told - start:.0f} s")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def _check(self, pid: int) -> None:
        used, left = resident_mb(pid), available_mb()
        if self._integrated and left is not None and self._before is not None:
            # what the GPU takes of a board's memory is in no process's resident set
            used = max(used, self._before - left)
        again = "Stop other programs, or give more with --memory-mb"
        if used > self._cap_mb:
            what = f"building takes {used} MB, more than the {self._cap_mb} MB it may"
            raise PlanError(ENVIRONMENT, what, again)
        if left is not None and left < 128:
            raise PlanError(ENVIRONMENT, f"the device has only {left} MB left", again)


def resident_mb(pid: int) -> int:
    """Of a process; 0 once it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def available_mb() -> int | None:
    """Memory that the machine can still give; None where it does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) >> 10
    except (OSError, ValueError, IndexError):
        pass
    return None


def build_error(name: str, code: int, words: bytes) -> PlanError:
    """What the child left word of, or that it died."""
    try:
        left, what, remedy = json.loads(words.decode())
        return PlanError(int(left), str(what), str(remedy))
    except ValueError:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        what = f"building {name} {how}"
        return PlanError(ENVIRONMENT, what, "Free memory and run the kit again")


# -------------------------------------------------------------------------------------- running


class Runner:
    """A plan on the GPU, with its buffers: clips, or a stream pushed frame by frame.

    Raises PlanError where TensorRT does not take the plan, or it has other tensors.
    """

    def __init__(
        self, trt: Any, cuda: Cuda, called: str, data: bytes, tensors: Sequence[Json]
    ) -> None:
        self.cuda = cuda
        logger, said = the_logger(trt)
        self._runtime = trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            words = "; ".join(said[-2:]) or "TensorRT gives no reason"
            what = f"the {called} cannot be loaded ({words})"
            raise PlanError(ENVIRONMENT, what, REBUILD)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            what = f"there is no memory to run the {called}"
            raise PlanError(ENVIRONMENT, what, "Free the GPU's memory")
        self._specs = {spec["name"]: spec for spec in tensors}
        self._names = self._checked_names(trt)
        self.frame_name = "frames" if "frames" in self._specs else "frame"
        self.is_stream = self.frame_name == "frame"
        self._histories = ["history", "history_out"]
        self._memory: dict[str, int] = {}
        self._pinned: list[np.ndarray] = []
        self._marks: list[int] = []
        self.queue = cuda.stream()
        try:
            self._allocate()
        except KitError as error:
            self.close()
            raise PlanError(error.code, error.what, error.remedy) from error

    def _allocate(self) -> None:
        for name, spec in self._specs.items():
            size = int(np.prod(spec["shape"])) * np.dtype(DTYPES[spec["dtype"]]).itemsize
            self._memory[name] = self.cuda.allocate(size)
            self._bind(name, name)
        self._marks += [self.cuda.event(), self.cuda.event()]
        self.given = self._host(self.frame_name, np.uint8)
        self.logits = self._host("logits", np.float32)
        if self.is_stream:
            self._seed = self._host("history", np.float32)

    def _host(self, name: str, dtype: Any) -> np.ndarray:
        self._pinned.append(self.cuda.pinned(self._specs[name]["shape"], dtype))
        return self._pinned[-1]

    def _bind(self, name: str, memory: str) -> None:
        if not self._context.set_tensor_address(self._names[name], self._memory[memory]):
            raise KitError(ENVIRONMENT, f"TensorRT refuses the address of {name}", "Report it")

    def _checked_names(self, trt: Any) -> dict[str, str]:
        """Our name of a tensor -> the plan's; PlanError where it has others.

        Torch-TensorRT calls outputs output0, output1 and so on: those are known by their place.
        """
        found, results = {}, []
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            kind = str(self._engine.get_tensor_dtype(name)).rpartition(".")[2]
            dtype = {"FLOAT": "f32", "UINT8": "u8"}.get(kind, kind)
            found[name] = (dtype, tuple(self._engine.get_tensor_shape(name)))
            if self._engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT:
                results.append(name)
        names = {name: name for name in self._specs}
        if sorted(results) == [f"output{index}" for index in range(len(results))]:
            ours = [name for name in self._specs if name in ("logits", "history_out")]
            names.update(zip(ours, sorted(results)))
        expected = {names[n]: (s["dtype"], tuple(s["shape"])) for n, s in self._specs.items()}
        if found != expected:
            what = f"the plan's tensors are {found}, not {expected}"
            raise PlanError(INTEGRITY, what, REBUILD)
        return names

    def infer(self) -> None:
        """`given` in, `logits` out; a stream's history stays where it is."""
        self.cuda.upload(self._memory[self.frame_name], self.given, self.queue)
        self.cuda.mark(self._marks[0], self.queue)
        if not self._context.execute_async_v3(self.queue):
            raise KitError(ENVIRONMENT, "TensorRT could not run the plan", "Restart the device")
        self.cuda.mark(self._marks[1], self.queue)
        self.cuda.download(self.logits, self._memory["logits"], self.queue)
        self.cuda.wait(self.queue)

    def gpu_ms(self) -> float:
        """What the GPU took for the last inference, without the copies."""
        return self.cuda.between(*self._marks)

    def advance(self) -> None:
        """One frame of a stream: infer, and swap the histories."""
        self.infer()
        reads, writes = self._histories
        self._histories = [writes, reads]
        self._bind("history", writes)
        self._bind("history_out", reads)

    def restart(self, frame: np.ndarray) -> None:
        """The history becomes T - 1 copies of the frame's features: the newest that come out."""
        self.given[...] = frame
        self.infer()
        self.remember(self.written()[-1])

    def written(self) -> np.ndarray:
        """The history that the last `infer` gave; overwritten by the next call."""
        self.cuda.download(self._seed, self._memory[self._histories[1]], self.queue)
        self.cuda.wait(self.queue)
        return self._seed

    def remember(self, history: np.ndarray) -> None:
        """What the next `infer` looks back on, f32 [T - 1, ...], or one entry for all."""
        self._seed[:] = history.copy()
        self.cuda.upload(self._memory[self._histories[0]], self._seed, self.queue)
        self.cuda.wait(self.queue)

    def close(self) -> None:
        """Give everything back; the arrays `given` and `logits` are gone."""
        self._context = self._engine = self._runtime = None
        for address in self._memory.values():
            self.cuda.free(address)
        for array in self._pinned:
            self.cuda.free_pinned(array)
        self.cuda.drop(self.queue, self._marks)
        self._memory, self._pinned = {}, []

    def segment(self, frames: np.ndarray) -> np.ndarray:
        """u8 [N, 1, H, W] -> logits f32 [N, 1, H, W]: one clip, or a stream from its start."""
        if not self.is_stream:
            self.given[...] = frames
            self.infer()
            return self.logits.copy()
        self.restart(frames[:1])
        found = np.empty(frames.shape, np.float32)
        for index in range(len(frames)):
            self.given[...] = frames[index : index + 1]
            self.advance()
            found[index] = self.logits[0]
        return found


# ------------------------------------------------------------------------------------ self-test


def golden_of(bundle: Bundle, mode: str, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """Frames, and the logits that a plan of this precision is held to."""
    own = bundle.folder / "golden" / (mode + "-float")
    folder = own if precision != "int8" and own.is_dir() else bundle.folder / "golden" / mode
    frames = np.load(str(folder / "frames.npy"), allow_pickle=False)
    logits = np.load(str(folder / "logits.npy"), allow_pickle=False)
    return frames, logits


def self_test(bundle: Bundle, plan: Plan) -> Json:
    """The plan's masks beside the golden ones, within the manifest's tolerances."""
    frames, expected = golden_of(bundle, plan.mode, plan.precision)
    threshold = bundle.threshold
    found = plan.runner.segment(frames)
    tolerance = bundle.manifest["golden"]
    ours, theirs = found[:, 0] > threshold, expected[:, 0] > threshold
    pixels = ours[0].size
    differ = (ours != theirs).sum(axis=(1, 2)).max() / pixels
    areas, golden = ours.sum(axis=(1, 2)), theirs.sum(axis=(1, 2))
    change = (np.abs(areas - golden) / np.where(golden > 0, golden, pixels)).max()
    finite = bool(np.isfinite(found).all())
    distance = float(np.abs(found.astype(np.float64) - expected).max()) if finite else None
    held = differ <= tolerance["pixels_fraction"] and change <= tolerance["area_fraction"]
    return {
        "passed": finite and bool(held),
        "pixels_differ_fraction": float(differ),
        "area_difference_fraction": float(change),
        "max_abs_logit_difference": distance,
    }


# --------------------------------------------------------------------------------------- timing


def time_plans(plans: list[Plan], rounds: int, baseline: Callable[[], None] | None) -> list[int]:
    """Latencies into each plan, turn by turn; returns the baseline's, in nanoseconds.

    A turn is two calls, the first of them untimed: in use a plan follows itself.
    """
    calls = [plan.runner.advance if plan.runner.is_stream else plan.runner.infer for plan in plans]
    every = [*calls, *([baseline] if baseline else [])]
    taken: list[list[int]] = [[] for _ in every]
    inside: list[list[float]] = [[] for _ in plans]
    for turn in range(rounds + 3):
        for index, call in enumerate(every):
            call()
            start = time.perf_counter_ns()
            call()
            wall = time.perf_counter_ns() - start
            if turn >= 3:
                taken[index].append(wall)
                if index < len(plans):
                    inside[index].append(plans[index].runner.gpu_ms())
    for plan, values, gpu in zip(plans, taken, inside):
        results = 1 if plan.runner.is_stream else plan.runner.given.shape[0]
        plan.latency = latency_of(values, results)
        plan.latency["gpu_ms_p50"] = float(np.percentile(gpu, 50))
        plan.latency["gpu_ms_p99"] = float(np.percentile(gpu, 99))
    return taken[-1] if baseline else []


def latency_of(nanoseconds: Sequence[int], results: int) -> Json:
    """Percentiles in milliseconds; copies to the GPU and back are in them."""
    values = np.asarray(nanoseconds, np.float64) / 1e6
    mean = float(values.mean())
    spread = float(values.std(ddof=1)) / mean if len(values) > 1 else None
    p50, p90, p95, p99 = (float(np.percentile(values, q)) for q in (50, 90, 95, 99))
    return {
        "n": len(values),
        "ms_p50": p50,
        "ms_p90": p90,
        "ms_p95": p95,
        "ms_p99": p99,
        "ms_mean": mean,
        "cv": spread,
        "fps": 1000 * results / p50,
        "results_per_call": results,
    }


def torch_baseline(pack: Pack | None, frames: np.ndarray) -> tuple[Callable[[], None] | None, str]:
    """The FP32 network in PyTorch on this GPU as a call on one clip; or why there is none."""
    if pack is None or pack.torchscript is None:
        return None, "no pack with the PyTorch network was given"
    try:
        import io

        import torch
    except Exception as error:  # as TensorRT's
        return None, one_line(f"PyTorch cannot be imported ({error})")
    if not torch.cuda.is_available():
        return None, f"PyTorch {torch.__version__} has no GPU here"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        load: Any = torch.jit.load  # type: ignore[attr-defined, unused-ignore]
        network = load(io.BytesIO(pack.torchscript), map_location="cuda").eval()
        clip = torch.from_numpy(frames)[None].float() / 255

        def run() -> None:  # copies to the GPU and back, as the plans'
            with torch.inference_mode():
                found = network(clip.cuda())
                (found[-1] if isinstance(found, (list, tuple)) else found).cpu()

        for _ in range(3):  # the profiling executor compiles in the first ones
            run()
    except Exception as error:  # another version's file, memory
        return None, one_line(f"PyTorch {torch.__version__} cannot run the network ({error})")
    return run, f"PyTorch {torch.__version__} (TorchScript), FP32, on this GPU"


def forget_torch() -> None:
    """Give back the memory that PyTorch keeps for later: the next plans need it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


# --------------------------------------------------------------------------------------- scoring


PACK_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    EOFError,
    MemoryError,
    RecursionError,
    zlib.error,
    zipfile.BadZipFile,
)


class Pack:
    """Clips with the baseline's masks and the truth, made by `pkecho-edge verify --pack`."""

    def __init__(self, path: Path, bundle: Bundle) -> None:
        remedy = "Make one with: pkecho-edge verify BUNDLE --pack FILE"
        self._path = path
        try:
            self.sha256 = sha256_of(path)
            if not zipfile.is_zipfile(str(path)):
                raise ValueError("it is no archive")
            self._arrays = np.load(str(path), allow_pickle=False)
            self.index = json.loads(bytes(self._arrays["index"]).decode())
            if self.index["schema"] != PACK_SCHEMA:
                raise ValueError("it is for another version of the kit")
            known = "baseline_torchscript" in self._arrays.files
            script = bytes(self._arrays["baseline_torchscript"]) if known else None
            self.torchscript: bytes | None = script
            made_for = str(self.index["bundle_id"])
            self._check(bundle)
        except PACK_DAMAGE as error:
            raise KitError(INPUT, f"{path} is no pack ({error!r})", remedy) from error
        if made_for != bundle.identity:
            what = f"{path} was made for bundle {made_for}"
            raise KitError(INPUT, what, f"Make one for this bundle, {bundle.identity}")

    def _check(self, bundle: Bundle) -> None:
        """The index fits the bundle, and every array of it is there and stored as it is."""
        with zipfile.ZipFile(str(self._path)) as archive:
            kinds = {item.filename: item.compress_type for item in archive.infolist()}
        if any(kind != zipfile.ZIP_STORED for kind in kinds.values()):
            raise ValueError("its arrays are compressed")
        window = int(bundle.manifest["window"]["length"])
        for mode, entries in self.index["modes"].items():
            for number, entry in enumerate(entries):
                length = int(entry["length"])
                if re.fullmatch(r"[0-9a-f]{64}", entry["content_sha256"]) is None:
                    raise ValueError("a hash that is none")
                if length < 1 or (mode == "clip" and length != window):
                    raise ValueError(f"a {mode} of {length} frames")
                if not all(0 <= int(at) < length for at in entry["truth"]):
                    raise ValueError("a labelled frame outside its clip")
                names = [f"{mode}_{number}_{kind}.npy" for kind in ("frames", "baseline", "truth")]
                if not kinds.keys() >= set(names):
                    raise ValueError(f"{mode} {number} is missing")

    def clips(self, mode: str) -> Iterator[tuple[Json, np.ndarray, np.ndarray, np.ndarray]]:
        """Entry, frames u8 [L, 1, H, W], baseline masks [L, H, W], truth of labelled frames.

        One clip at a time is read: a pack may be larger than the device's memory.
        """
        for number, entry in enumerate(self.index["modes"].get(mode, [])):
            try:
                arrays = [
                    self._arrays[f"{mode}_{number}_{k}"] for k in ("frames", "baseline", "truth")
                ]
                frames, baseline, truth = arrays
                if frames.dtype != np.uint8 or frames.ndim != 3 or len(frames) != entry["length"]:
                    raise ValueError(f"frames {frames.dtype} {frames.shape}")
                shape = frames.shape[1:]
                masks, right = unpacked(baseline, shape), unpacked(truth, shape)
                if (len(masks), len(right)) != (len(frames), len(entry["truth"])):
                    raise ValueError("masks that are fewer or more than the frames")
            except PACK_DAMAGE as error:
                what = f"{self._path}: {mode} {number} is damaged ({error})"
                raise KitError(INPUT, what, "Make the pack again") from error
            yield entry, np.ascontiguousarray(frames[:, None]), masks, right


def unpacked(bits: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """u8 [N, ceil(H W / 8)] -> bool [N, H, W]."""
    pixels = int(np.prod(shape))
    flat = np.unpackbits(bits.reshape(len(bits), -1), axis=1)[:, :pixels]
    return flat.astype(bool).reshape((len(bits), *shape))


def dice(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N, H, W] each -> [N]; two empty masks agree: 1."""
    both = (a & b).sum(axis=(1, 2))
    total = a.sum(axis=(1, 2)) + b.sum(axis=(1, 2))
    return np.where(total > 0, 2.0 * both / np.maximum(total, 1), 1.0)


def score(plan: Plan, pack: Pack, threshold: float) -> None:
    """Drift against the truth and agreement with the baseline; keeps the masks."""
    drifts, agreements, pixels = [], [], []
    for entry, frames, baseline, truth in pack.clips(plan.mode):
        if frames.shape[1:] != plan.runner.given.shape[1:]:
            what = f"the clips of the pack are {frames.shape[2:]}, the plan takes others"
            raise KitError(INPUT, what, "Make the pack again for this bundle")
        masks = plan.runner.segment(frames)[:, 0] > threshold
        agreements.append(100 * float(dice(masks, baseline).mean()))
        pixels.append(100 * float((masks != baseline).mean()))
        known = entry["truth"]
        if known:
            drop = dice(baseline[known], truth).mean() - dice(masks[known], truth).mean()
            drifts.append(100 * float(drop))
        packed = zlib.compress(np.packbits(masks.reshape(len(masks), -1), axis=1).tobytes())
        plan.masks.append(
            {
                "content_sha256": entry["content_sha256"],
                "shape": list(masks.shape),
                "data": base64.b64encode(packed).decode(),
            }
        )
    plan.accuracy = {
        "n_clips": len(agreements),
        "dsc_drift_points": float(np.mean(drifts)) if drifts else None,
        "dsc_drift_points_worst": float(np.max(drifts)) if drifts else None,
        "agreement_dsc": float(np.mean(agreements)) if agreements else None,
        "pixel_disagreement": float(np.mean(pixels)) if pixels else None,
    }


GATES = (
    ("dsc_drift", "dsc_drift_points", False),
    ("dsc_drift_worst_clip", "dsc_drift_points_worst", False),
    ("pixel_disagreement", "pixel_disagreement", False),
    ("agreement_dsc", "agreement_dsc", True),
)
"""Gate of the manifest, figure of a plan, whether more is better."""


def failed_gates(bundle: Bundle, plan: Plan) -> list[str]:
    """Of the means: intervals are the host's, from the masks."""
    found = []
    for gate, figure, more_is_better in GATES:
        limit = bundle.limit(plan.mode, gate)
        value = None if plan.accuracy is None else plan.accuracy[figure]
        if limit is None or value is None:
            continue
        if value < limit if more_is_better else value > limit:
            found.append(f"{gate} {value:.3g}, limit {limit:g}")
    return found


# ------------------------------------------------------------------------------- choice and result


def choose(bundle: Bundle, plans: list[Plan]) -> tuple[dict[str, str], dict[str, str]]:
    """Per mode the fastest plan that holds accuracy, and why; modes without one are absent."""
    chosen, reason = {}, {}
    for mode in bundle.modes:
        mine = [plan for plan in plans if plan.mode == mode]
        held = [plan for plan in mine if plan.usable and not failed_gates(bundle, plan)]
        if not held:
            words = []
            for plan in mine:
                why = plan.error or "; ".join(failed_gates(bundle, plan)) or "self-test failed"
                words.append(f"{plan.precision}: {why}")
            tested = any(plan.self_test is not None for plan in mine)
            reason[mode] = one_line(
                ("no plan holds: " if tested else "no plan can be used: ") + " | ".join(words)
            )
            continue
        best = min(held, key=lambda plan: plan.latency["ms_p50"] if plan.latency else math.inf)
        chosen[mode] = best.precision
        scored = "within the gates" if best.accuracy else "accuracy not measured: no pack"
        if best.latency:
            text = "the fastest, {:.3f} ms at the median; {}".format(best.latency["ms_p50"], scored)
        else:
            text = f"not timed; {scored}"
        reason[mode] = text
    return chosen, reason


def clock_is_plausible(bundle: Bundle) -> bool:
    """Whether the device's calendar can be right: after 2024, and after the bundle was made."""
    made = (bundle.folder / "manifest.json").stat().st_mtime
    return time.time() >= max(FIRST_PLAUSIBLE, min(made, 4102444800))


def result_of(
    kit: Kit,
    plans: list[Plan],
    pack: Pack | None,
    baseline: Json | None,
    baseline_reason: str,
    chosen: dict[str, str],
    reason: dict[str, str],
) -> Json:
    """The document of the result file."""
    masks = {p.mode: p.masks for p in plans if p.masks and chosen.get(p.mode) == p.precision}
    return {
        "schema": RESULT_SCHEMA,
        "bundle_id": kit.bundle.identity,
        "manifest_sha256": kit.bundle.manifest_sha256,
        "pack_sha256": pack.sha256 if pack else None,
        "clock": "plausible" if clock_is_plausible(kit.bundle) else "implausible",
        "device": kit.facts,
        "warnings": kit.warnings,
        "plans": [plan.as_dict() for plan in plans],
        "baseline": baseline,
        "baseline_reason": baseline_reason,
        "chosen": chosen,
        "reason": reason,
        "masks": masks,
    }


def print_table(plans: list[Plan], chosen: dict[str, str], baseline: Json | None) -> None:
    """Plain text: a device's console may know nothing else."""
    line = "{:<8}{:<7}{:<10}{:>9}{:>9}{:>10}{:>10}  {}"
    print(line.format("mode", "plan", "self-test", "p50 ms", "p99 ms", "frames/s", "drift pt", ""))
    for plan in plans:
        speed, score_ = plan.latency, plan.accuracy
        drift = score_["dsc_drift_points"] if score_ else None
        print(
            line.format(
                plan.mode,
                plan.precision,
                "passed" if plan.usable else "FAILED",
                "{:.3f}".format(speed["ms_p50"]) if speed else "-",
                "{:.3f}".format(speed["ms_p99"]) if speed else "-",
                "{:.1f}".format(speed["fps"]) if speed else "-",
                f"{drift:+.3f}" if drift is not None else "-",
                "<- chosen" if chosen.get(plan.mode) == plan.precision else "",
            ).rstrip()
        )
    if baseline:
        latency = baseline["latency"]
        print("{}: {:.3f} ms a clip".format(baseline["what"], latency["ms_p50"]))


# ------------------------------------------------------------------------------------------ main


def run(kit: Kit) -> int:
    """Everything, in order."""
    pack = Pack(kit.options.pack, kit.bundle) if kit.options.pack else None
    for warning in kit.warnings:
        kit.say("warning: " + warning)
    plans, baseline, why = kit.plans(), None, "not timed"
    for mode in kit.bundle.modes:
        mine = [plan for plan in plans if plan.mode == mode]
        for index, plan in enumerate(mine):
            mine[index] = kit.tested(plan)
        plans = [plan for plan in plans if plan.mode != mode] + mine
        if not kit.options.self_test:
            # one mode's rounds time the baseline: it is the same call in every mode
            timed, why = measure(kit, mode, mine, pack, why, first=baseline is None)
            baseline = baseline or timed
        for plan in mine:
            plan.unload()
    chosen, reason = choose(kit.bundle, plans)
    document = result_of(kit, plans, pack, baseline, why, chosen, reason)
    finish(kit, plans, document)
    for mode in kit.bundle.modes:
        if mode not in chosen:
            tested = any(p.self_test is not None for p in plans if p.mode == mode)
            what, code = f"{mode}: {reason[mode]}", ACCURACY if tested else ENVIRONMENT
            raise KitError(code, what, "Compile with other precisions, or report it")
    return 0


def measure(
    kit: Kit, mode: str, plans: list[Plan], pack: Pack | None, why: str, first: bool
) -> tuple[Json | None, str]:
    """Time a mode's usable plans and score them; the baseline's latency, and what it is."""
    usable = [plan for plan in plans if plan.usable]
    call, timed = None, None
    if first and usable:
        call, why = torch_baseline(pack, golden_of(kit.bundle, mode, "int8")[0])
    try:
        taken = time_plans(usable, kit.options.rounds, call) if usable else []
    except RuntimeError as error:  # PyTorch's, out of memory beside the plans
        why = one_line(f"PyTorch could not run beside the plans ({error})")
        taken = time_plans(usable, kit.options.rounds, None)
    call = None
    forget_torch()
    if taken:
        results = int(kit.bundle.manifest["window"]["length"])
        timed = {"what": why, "latency": latency_of(taken, results)}
    for plan in usable if pack is not None and mode in pack.index["modes"] else []:
        assert pack is not None
        kit.say(f"{plan.mode} {plan.precision}: scoring")
        score(plan, pack, kit.bundle.threshold)
    return timed, why


def finish(kit: Kit, plans: list[Plan], document: Json) -> None:
    """The table, the choice and the result file. A self-test writes nothing."""
    chosen = document["chosen"]
    if not kit.options.quiet:
        print_table(plans, chosen, document["baseline"])
    if kit.options.self_test:
        return
    target = kit.options.result
    kept = {"bundle_id": kit.bundle.identity, "modes": chosen}
    try:
        if not kit.options.no_build:
            write_whole(kit.cache.folder / CHOSEN, json.dumps(kept).encode())
    except OSError as error:
        what = f"{kit.cache.folder} cannot be written ({error.strerror})"
        raise KitError(ENVIRONMENT, what, "Free disk space, or give another --cache") from error
    try:
        write_whole(target, json.dumps(document, allow_nan=False).encode())
    except OSError as error:
        what = f"{target} cannot be written ({error.strerror})"
        raise KitError(ENVIRONMENT, what, "Give another --result") from error
    kit.say(f"result: {target}")


def cache_folder(bundle: Bundle, options: argparse.Namespace) -> Path:
    """Where plans lie: never in the bundle, which must stay as it was signed."""
    own = Path.home() / ".cache" / "pkecho-edge" / bundle.identity
    folder = Path(os.path.abspath(str(options.cache or own)))
    refuse_inside(bundle, folder, "--cache")
    return folder


def result_file(bundle: Bundle, options: argparse.Namespace) -> Path:
    """Where the result goes: looked at before hours are spent on building."""
    default = bundle.folder.name + ".result.json"
    path = Path(os.path.abspath(str(options.result or default)))
    refuse_inside(bundle, path, "--result")
    if path.is_dir() or not os.access(str(path.parent), os.W_OK):
        raise KitError(ENVIRONMENT, f"{path} cannot be written", "Give another --result")
    with contextlib.suppress(OSError):  # of a run that was killed
        path.with_name(path.name + ".partial").unlink()
    return path


def refuse_inside(bundle: Bundle, path: Path, option: str) -> None:
    real = Path(os.path.realpath(str(path)))
    if Path(os.path.realpath(str(bundle.folder))) in (real, *real.parents):
        raise KitError(USAGE, f"{path} lies in the bundle", f"Give another {option}")


def trtexec_lines(bundle: Bundle, cache: Path, strong: bool) -> list[str]:
    """What builds the same plans by TensorRT's own program, into the folder of the cache."""
    recipe, lines = bundle.recipe, []
    for mode, entry in recipe["modes"].items():
        for precision in recipe["profile"]["precisions"]:
            graph = bundle.graph(mode, precision, strong)
            words = ["trtexec", f"--onnx={graph}", "--noTF32"]
            words.append("--memPoolSize=workspace:{}".format(recipe["profile"]["workspace_mb"]))
            if strong:
                words.append("--stronglyTyped")
            elif precision != "fp32":
                half = ["--fp16"] if recipe.get("half_flags", True) else []
                words += [*half, *(["--int8"] if precision == "int8" else [])]
                layers = ",".join(f"{n}:fp32" for n in entry.get("float32_nodes", []))
                words.append("--precisionConstraints=obey")
                words += [f"--layerPrecisions={layers}", f"--layerOutputTypes={layers}"]
            words.append("--timingCacheFile={}".format(cache / "trtexec.cache"))
            words.append("--saveEngine={}".format(cache / f"trtexec-{mode}-{precision}.plan"))
            lines.append(" ".join(map(shlex.quote, words)))
    return lines


def print_trtexec(options: argparse.Namespace) -> int:
    """The lines, for the TensorRT that is here, else for the profile's."""
    bundle = Bundle(options.bundle)
    cache = cache_folder(bundle, options)
    try:
        strong = is_strong(import_tensorrt())
    except KitError:
        strong = release(bundle.profile["tensorrt"]) >= (10,)
    print("mkdir -p " + shlex.quote(str(cache)))
    print("\n".join(trtexec_lines(bundle, cache, strong)))
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; argparse ends with 2 on what it does not know."""
    parser = argparse.ArgumentParser(
        prog="pkecho_device.py", description=(__doc__ or "").split("\n\n")[0]
    )
    here = Path(os.path.abspath(__file__)).parent.parent
    add = parser.add_argument
    add("--bundle", type=Path, default=here, help="the bundle; default: the one this file lies in")
    add("--cache", type=Path, help="folder for plans; default: ~/.cache/pkecho-edge/BUNDLE-ID")
    add("--pack", type=Path, help="clips to score on, of `pkecho-edge verify --pack`")
    add("--result", type=Path, help="file to write; default: BUNDLE.result.json here")
    add("--precisions", help="of int8,fp16,fp32; default: the profile's")
    add("--memory-mb", type=int, help="that building may use; default: the profile's")
    add("--rounds", type=int, default=200, help="timed calls of each plan")
    add("--no-build", action="store_true", help="take plans from the cache or fail")
    add("--rebuild", action="store_true", help="build even what is there")
    add("--self-test", action="store_true", help="load and test the plans of the cache, no more")
    add("--check", action="store_true", help="look at bundle and device, build nothing, and end")
    add("--trtexec", action="store_true", help="print lines that build the same plans, and end")
    add("--quiet", action="store_true", help="print errors only")
    add("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)
    options.bundle = Path(os.path.abspath(str(options.bundle)))
    if options.precisions is not None:
        options.precisions = [name for name in options.precisions.split(",") if name]
        if not set(options.precisions) <= {"int8", "fp16", "fp32"} or not options.precisions:
            parser.error("--precisions are of int8,fp16,fp32")
    if options.rounds < 1 or (options.memory_mb is not None and options.memory_mb < 1):
        parser.error("--rounds and --memory-mb are at least 1")
    if options.rebuild and (options.no_build or options.self_test):
        parser.error("--rebuild contradicts --no-build and --self-test")
    options.no_build = options.no_build or options.self_test
    return options


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    if len(arguments) == 2 and arguments[0] == "--build-one":
        return child_main(arguments[1])
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the child is taken along
    try:
        if options.trtexec:
            return print_trtexec(options)
        if options.check:
            return check(options)
        return run(Kit(options))
    except KitError as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("interrupted; what was built is kept", file=sys.stderr)
        return 130
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        what = one_line(repr(error))
        print(
            f"error: a defect of the kit ({what}). Report it with --debug's words", file=sys.stderr
        )
        return DEFECT


def check(options: argparse.Namespace) -> int:
    """Whether the bundle is whole and this is the device that it is for."""
    bundle = Bundle(options.bundle)
    count = len(bundle.manifest["files"])
    print("{}: {} files are whole; for {}".format(options.bundle, count, bundle.profile["name"]))
    trt = import_tensorrt()
    facts = device_facts(Cuda(), trt)
    for warning in check_device(bundle.profile, facts):
        print("warning: " + warning, file=sys.stderr)
    print(in_words(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
