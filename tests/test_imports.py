"""Imports run one way: the layers of docs/architecture.md, read from the source with `ast`.

Layers count for every import, also inside functions and under TYPE_CHECKING: a type that points
upwards is a dependency too. Where an import must wait until it is needed, only imports that run
when the module is loaded count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import pkecho_edge

PACKAGE = Path(pkecho_edge.__file__).parent

LAYERS = (
    ("errors", "files", "figures", "frame_size", "processors", "records"),
    ("model", "lowering", "data", "metrics"),
    (
        *("pruning", "calibration", "targets", "bundle", "verify", "training", "runtime"),
        *("stages", "durations", "device"),
    ),
    ("tuning", "running"),
    ("building", "clip_roles", "lesson_source", "recovering"),
    ("pruning_stage",),
    ("measuring", "self_testing"),
    ("merging",),
    ("provenance",),
    ("pipeline", "verifying", "quantizing", "bench", "environment", "firmware_kit"),
    ("tune_order",),
    ("candidates", "planning", "api"),
    ("searching", "search_planning"),
    ("cli",),
)
"""From the bottom to the top; a part may import from the layers below its own."""

SIDEWAYS = {
    ("figures", "errors"): "without matplotlib it says what to install",
    ("frame_size", "errors"): "an impossible size is a mistake of usage",
    ("records", "errors"): "an output without a name is a mistake of usage",
    ("lowering", "model"): "lowering rewrites the modules of the network",
    ("bundle", "targets.base"): "a bundle describes an engine, whatever toolchain made it",
    ("stages", "durations"): "a finished stage notes how long it took",
    ("targets", "calibration.graph"): "which nodes of a graph are quantized is said there",
    ("targets", "device.pkecho_device"): "a plan is loaded here as the kit loads it on a device",
    ("runtime", "bundle"): "opening a bundle is what the runtime is for",
    ("runtime", "targets"): "the bundle names the target that loads its engine",
}
"""(part, what it may import from its own layer) -> why."""

NOT_TARGETS = (
    "targets.aotinductor_replay.",
    "targets.base.",
    "targets.cuda_device.",
    "targets.onnxruntime_session.",
    "targets.openvino_profile.",
    "targets.openvino_weights.",
    "targets.profile.",
    "targets.program.",
    "targets.tensorrt_graphs.",
    "targets.tensorrt_lint.",
    "targets.tensorrt_session.",
)
"""Modules in targets/ that are no target themselves, so a target may import them."""

TOOLCHAINS = frozenset(
    {"nncf", "onnx", "onnxruntime", "onnxscript", "openvino", "tensorrt", "torch", "torch_tensorrt"}
)
"""Imported only inside functions in targets/, so that `missing()` can say what is not installed."""

SLOW_TO_IMPORT = TOOLCHAINS | {
    "av",
    "jinja2",
    "matplotlib",
    "nibabel",
    "numpy",
    "PIL",
    "pydicom",
    "safetensors",
    "scipy",
}
"""Imported only inside functions in cli/, so that `--help` answers at once."""


@dataclass(frozen=True)
class Import:
    """One imported name, as `module.name`."""

    dotted: str
    line: int
    at_load: bool

    @property
    def top(self) -> str:
        return self.dotted.partition(".")[0]


def test_every_module_keeps_the_direction() -> None:
    sources = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}

    found = [
        violation
        for name, path in sorted(sources.items())
        for violation in violations(name, path.read_text(encoding="utf-8"))
    ]

    assert len(sources) > 10
    assert found == []


def test_every_part_of_the_package_has_a_layer() -> None:
    parts = {
        path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")
    }

    assert parts - {"__init__", "__main__"} <= {part for layer in LAYERS for part in layer}


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("data/clip.py", "from pkecho_edge.errors import RecordingError"),
        ("model/network.py", "from pkecho_edge.model.resnet import BACKBONES"),
        ("cli/main.py", "from pkecho_edge.errors import PkechoEdgeError"),
        ("cli/main.py", "from pkecho_edge import __version__"),
        ("cli/main.py", "from pkecho_edge.cli import demo"),
        ("cli/main.py", "def verb():\n    from pkecho_edge.pipeline import compile"),
        ("pipeline.py", "from pkecho_edge.tuning.search import search"),
        ("lowering/fold.py", "from pkecho_edge.model import network"),
        ("bundle/manifest.py", "from pkecho_edge.targets.base import Engine"),
        ("bundle/manifest.py", "from pkecho_edge.targets import base"),
        ("targets/cpu.py", "from pkecho_edge.targets.base import Engine"),
        ("targets/cpu.py", "from pkecho_edge.targets.openvino_weights import WEIGHTS"),
        (
            "targets/openvino_profile.py",
            "from pkecho_edge.targets.openvino_cpu import plugin_settings",
        ),
        ("targets/cuda.py", "def load():\n    import torch"),
        (
            "targets/cuda.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch",
        ),
        ("__init__.py", "if TYPE_CHECKING:\n    from pkecho_edge.pipeline import compile"),
    ],
)
def test_the_checker_allows(name: str, source: str) -> None:
    assert violations(name, source) == []


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("errors.py", "from pkecho_edge.model.network import PKEchoNet", "errors may not"),
        ("data/clip.py", "import pkecho_edge.verify.gates", "data may not"),
        ("data/clip.py", "from pkecho_edge import verify", "data may not"),
        ("data/clip.py", "def late():\n    from pkecho_edge.pipeline import compile", "data may"),
        ("data/clip.py", "if TYPE_CHECKING:\n    import pkecho_edge.cli.main", "data may not"),
        ("data/clip.py", "from pkecho_edge.model.network import PKEchoNet", "data may not"),
        ("model/network.py", "from pkecho_edge.lowering.fold import fold", "model may not"),
        ("bundle/manifest.py", "from pkecho_edge.targets.cpu import CpuTarget", "bundle may not"),
        ("bundle/manifest.py", "from pkecho_edge.targets import names", "bundle may not"),
        ("bundle/writer.py", "import pkecho_edge.runtime", "bundle may not"),
        ("tuning/search.py", "from pkecho_edge.pipeline import compile", "tuning may not"),
        ("pipeline.py", "from pkecho_edge.cli.main import main", "pipeline may not"),
        ("targets/cuda.py", "from pkecho_edge.targets.tensorrt import Plan", "another target"),
        ("targets/cuda.py", "from pkecho_edge.targets import get", "another target"),
        ("targets/base.py", "from pkecho_edge.targets.cpu import CpuTarget", "another target"),
        (
            "targets/openvino_profile.py",
            "from pkecho_edge.targets.onnxruntime_cpu import OnnxRuntimeCpu",
            "another target",
        ),
        ("targets/cuda.py", "import torch", "inside a function"),
        ("targets/cuda.py", "try:\n    import torch\nexcept ImportError:\n    pass", "inside a"),
        ("targets/cuda.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import torch", "inside a"),
        ("targets/cuda.py", "class Cuda:\n    from torch import nn", "inside a function"),
        ("targets/cpu.py", "from openvino import Core", "inside a function"),
        ("cli/demo.py", "from pkecho_edge.pipeline import compile", "inside a function"),
        ("cli/demo.py", "import numpy as np", "inside a function"),
        ("data/clip.py", "from . import recording", "relative"),
        ("data/clip.py", "from pkecho_edge import load_checkpoint", "where it is defined"),
        ("data/clip.py", "from targets.base import Engine", "link"),
        ("helpers.py", "import json", "no layer"),
    ],
)
def test_the_checker_refuses(name: str, source: str, reason: str) -> None:
    (violation,) = violations(name, source)

    assert violation.startswith(f"{name}:")
    assert reason in violation


def test_a_violation_names_its_line() -> None:
    (violation,) = violations("data/clip.py", "import json\n\nimport pkecho_edge.cli.main\n")

    assert violation.startswith("data/clip.py:3: ")


def violations(name: str, source: str) -> list[str]:
    """What is wrong with the imports of one module.

    Args:
        name: the module's path below the package, with slashes.
        source: its text.

    Returns:
        One line each, `path:line: reason`; empty if all is well.
    """
    part = name.partition("/")[0].removesuffix(".py")
    if part in {"__init__", "__main__"}:  # the public names point everywhere
        return []
    if _layer(part) is None:
        return [f"{name}:1: {part} has no layer; give it one in LAYERS and docs/architecture.md"]
    return [
        f"{name}:{found.line}: {reason}"
        for found in _imports(ast.parse(source))
        if (reason := _reason(name, part, found))
    ]


def _reason(name: str, part: str, found: Import) -> str:
    """Why this import is not allowed, or an empty string."""
    if not found.top:
        return f"relative import of {found.dotted}; write the whole name"
    if found.top in {"calibration", "targets", "cli"}:
        return f"{found.top} is a link at the root; import pkecho_edge.{found.top}"
    if found.top != "pkecho_edge":
        return _reason_for_package(part, found)
    imported = found.dotted.partition(".")[2]  # below pkecho_edge
    return _reason_for_part(part, imported, found) or _reason_for_target(name, part, imported)


def _reason_for_package(part: str, found: Import) -> str:
    """Whether another project's package may be imported when the module is loaded."""
    late = {"targets": TOOLCHAINS, "cli": SLOW_TO_IMPORT}.get(part, frozenset())
    if found.at_load and found.top in late:
        return f"{part} imports {found.top} only inside a function"
    return ""


