"""MODEL_CARD.md: the manifest in words, for the people who decide whether to use the bundle.

It holds no measured figure, so that two builds give the same card; the figures are in reports/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pkecho_edge.bundle.engine_entry import EngineEntry
from pkecho_edge.bundle.manifest import Manifest
from pkecho_edge.bundle.strict_json import canonical_json

__all__ = ["model_card"]


def model_card(manifest: Manifest) -> str:
    """The text of MODEL_CARD.md; `files`, `reports` and so the bundle id play no part in it."""
    sections = (
        _opening(manifest),
        *(_engine(engine) for engine in manifest.engines),
        _around(manifest),
        _gates(manifest),
        _lineage(manifest),
        _checking(),
    )
    return "\n".join(sections)


def _opening(manifest: Manifest) -> str:
    profile = f", profile {_code(manifest.profile)}" if manifest.profile else ""
    return f"""\
# Model card

An engine that segments echocardiography frames, compiled for {_code(manifest.target)}{profile}.

**Made for:** integration into ultrasound software, with the accuracy and speed that `reports/`
states for the data and the machine named there.

**Not made for:** diagnosis as it stands. Figures measured on phantoms say how faithful the engine
is to its network, not how well it does on patients. Whoever builds a medical device with it
validates it on clinical data and answers for that device.
"""


def _engine(engine: EngineEntry) -> str:
    tensors = [
        (f"{side} {tensor.name}", f"{tensor.dtype} {list(tensor.shape)}")
        for side, specs in (("input", engine.inputs), ("output", engine.outputs))
        for tensor in specs
    ]
    rows = [
        *tensors,
        *((f"option {name}", value) for name, value in sorted(engine.options.items())),
        *((f"compiled with {name}", value) for name, value in sorted(engine.toolchain.items())),
        *((f"file {n + 1}", path) for n, path in enumerate(engine.paths)),
    ]
    return f"## Engine for mode {engine.mode}\n\n{_table(('what', 'value'), rows)}"


def _around(manifest: Manifest) -> str:
    before, after, window = manifest.preprocessing, manifest.postprocessing, manifest.window
    where = "in the engine" if before.normalisation_in_graph else "before the engine"
    rows = [
        ("frame size (H x W)", f"{before.size[0]} x {before.size[1]}"),
        ("resize", before.resize),
        ("normalisation", f"{before.normalisation}, {where}"),
        ("mask", f"logit above {after.threshold:g}"),
        ("connected components", after.component),
        ("window", f"{window.length} frames"),
        ("warm-up", window.warm_up),
    ]
    return f"## Around the engine\n\n{_table(('step', 'rule'), rows)}"


def _gates(manifest: Manifest) -> str:
    if not manifest.gates:
        return "## Gates\n\nThe engine was held to no limit.\n"
    rows = [(g.mode, g.name, f"{g.limit:g} {g.unit}".strip()) for g in manifest.gates]
    table = _table(("mode", "gate", "limit"), rows)
    return f"## Gates\n\nWhat was measured against them stands in `reports/`.\n\n{table}"


def _lineage(manifest: Manifest) -> str:
    lineage = manifest.lineage
    rows = [
        ("checkpoint (baseline)", lineage.checkpoint_sha256),
        ("pruning plan", lineage.pruning_sha256 or "none"),
        ("calibration list", lineage.calibration_sha256 or "none"),
        ("ONNX graphs", lineage.onnx_sha256 or "none"),
        ("seed", str(lineage.seed)),
        *_sorted(lineage.tool_versions),
    ]
    configuration = canonical_json(dict(lineage.configuration))
    return (
        f"## Lineage\n\n{_table(('what', 'SHA-256 or version'), rows)}\n"
        f"Configuration:\n\n```json\n{configuration}```\n"
    )


def _checking() -> str:
    return """\
## Checking it

`pkecho-edge inspect BUNDLE` compares every file with the manifest. The vectors in `golden/` are
run after every installation and after every build of an engine on a device.
"""


def _sorted(values: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(values.items())


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    lines += [" | ".join((row[0], *(_code(cell) for cell in row[1:]))) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def _code(text: str) -> str:
    """Inline code that neither ends early nor splits a table cell."""
    return f"`{text.replace('`', chr(39)).replace('|', '/')}`"
