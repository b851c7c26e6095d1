"""OpenVINO called directly, with the settings of target `cpu`, for what a session does not show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pkecho_edge.targets.base import CompileOptions, Engine
from pkecho_edge.targets.openvino_cpu import plugin_settings

__all__ = ["compile_engine", "compile_model"]


def compile_model(
    model: Any, float_precision: str, threads: int, extra: Mapping[str, object] | None = None
) -> Any:
    """An openvino.Model or (topology, weights) as an openvino.CompiledModel on the CPU.

    Args:
        model: openvino.Model.
        float_precision: "f32" or "bf16".
        threads: 0 for every core.
        extra: further properties, for example {"PERF_COUNT": True}.
    """
    import openvino as ov

    settings = plugin_settings(CompileOptions(float_precision, threads).as_dict())
    return ov.Core().compile_model(model, "CPU", {**settings, **(extra or {})})


def compile_engine(engine: Engine, extra: Mapping[str, object] | None = None) -> Any:
    """An engine of target `cpu` as the target loads it, with further properties."""
    import openvino as ov

    paths: list[Path] = [engine.directory / name for name in engine.files[:2]]
    model = ov.Core().read_model(*paths)
    options = engine.options
    return compile_model(model, options["float_precision"], int(options["threads"]), extra)