def _reason_for_part(part: str, imported: str, found: Import) -> str:
    """Whether the layers allow the import."""
    other = imported.partition(".")[0]
    if other in {"", "__version__"} or other == part:
        return ""
    above, below = _layer(part), _layer(other)
    if below is None:
        return f"import {other} from where it is defined, not from pkecho_edge"
    assert above is not None
    sideways = above == below and any(
        part == source and f"{imported}.".startswith(f"{allowed}.") for source, allowed in SIDEWAYS
    )
    if below >= above and not sideways:
        return f"{part} may not import pkecho_edge.{imported}; see docs/architecture.md"
    if part == "cli" and other != "errors" and found.at_load:
        return f"cli imports {other} only inside a function"
    return ""


def _reason_for_target(name: str, part: str, imported: str) -> str:
    """Whether a target stays alone with targets/base.py; the registry in __init__ need not."""
    module = f"{name.removesuffix('.py').replace('/', '.')}."
    # what goes with a toolchain but is no target, such as its profiler, goes when it is removed
    companion = module in NOT_TARGETS and imported.startswith(module.partition("_")[0] + "_")
    alone = part == imported.partition(".")[0] == "targets" and name != "targets/__init__.py"
    alone = alone and not companion
    if alone and not f"{imported}.".startswith(NOT_TARGETS):
        return f"a target imports targets.base, not another target or the registry ({imported})"
    return ""


def _layer(part: str) -> int | None:
    """How high a part stands, 0 at the bottom; None if it is not part of the package's layers."""
    return next((height for height, layer in enumerate(LAYERS) if part in layer), None)


def _imports(node: ast.AST, *, at_load: bool = True) -> Iterator[Import]:
    """Every import below a node."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, at_load)
        elif isinstance(child, ast.ImportFrom):
            module = "." * child.level + (child.module or "")
            for alias in child.names:
                yield Import(f"{module}.{alias.name}", child.lineno, at_load)
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from _imports(ast.Module(child.body, []), at_load=False)
            yield from _imports(ast.Module(child.orelse, []), at_load=at_load)
        else:
            later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _imports(child, at_load=at_load and not later)
