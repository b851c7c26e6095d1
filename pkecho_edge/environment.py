"""What is installed here, which commands and targets that makes work, and what installs the rest.

Packages are found where Python would import them from and programs by PATH; nothing is imported.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from importlib.util import find_spec
from typing import Any

from pkecho_edge import targets

__all__ = ["MAIN", "Environment", "Part", "Use", "look_around", "packaged_checkpoint"]

_TIMEOUT_S = 1.0
_LARGEST_HEADER = 1 << 24

_PACKAGES: Mapping[str, tuple[str, str]] = {
    "numpy": ("", "everything"),
    "openvino": ("cpu", "target cpu"),
    "onnxruntime": ("onnxruntime", "calibration, target onnxruntime"),
    "torch": ("train", "baseline, export, training"),
    "torch-pruning": ("train", "pruning"),
    "safetensors": ("train", "checkpoints"),
    "onnx": ("compile", "export"),
    "onnxscript": ("compile", "export"),
    "av": ("data", "videos"),
    "nibabel": ("data", "CAMUS"),
    "pydicom": ("data", "DICOM recordings"),
    "pillow": ("data", "pictures"),
    "scipy": ("data", "phantoms, surface distances"),
    "jinja2": ("report", "report.html"),
    "matplotlib": ("report", "curves and pictures"),
    "cryptography": ("sign", "keys and signatures"),
    "nncf": ("bench", "benchmarks beside NNCF"),
    "torch-tensorrt": ("tensorrt", "target torch-tensorrt"),
    "tensorrt": ("tensorrt", "plans that are built here"),
}
"""Distribution -> the extra that installs it, and what it is for."""

_MODULES: Mapping[str, str] = {"pillow": "PIL"}
"""What a distribution is imported as, where that is not its name with _ for -."""

_ALIKE: Mapping[str, tuple[str, ...]] = {"onnxruntime": ("onnxruntime-gpu",)}
"""Other distributions that bring the same module."""

_PROGRAMS: Mapping[str, tuple[Sequence[str], str, str]] = {
    "C compiler": (("cc", "--version"), "gcc", "firmware, in C"),
    "g++": (("g++", "--version"), "g++", "firmware build"),
    "cmake": (("cmake", "--version"), "cmake", "firmware build"),
    "make": (("make", "--version"), "make", "firmware build"),
    "pkg-config": (("pkg-config", "--version"), "pkg-config", "firmware build"),
    "libsodium": (("pkg-config", "--modversion", "libsodium"), "libsodium-dev", "firmware build"),
    "aarch64 compiler": (
        ("aarch64-linux-gnu-g++", "--version"),
        "g++-aarch64-linux-gnu",
        "firmware for 64-bit Arm",
    ),
    "qemu-aarch64": (
        ("qemu-aarch64-static", "--version"),
        "qemu-user-static",
        "its tests on this machine",
    ),
    "minisign": (("minisign", "-v"), "minisign", "signatures, by another program"),
    "chromium": (("chromium", "--version"), "chromium", "tests of report.html"),
    "docker": (("docker", "--version"), "docker.io", "the container for Jetson"),
    "nvidia-smi": (
        ("nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader"),
        "nvidia-smi",
        "NVIDIA GPUs",
    ),
    "trtexec": (("trtexec", "--version"), "", "TensorRT's own timing of plans"),
}
"""Program -> a call that tells its version, Debian's package ("" for none), what it is for."""

MAIN: tuple[str, ...] = (
    *("numpy", "openvino", "onnxruntime", "torch", "torch-pruning", "safetensors", "onnx"),
    *("onnxscript", "av", "scipy"),
)
"""What the main commands need: demo, compile, verify, prune, tune, train."""

_RUNS = ("numpy", "openvino", "av", "scipy", "pillow")
_LEARNS = ("numpy", "torch", "safetensors", "av", "scipy")
_BUILDS = ("g++", "cmake", "make", "pkg-config", "libsodium", "openvino")
_COMMANDS: Mapping[str, tuple[str, ...]] = {
    "init, inspect, targets, doctor": ("numpy",),
    "demo, compile, quantize, calibrate, verify": tuple(n for n in MAIN if n != "torch-pruning"),
    "prune, tune": MAIN,
    "train, evaluate, ablate": _LEARNS,
    "phantom, data": ("numpy", "av", "scipy"),
    "run": _RUNS,
    "run of DICOM files": (*_RUNS, "pydicom"),
    "keygen, sign": ("cryptography",),
    "firmware": _BUILDS,
    "bench": MAIN,
    "bench peers": (*MAIN, "nncf"),
}
"""Commands -> packages and programs without which they do not work."""


