"""Third-party software that a bundle names: who supplies it, under which licence, and where its
known anomalies are published.

The licence is that of the project itself, as its own package states it. What a binary package holds
beside that (oneDNN and oneTBB in OpenVINO's, for example) stands in its licence files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pkecho_edge.bundle.manifest import Manifest

__all__ = ["LIBRARIES", "RUNTIMES", "Library", "build_tools", "runtime_libraries", "version_note"]


@dataclass(frozen=True)
class Library:
    """A piece of software of somebody else's.

    Attributes:
        supplier: who publishes it.
        licence: an SPDX identifier; a title where SPDX has none for it.
        anomalies: address of its list of issues, or of its release notes; None without one.
        pypi: its name there; None where it is got elsewhere, and PyPI's package URL would be wrong.
        is_spdx: whether `licence` is an SPDX identifier.
    """

    supplier: str
    licence: str
    anomalies: str | None
    pypi: str | None = None
    is_spdx: bool = True


_TORCH_TENSORRT = Library(
    "PyTorch Foundation",
    "BSD-3-Clause",
    "https://github.com/pytorch/TensorRT/issues",
    "torch-tensorrt",
)

LIBRARIES: Mapping[str, Library] = {
    "cuda": Library(
        "NVIDIA Corporation",
        "NVIDIA CUDA Toolkit End User License Agreement",
        "https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/",
        is_spdx=False,
    ),
    "jetpack": Library(
        "NVIDIA Corporation",
        "NVIDIA JetPack, licences of its components",
        "https://developer.nvidia.com/embedded/jetpack-archive",
        is_spdx=False,
    ),
    "nncf": Library(
        "Intel Corporation", "Apache-2.0", "https://github.com/openvinotoolkit/nncf/issues", "nncf"
    ),
    "numpy": Library(
        "NumPy developers", "BSD-3-Clause", "https://github.com/numpy/numpy/issues", "numpy"
    ),
    "onnx": Library("ONNX project", "Apache-2.0", "https://github.com/onnx/onnx/issues", "onnx"),
    "onnxruntime": Library(
        "Microsoft Corporation",
        "MIT",
        "https://github.com/microsoft/onnxruntime/issues",
        "onnxruntime",
    ),
    "openvino": Library(
        "Intel Corporation",
        "Apache-2.0",
        "https://github.com/openvinotoolkit/openvino/issues",
        "openvino",
    ),
    "pkecho-edge": Library("pkecho-edge contributors", "Apache-2.0", None),
    "tensorrt": Library(
        "NVIDIA Corporation",
        "NVIDIA TensorRT Software License Agreement",
        "https://github.com/NVIDIA/TensorRT/issues",
        is_spdx=False,
    ),
    "torch": Library(
        "PyTorch Foundation", "BSD-3-Clause", "https://github.com/pytorch/pytorch/issues", "torch"
    ),
    "torch-pruning": Library(
        "Gongfan Fang", "MIT", "https://github.com/VainF/Torch-Pruning/issues", "torch-pruning"
    ),
    "torch_tensorrt": _TORCH_TENSORRT,
}
"""Name in a manifest -> what is known of it."""

_JETSON = ("tensorrt", "cuda", "jetpack")

RUNTIMES: Mapping[str, tuple[str, ...]] = {
    "cpu": ("openvino",),
    "onnxruntime": ("onnxruntime",),
    "jetson": _JETSON,
    "tensorrt": _JETSON,
    "cuda": ("torch", "cuda"),
    "torch-tensorrt": ("tensorrt",),
}
"""Target -> what must be on the device to run its engines."""


def runtime_libraries(manifest: Manifest) -> dict[str, str]:
    """Name -> version of what runs the engines on the device.

    Versions are those of the engines' toolchains, else those of the device that the manifest was
    compiled for (`lineage.configuration.device`). What has no known version is left out. Of a
    target that this version does not know, it is the whole toolchain.
    """
    device = manifest.lineage.configuration.get("device")
    versions: dict[str, str] = {}
    if isinstance(device, dict):
        versions |= {name: text for name, text in device.items() if isinstance(text, str)}
    toolchain = _toolchain(manifest)
    names = RUNTIMES.get(manifest.target, tuple(sorted(toolchain)))
    versions |= toolchain
    return {name: versions[name] for name in names if name in versions}


def build_tools(manifest: Manifest) -> dict[str, str]:
    """Name -> version of what took part in the build; some of it may be the runtime as well."""
    return dict(sorted((_toolchain(manifest) | dict(manifest.lineage.tool_versions)).items()))


def version_note(target: str) -> str:
    """What the versions of the runtime mean for a device."""
    if target in ("cpu", "onnxruntime"):
        return "The engine was compiled with this release; it and later ones read it."
    if target in ("jetson", "tensorrt"):
        return "What the profile's device has; the plan is built and self-tested on the device."
    return "The engine was compiled with this release and runs with no other."


def _toolchain(manifest: Manifest) -> dict[str, str]:
    return {k: version for engine in manifest.engines for k, version in engine.toolchain.items()}
