"""The registry of targets. Listing it imports no vendor package."""

from __future__ import annotations

import importlib
from typing import cast

from pkecho_edge.errors import UsageError
from pkecho_edge.targets.base import CompileOptions, Target, check_precision
from pkecho_edge.targets.profile import check_profile, load_profile

__all__ = ["REGISTRY", "get", "names", "options_for"]

REGISTRY = {
    "cpu": "pkecho_edge.targets.openvino_cpu:OpenVinoCpu",
    "onnxruntime": "pkecho_edge.targets.onnxruntime_cpu:OnnxRuntimeCpu",
    "jetson": "pkecho_edge.targets.tensorrt:Jetson",
    "tensorrt": "pkecho_edge.targets.tensorrt:TensorRt",
    "cuda": "pkecho_edge.targets.aotinductor:AotInductor",
    "torch-tensorrt": "pkecho_edge.targets.torch_tensorrt:TorchTensorRt",
}
"""Target name -> "module:Class"."""


def names() -> tuple[str, ...]:
    """All target names, in the order in which they were added."""
    return tuple(REGISTRY)


def get(name: str) -> Target:
    """The target of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in REGISTRY:
        raise UsageError(f"unknown target {name!r}", remedy=f"Use one of {', '.join(REGISTRY)}")
    module, _, attribute = REGISTRY[name].partition(":")
    return cast(Target, getattr(importlib.import_module(module), attribute)())


def _with_profiles() -> str:
    having = (name for name in names() if get(name).capabilities.profile is not None)
    return " or ".join(f"--target {name}" for name in having)


def options_for(
    name: str, float_precision: str | None = None, threads: int = 0, profile: str | None = None
) -> CompileOptions:
    """What a target is told, with its own defaults for what is not given.

    Args:
        name: of the target.
        float_precision: of the layers that are not INT8.
        threads: at run time; 0 for every core.
        profile: of the device: a name, or the path of a TOML file.

    Raises:
        UsageError: an unknown target or profile, a precision that the target does not have, or a
            profile for a target without.
    """
    capabilities = get(name).capabilities
    if profile is not None and capabilities.profile is None:
        raise UsageError(
            f"target {name} has no profiles",
            remedy=f"Leave --profile out, or use {_with_profiles()}",
        )
    named = profile or capabilities.profile
    device = load_profile(named) if named else None
    if device is not None:
        check_profile(name, device)
    options = CompileOptions(float_precision or capabilities.float_precision, threads, device)
    check_precision(get(name), options)
    return options