@dataclass(frozen=True)
class Part:
    """A package or a program.

    Attributes:
        name, purpose: for people.
        version: "" where it is there and does not say; None where it is missing.
        remedy: the line that installs it; "" where it is there, or nothing does.
        trouble: of a program that is there and cannot do its work, what it says; else "".
    """

    name: str
    version: str | None
    purpose: str
    remedy: str
    trouble: str = ""


@dataclass(frozen=True)
class Use:
    """Commands, or a target, and what keeps them from working; "" for nothing."""

    name: str
    missing: str


@dataclass(frozen=True)
class Environment:
    """Everything that `look_around` found."""

    packages: tuple[Part, ...]
    programs: tuple[Part, ...]
    commands: tuple[Use, ...]
    targets: tuple[Use, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Packages without which a main command does not work."""
        return tuple(p.name for p in self.packages if p.version is None and p.name in MAIN)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "missing": list(self.missing)}


def look_around() -> Environment:
    """Packages, programs, and what they make of commands and targets; a second at most."""
    with ThreadPoolExecutor(len(_PROGRAMS)) as pool:
        asked = {name: pool.submit(_told, call) for name, (call, *_) in _PROGRAMS.items()}
        packages = tuple(
            Part(
                name,
                version := _installed(name),
                purpose,
                "" if version is not None else _pip(extra),
            )
            for name, (extra, purpose) in _PACKAGES.items()
        )
        able = tuple(Use(name, targets.get(name).missing() or "") for name in targets.names())
        found = {name: told.result() for name, told in asked.items()}
    programs = tuple(
        _program(name, *found[name], package, purpose)
        for name, (_, package, purpose) in _PROGRAMS.items()
    )
    there = {part.name for part in (*packages, *programs) if part.version is not None}
    commands = tuple(
        Use(name, ", ".join(each for each in needed if each not in there))
        for name, needed in _COMMANDS.items()
    )
    return Environment(packages, programs, commands, able)


def _installed(name: str) -> str | None:
    """The version, "" where nothing tells it; None where the module cannot be imported."""
    try:
        spec = find_spec(_MODULES.get(name, name.replace("-", "_")))
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:  # without origin it is some folder of that name
        return None
    for each in (name, *_ALIKE.get(name, ())):
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(each)
    return ""


def _program(name: str, version: str | None, trouble: str, package: str, purpose: str) -> Part:
    missing = version is None and not trouble
    return Part(name, version, purpose, _apt(package) if missing else "", trouble)


def _pip(extra: str) -> str:
    return f"pip install 'pkecho-edge[{extra}]'" if extra else "pip install pkecho-edge"


def _apt(package: str) -> str:
    return f"apt-get install {package}" if package and shutil.which("apt-get") else ""


def _told(call: Sequence[str]) -> tuple[str | None, str]:
    """The version that a program tells, and what else it says where it cannot do its work.

    The version is "" where it does not tell one, None where it is missing or of no use.
    """
    if shutil.which(call[0]) is None:
        return None, ""
    try:
        done = subprocess.run(
            call, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "", ""
    said = done.stdout + done.stderr
    if done.returncode and call[0] == "pkg-config":
        return None, ""  # it is there, but what it was asked for is not
    if done.returncode and call[0] == "nvidia-smi":
        return None, (said.strip().splitlines() or [f"exit code {done.returncode}"])[0].strip()
    found = re.search(r"\d+(\.\d+)+", said)
    return (found[0] if found else ""), ""


def packaged_checkpoint() -> tuple[str, int]:
    """Backbone and bytes of the packaged checkpoint, by its header alone.

    Raises:
        ValueError, OSError: it is missing or damaged.
    """
    (entry,) = (
        each
        for each in (resources.files("pkecho_edge") / "assets").iterdir()
        if each.name.endswith(".safetensors")
    )
    with resources.as_file(entry) as path, path.open("rb") as file:
        size, length = path.stat().st_size, int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(size, _LARGEST_HEADER):
            raise ValueError("its header is damaged")
        header = json.loads(file.read(length))
    tensors = [each for name, each in header.items() if name != "__metadata__"]
    if 8 + length + max(each["data_offsets"][1] for each in tensors) != size:
        raise ValueError(f"it has {size} bytes, other than its header says")
    ours = json.loads(header["__metadata__"]["pkecho_edge"])
    return str(ours["config"]["backbone"]), size
