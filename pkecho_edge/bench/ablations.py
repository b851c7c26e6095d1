"""The paper's ablations on any dataset: train every variant with several seeds, score, tabulate.

    out/NAME-seed0/log.csv       of one run
    out/NAME-seed0/scores.json   its score on every patient; a run that has it is not repeated
    out/ablations.json           every table
    out/ablations.md             the same for people

Seeds are the outer loop, so a run that ends early has whole rounds of all variants. A killed run
goes on in mid-training.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pkecho_edge.bench.ablation_tables import VARIANTS, AblationTable, PaperFigures, Row
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import UnusableInput
from pkecho_edge.files import write_atomically
from pkecho_edge.metrics.significance import signed_rank
from pkecho_edge.model.checkpoint import checkpoint_sha256
from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.training.recipe import Recipe
from pkecho_edge.training.samples import Samples
from pkecho_edge.verify.evaluation import COLUMNS, FRAME_SETS, evaluate

__all__ = ["AblationRow", "Scores", "Study", "run_ablations", "table_rows", "variants_of"]

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Frame set -> column -> patient -> value, of one run; see evaluation.per_patient."""

_SCORES = "scores.json"
_LEFTOVERS = ("state.pt", "last.safetensors", "best.safetensors")


@dataclass(frozen=True)
class Study:
    """What every run has in common.

    Attributes:
        samples: to train on, one entry per size.
        clips: to score on, labelled, of other patients.
        recipe: of every run; its seed is replaced by each run's.
        backbone: resnet18, resnet34 or resnet50.
        seeds: one run of every variant with each.
        out: folder of all runs.
        keep_checkpoints: else a run's weights go once it is scored.
        encoder_weights: torchvision's, to begin every run with; None for random ones.
        device: to train on; scores are always the CPU's.
    """

    samples: Sequence[Samples]
    clips: Sequence[Clip]
    recipe: Recipe
    backbone: str
    seeds: Sequence[int]
    out: Path
    keep_checkpoints: bool = False
    encoder_weights: Path | None = None
    device: str = "cpu"

    def config(self, variant: str) -> NetworkConfig:
        """Of a variant of VARIANTS."""
        return NetworkConfig(backbone=self.backbone, **VARIANTS[variant])

    def folder(self, variant: str, seed: int) -> Path:
        """Where a run lies."""
        return self.out / f"{variant}-seed{seed}"

    @cached_property
    def _data_sha256(self) -> tuple[str, ...]:
        """Of the samples and the clips, once for all runs."""
        samples = (each.sha256() for each in self.samples)
        return (*samples, *(_clip_sha256(clip) for clip in self.clips))

    def key(self, variant: str, seed: int) -> str:
        """SHA-256 of all that decides a run's scores but the code and the device."""
        parts = [
            json.dumps(self.config(variant).as_dict(), sort_keys=True),
            json.dumps(replace(self.recipe, seed=seed).as_dict(), sort_keys=True),
            *self._data_sha256,
        ]
        if self.encoder_weights is not None:
            parts.append(checkpoint_sha256(self.encoder_weights))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class AblationRow:
    """One line of a table, over all seeds.

    Attributes:
        label, variant, paper: of the table's row.
        dsc, hd95, asd: mean over patients, then over seeds; percent, and the clips' unit.
        dsc_sd: standard deviation (n - 1) of the mean DSC over seeds; nan for one seed.
        p_dsc, p_hd95: signed-rank against the reference, one value per patient, the mean over
            seeds; nan for the reference itself.
        seeds_below: in how many seeds the mean DSC is below the reference's.
    """

    label: str
    variant: str
    paper: PaperFigures | None
    dsc: float
    hd95: float
    asd: float
    dsc_sd: float
    p_dsc: float
    p_hd95: float
    seeds_below: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; nan as None."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


def _clip_sha256(clip: Clip) -> str:
    """Of everything about a clip that its scores depend on: pictures, labels, phases, spacing."""
    facts = (clip.labelled, clip.ed_index, clip.es_index, clip.spacing_mm, clip.view, clip.patient)
    truth = b"" if clip.truth is None else np.packbits(clip.truth).tobytes()
    return hashlib.sha256(f"{clip.content_sha256} {facts}".encode() + truth).hexdigest()


def variants_of(tables: Mapping[str, AblationTable]) -> list[str]:
    """The variants that the tables need, each once, in the order of VARIANTS."""
    needed = {row.variant for table in tables.values() for row in table.rows}
    return [name for name in VARIANTS if name in needed]


def run_ablations(
    study: Study,
    variants: Sequence[str],
    *,
    on_start: Callable[[str, int, bool], None] = lambda variant, seed, reused: None,
    on_step: Callable[[Any], None] = lambda _: None,
) -> dict[str, list[Scores]]:
    """Train and score every variant with every seed; what is there already is only read.

    Args:
        study: what the runs share.
        variants: keys of VARIANTS.
        on_start: hears of each run: variant, seed, and whether it is there already.
        on_step: hears of every training step.

    Returns:
        variant -> its scores, one per seed in their order.

    Raises:
        UnusableInput: no clip has truth, a loss is not finite, or a folder holds a run on other
            inputs or one that cannot be read.
        UsageError: a folder holds the beginning of a run on other inputs.
    """
    found: dict[str, list[Scores]] = {name: [] for name in variants}
    for seed in study.seeds:
        for variant in variants:
            scores = _read_scores(study, variant, seed)
            on_start(variant, seed, scores is not None)
            if scores is None:
                scores = _run(study, variant, seed, on_step)
            found[variant].append(scores)
    return found


