"""MODEL_CARD.md: the manifest in words, for the people who decide whether to use the bundle.

It holds no measured figure, so that two builds give the same card; the figures are in reports/.
"""

from __future__ import annotations

from collections.abc import Iterable

from pkecho_edge.bundle import statements
from pkecho_edge.bundle.engine_entry import EngineEntry
from pkecho_edge.bundle.libraries import build_tools, runtime_libraries, version_note
from pkecho_edge.bundle.manifest import Manifest
from pkecho_edge.bundle.statements import NOT_RECORDED, fact
from pkecho_edge.bundle.strict_json import Json

__all__ = ["model_card"]

_FEW_CLIPS = 30
"""As calibration.calibration_set.MINIMUM_CLIPS, which a device does not have; a test compares."""


def model_card(manifest: Manifest) -> str:
    """The text of MODEL_CARD.md; `files`, `reports` and so the bundle id play no part in it."""
    sections = (
        _opening(manifest),
        _purpose(manifest),
        _network(manifest),
        _training(manifest),
        _quantization(manifest),
        *(_engine(engine) for engine in manifest.engines),
        _device(manifest),
        _around(manifest),
        _accuracy(manifest),
        _golden(manifest),
        _limits(manifest),
        _licence(manifest),
        _checking(manifest),
        _lineage(manifest),
    )
    return "\n".join(sections)


def _opening(manifest: Manifest) -> str:
    profile = f", profile {_code(manifest.profile)}" if manifest.profile else ""
    modes = " and ".join(engine.mode for engine in manifest.engines)
    return f"""\
# Model card

> **{statements.warning(manifest)}**

An engine that segments echocardiography frames ({modes}), compiled for {_code(manifest.target)}\
{profile}. Security version {manifest.security_version}. What was measured on it is in `reports/`.
"""


def _purpose(manifest: Manifest) -> str:
    return f"""\
## What it is for

{statements.TASK}

For whom:

{_list(statements.USERS)}
Made for:

{_list(statements.USES)}
Not made for:

{_list(statements.MISUSES)}
Whoever builds a medical device with it validates it on clinical data and answers for that device.
"""


def _network(manifest: Manifest) -> str:
    height, width = manifest.preprocessing.size
    rows = [
        ("network", statements.network_name(manifest)),
        ("clip", f"{manifest.window.length} frames of {height} x {width}"),
        ("parameters", _number(fact(manifest, "model", "parameters"))),
        ("work per clip", _number(fact(manifest, "model", "gmacs"), " GMACs")),
        ("pruned", _pruned(manifest)),
    ]
    return f"## The network\n\n{_table(('what', 'value'), rows)}"


def _pruned(manifest: Manifest) -> str:
    """How, from which size; the exact plan is a file of the bundle."""
    if manifest.lineage.pruning_sha256 is None:
        return "no"
    before = _number(fact(manifest, "model", "baseline_gmacs"), " GMACs")
    parameters = _number(fact(manifest, "model", "baseline_parameters"))
    said = f"yes, from {before} and {parameters} parameters; see model/pruning.json"
    for name in ("ratio", "scope", "importance", "rounds", "steps"):
        if (value := fact(manifest, "pruning", name)) is not None:
            said += f"; {name} {value}"
    return said


def _training(manifest: Manifest) -> str:
    rows = [
        ("checkpoint (baseline), SHA-256", manifest.lineage.checkpoint_sha256),
        ("trained", statements.training(manifest)),
        ("comes with pkecho-edge", "yes" if statements.is_packaged(manifest) else "no"),
    ]
    more = f"{_PACKAGED}\n" if statements.is_packaged(manifest) else ""
    return (
        f"## Training data\n\n{_table(('what', 'value'), rows)}\n"
        "This is what the checkpoint's header says. The checkpoint itself is not in the bundle.\n"
        f"{more}"
    )


_PACKAGED = """\
The files named are in pkecho-edge's sources. It was trained at 128 x 128 and 320 x 320; the network
takes other sizes, on which it was not trained."""


def _quantization(manifest: Manifest) -> str:
    layers = fact(manifest, "quantization", "float_layers")
    floats = ", ".join(map(str, layers)) or "none" if isinstance(layers, list) else NOT_RECORDED
    scheme = fact(manifest, "quantization", "scheme")
    rows = [
        ("scheme", f"{scheme}, of pkecho-edge's docs/quantization.md" if scheme else "none: float"),
        ("range rule", str(fact(manifest, "quantization", "rule") or "none")),
        ("layers kept in float", floats),
        ("calibration set", statements.calibration(manifest)),
        ("calibration set, SHA-256", manifest.lineage.calibration_sha256 or "none"),
        ("seed", str(manifest.lineage.seed)),
    ]
    told = "".join(f"\n**{text}**\n" for text in _doubts(manifest)) if scheme else ""
    return f"## Quantization\n\n{_table(('what', 'value'), rows)}{told}"


def _doubts(manifest: Manifest) -> list[str]:
    """What speaks against the calibration set."""
    found = []
    clips, sources = (fact(manifest, "calibration", name) for name in ("clips", "sources"))
    if isinstance(sources, list) and "phantom" in sources:
        found.append("Calibrated on synthetic phantoms: no patient's picture set the INT8 ranges.")
    if isinstance(clips, int) and clips < _FEW_CLIPS:
        found.append(f"Calibrated on fewer than the recommended {_FEW_CLIPS} clips.")
    return found


