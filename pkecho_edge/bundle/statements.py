"""What the model card and the bill of materials both say of the model, in one wording.

Facts come from the manifest's `lineage.configuration`, which is free in form: what is not there is
said to be not recorded, never guessed.
"""

from __future__ import annotations

from pkecho_edge.bundle.manifest import Manifest
from pkecho_edge.bundle.strict_json import Json

__all__ = ["MISUSES", "NOT_RECORDED", "TASK", "USERS", "USES", "calibration", "fact"]
__all__ += ["is_packaged", "limitations", "network_name", "training", "warning"]

NOT_RECORDED = "not recorded"

TASK = (
    "One mask per frame: the cavity of the left ventricle, as the training data outlines it, in "
    "B-mode clips of one apical view."
)
USERS = (
    "Engineers who integrate segmentation into ultrasound equipment or software.",
    "Quality engineers who judge whether an engine is still the network that they validated.",
)
USES = (
    "Masks, and areas from them, of recorded clips (mode clip) or of live frames (mode stream).",
    "The device's part of a larger function that its maker validates as a whole.",
)
MISUSES = (
    "Diagnosis, treatment or triage as it stands: nothing here was validated on patients.",
    "Other views, other structures, colour Doppler, contrast, M-mode, or frames with annotations "
    "burnt into the picture.",
    "Measuring without a person or a check that sees a wrong mask.",
)
_PHANTOMS = (
    "NOT FOR CLINICAL USE. The network was trained on synthetic phantoms, not on patients. Its "
    "accuracy on patients is unknown."
)
_UNKNOWN = (
    "NOT SHOWN FIT FOR CLINICAL USE. The checkpoint does not say what it was trained on. Ask who "
    "trained it."
)
_RECORDED = (
    "NOT SHOWN FIT FOR CLINICAL USE. What the checkpoint says of its training was not checked by "
    "whoever compiled this bundle."
)


def fact(manifest: Manifest, *keys: str) -> Json:
    """The value at a path below `lineage.configuration`; None where there is none."""
    found: Json = dict(manifest.lineage.configuration)
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def is_packaged(manifest: Manifest) -> bool:
    """Whether the baseline is the checkpoint that comes with pkecho-edge."""
    return fact(manifest, "checkpoint", "packaged") is True


def training(manifest: Manifest) -> str:
    """What the baseline's header says of its training data."""
    text = fact(manifest, "checkpoint", "training")
    return text if isinstance(text, str) and text else NOT_RECORDED


def warning(manifest: Manifest) -> str:
    """What a reader must know before anything else."""
    text = training(manifest)
    if text == NOT_RECORDED:
        return _UNKNOWN
    return _PHANTOMS if "phantom" in text.lower() else _RECORDED


def network_name(manifest: Manifest) -> str:
    """For example "PKEcho-Net, resnet18"."""
    return f"PKEcho-Net, {fact(manifest, 'network', 'backbone') or 'backbone ' + NOT_RECORDED}"


def calibration(manifest: Manifest) -> str:
    """Of which clips the set that set the INT8 ranges consists."""
    if manifest.lineage.calibration_sha256 is None:
        return "none"
    values = [fact(manifest, "calibration", name) for name in ("clips", "patients", "sources")]
    clips, patients, sources = values
    if not isinstance(sources, list):
        return NOT_RECORDED
    named = ", ".join(map(str, sources))
    rule = fact(manifest, "calibration", "rule")
    return f"{clips} clips of {patients} patients, source {named}, chosen by rule {rule}"


def limitations(manifest: Manifest) -> tuple[str, ...]:
    """Limits and known ways to fail, one sentence or two each."""
    length = manifest.window.length
    found = [
        "Frames of poor quality (shadow, dropout, haze, low contrast) are segmented worse, by the "
        "network and so by the engine.",
        "There is no confidence, and no check of view or quality: a frame that shows no heart is "
        "segmented like any other. A mask may be empty.",
        "Where the ventricle leaves the sector or the picture, the mask ends there: areas and "
        "volumes come out too small.",
        "Frames are resized without keeping their aspect ratio. Thin structures and the border "
        "itself are only as fine as the engine's frame size.",
    ]
    if fact(manifest, "quantization", "scheme"):
        found.append(
            "Pictures unlike the calibration set (gain, scanner, probe, post-processing) may leave "
            "the INT8 ranges, which clips them."
        )
    if any(engine.mode == "clip" for engine in manifest.engines):
        found.append(
            f"A clip is {length} frames in time order. Shuffled frames, or frames of two "
            "recordings, give masks of which nothing was measured."
        )
    if any(engine.mode == "stream" for engine in manifest.engines):
        found.append(
            f"The first {length - 1} results of a stream see copies of its first frame in place "
            "of the past. They are flagged as warming up: measure nothing on them."
        )
        found.append(
            "A stream must begin anew after a gap, a new depth or zoom, or a lifted probe. A zoom "
            "that leaves the frame's size as it was cannot be noticed by the runtime."
        )
    if manifest.postprocessing.component == "none":
        found.append("A mask may have specks and holes: no component of it is removed.")
    return tuple(found)