def table_rows(
    table: AblationTable, found: Mapping[str, Sequence[Scores]], frames: str = "ed_es"
) -> list[AblationRow]:
    """A table's lines from the scores of its variants.

    Args:
        table: of TABLES.
        found: of `run_ablations`, with every variant of the table.
        frames: key of FRAME_SETS.
    """
    return [_row(row, found, table.reference, frames) for row in table.rows]


def _row(
    row: Row, found: Mapping[str, Sequence[Scores]], reference: str, frames: str
) -> AblationRow:
    ours, theirs = found[row.variant], found[reference]
    means = {
        column: [_mean(run[frames][column].values()) for run in ours]
        for column in ("dsc", "hd95", "asd")
    }
    reference_dsc = [_mean(run[frames]["dsc"].values()) for run in theirs]
    is_reference = row.variant == reference
    return AblationRow(
        label=row.label,
        variant=row.variant,
        paper=row.paper,
        dsc=_mean(means["dsc"]),
        hd95=_mean(means["hd95"]),
        asd=_mean(means["asd"]),
        dsc_sd=float(np.std(means["dsc"], ddof=1)) if len(ours) > 1 else math.nan,
        p_dsc=math.nan if is_reference else _p_value(ours, theirs, frames, "dsc"),
        p_hd95=math.nan if is_reference else _p_value(ours, theirs, frames, "hd95"),
        seeds_below=sum(a < b for a, b in zip(means["dsc"], reference_dsc, strict=True)),
    )


def _p_value(ours: Sequence[Scores], theirs: Sequence[Scores], frames: str, column: str) -> float:
    """Paired by patient, over the patients that have the figure in every run of both."""
    sides = [[run[frames][column] for run in side] for side in (ours, theirs)]
    shared = sorted(set.intersection(*(set(run) for side in sides for run in side)))
    a, b = ([_mean([run[patient] for run in side]) for patient in shared] for side in sides)
    return signed_rank(a, b).p_value


def _run(study: Study, variant: str, seed: int, on_step: Callable[[Any], None]) -> Scores:
    """Train one network, score it, and write the scores."""
    import torch

    from pkecho_edge.model.baseline import baseline_runner
    from pkecho_edge.model.imagenet import load_encoder_weights
    from pkecho_edge.model.network import PKEchoNet
    from pkecho_edge.training.loop import STATE, train
    from pkecho_edge.training.processes import Processes

    folder = study.folder(variant, seed)
    recipe = replace(study.recipe, seed=seed)
    torch.manual_seed(seed)
    network = PKEchoNet(study.config(variant))
    if study.encoder_weights is not None:
        load_encoder_weights(network, study.encoder_weights)
    processes = Processes(0, 1, torch.device(study.device))
    resume = (folder / STATE).is_file()
    try:
        train(
            network,
            study.samples,
            [],
            recipe,
            folder,
            processes=processes,
            resume=resume,
            on_step=on_step,
        )
    except UnusableInput as error:  # what to do is not what `train` says: it has other options
        raise UnusableInput(
            error.what,
            path=error.path or folder,
            remedy="Remove it and run again"
            if error.path
            else 'Give a --config with a lower learning_rate or precision = "f32"',
        ) from error
    (evaluation,) = evaluate([baseline_runner(network.cpu())], study.clips)
    scores = {
        str(frames): {str(column): evaluation.per_patient(column, frames) for column in COLUMNS}
        for frames in FRAME_SETS
    }
    document = {"key": study.key(variant, seed), "unit": evaluation.distance_unit, "scores": scores}
    write_atomically(folder / _SCORES, json.dumps(document).encode())
    if not study.keep_checkpoints:
        for name in _LEFTOVERS:
            (folder / name).unlink(missing_ok=True)
    return scores


def _read_scores(study: Study, variant: str, seed: int) -> Scores | None:
    """Of a finished run on the same inputs; None where there is none.

    Raises:
        UnusableInput: the folder holds a run on other inputs: it is not thrown away unasked.
    """
    path = study.folder(variant, seed) / _SCORES
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        key = document["key"]
        scores = {
            str(frames): {
                str(column): {
                    str(patient): float(value)
                    for patient, value in document["scores"][frames][column].items()
                }
                for column in COLUMNS
            }
            for frames in FRAME_SETS
        }
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnusableInput(
            f"cannot be read ({type(error).__name__})", path=path, remedy="Remove it and run again"
        ) from error
    if key != study.key(variant, seed):
        raise UnusableInput(
            "is of a run on other data or with another recipe",
            path=path,
            remedy="Choose another --out, or remove that folder",
        )
    return scores


def _mean(values: Any) -> float:
    """nan for none."""
    known = list(values)
    return float(np.mean(known)) if known else math.nan