def _engine(engine: EngineEntry) -> str:
    tensors = [
        (f"{side} {tensor.name}", f"{tensor.dtype} {list(tensor.shape)}")
        for side, specs in (("input", engine.inputs), ("output", engine.outputs))
        for tensor in specs
    ]
    rows = [
        *tensors,
        *((f"option {name}", _option(name, v)) for name, v in sorted(engine.options.items())),
        *((f"compiled with {name}", value) for name, value in sorted(engine.toolchain.items())),
        *((f"file {n + 1}", path) for n, path in enumerate(engine.paths)),
    ]
    return f"## Engine for mode {engine.mode}\n\n{_table(('what', 'value'), rows)}"


def _option(name: str, value: str) -> str:
    return "0: every core" if (name, value) == ("threads", "0") else value


def _device(manifest: Manifest) -> str:
    rows = [*runtime_libraries(manifest).items()] or [("software", NOT_RECORDED)]
    note = version_note(manifest.target)
    return f"## What the device needs\n\n{_table(('software', 'version'), rows)}\n{note}\n"


def _around(manifest: Manifest) -> str:
    before, after, window = manifest.preprocessing, manifest.postprocessing, manifest.window
    where = "in the engine" if before.normalisation_in_graph else "before the engine"
    rows = [
        ("frame", "8-bit greyscale, the sector as displayed"),
        ("frame size (H x W)", f"{before.size[0]} x {before.size[1]}"),
        ("resize", f"{before.resize}, aspect ratio not kept"),
        ("normalisation", f"{before.normalisation}, {where}"),
        ("mask", f"logit above {after.threshold:g}"),
        ("connected components", f"{after.component}{_COMPONENTS[after.component]}"),
        ("window", f"{window.length} frames"),
        ("warm-up", window.warm_up),
    ]
    return f"## Around the engine\n\n{_table(('step', 'rule'), rows)}"


_COMPONENTS = {"none": ": the mask is kept whole", "largest": ": only the largest one stays"}


def _accuracy(manifest: Manifest) -> str:
    told = (
        "Every figure is in `reports/report.json`, and for people in `reports/report.html`:\n"
        "accuracy against the ground truth and against the FP32 baseline (`modes.*.accuracy`), on\n"
        "which data (`modes.*.data`), speed (`modes.*.speed`) on which machine (`machine`), and\n"
        "`warnings`. Figures measured on phantoms say how faithful the engine is to its network,\n"
        "not how well it does on patients.\n"
    )
    heading = "## Accuracy and speed"
    if not manifest.gates:
        return f"{heading}\n\n{told}\nThe engine was held to no limit.\n"
    rows = [(g.mode, g.name, f"{g.limit:g} {g.unit}".strip()) for g in manifest.gates]
    table = _table(("mode", "gate", "limit"), rows)
    return (
        f"{heading}\n\n{told}\nIt was held to these limits; whether it kept them is `verdict` and "
        f"`gates` in the report.\n\n{table}"
    )


def _golden(manifest: Manifest) -> str:
    pixels, area = manifest.golden.pixels_fraction, manifest.golden.area_fraction
    return f"""\
## Self-test

`golden/` holds frames with the logits, masks and areas that they must give. A device runs them
after every installation and after every build of an engine. In the worst frame, {pixels:.2%} of
the pixels may differ and {area:.2%} of the golden area. Passing says that the engine computes what
it did when it was compiled; it says nothing of accuracy.
"""


def _limits(manifest: Manifest) -> str:
    return f"## Limits and known failures\n\n{_list(statements.limitations(manifest))}"


def _licence(manifest: Manifest) -> str:
    if statements.is_packaged(manifest):
        text = "The checkpoint comes with pkecho-edge, under Apache-2.0."
    else:
        text = "Not recorded. Whoever trained the checkpoint, and the data's owners, decide."
    return (
        f"## Licence\n\n{text} Licences of the software that the device needs are in "
        "`sbom.cdx.json`.\n"
    )


def _checking(manifest: Manifest) -> str:
    version = manifest.security_version
    return f"""\
## Checking it

    pkecho-edge inspect BUNDLE                        every file's size and SHA-256
    pkecho-edge inspect BUNDLE --key release.pub      and who signed it
    minisign -Vm BUNDLE/manifest.json -p release.pub  the signature, by stock minisign
    pkecho-edge verify BUNDLE                         accuracy and speed, measured again

The manifest lists every other file with its hash, this one included, and the signature is of the
manifest. Get the public key from its maker, not from where the bundle came from.

The security version is {version}. A device that asks for a higher one refuses this bundle.
"""


def _lineage(manifest: Manifest) -> str:
    lineage = manifest.lineage
    rows = [
        ("checkpoint (baseline)", lineage.checkpoint_sha256),
        ("pruning plan", lineage.pruning_sha256 or "none"),
        ("calibration list", lineage.calibration_sha256 or "none"),
        ("compiled graphs", lineage.onnx_sha256 or "none"),
        *build_tools(manifest).items(),
    ]
    return (
        f"## Lineage\n\n{_table(('what', 'SHA-256 or version'), rows)}\n"
        "The whole configuration is `lineage.configuration` in `manifest.json`; suppliers and\n"
        "licences are in `sbom.cdx.json`.\n"
    )


def _number(value: Json, unit: str = "") -> str:
    """With thousands set apart; a whole number without a fraction."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NOT_RECORDED
    return f"{value:,}{unit}" if isinstance(value, int) else f"{value:,.3f}{unit}"


def _list(items: Iterable[str]) -> str:
    return "".join(f"- {item}\n" for item in items)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    lines += [" | ".join((row[0], *(_code(cell) for cell in row[1:]))) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def _code(text: str) -> str:
    """Inline code that neither ends early nor splits a table cell or its line."""
    one_line = " ".join(text.split())
    return f"`{one_line.replace('`', chr(39)).replace('|', '/')}`"
