"""What one engine takes in memory, in a process of its own where nothing was loaded before.

`python -m pkecho_edge.bench.memory_child`, the engine as JSON on stdin, one number on stdout:
growth of resident memory by loading it and by one call, in MB of 10^6 bytes, or null.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from pkecho_edge import targets
from pkecho_edge.bench.child import run_child
from pkecho_edge.bench.memory import resident_mb
from pkecho_edge.targets.base import Engine, TensorSpec

__all__ = ["memory_of"]


def memory_of(engine: Engine) -> float | None:
    """Growth of resident memory by an engine, measured in a new process; None where not known.

    Raises:
        PkechoEdgeError: the process failed.
    """
    grown: float | None = run_child(
        "pkecho_edge.bench.memory_child",
        (),
        stdin=_text(engine),
        about=engine.directory,
        remedy="Repeat; if it stays, report it",
    )
    return grown


def _text(engine: Engine) -> str:
    specs = {
        side: [[spec.name, spec.dtype, spec.shape] for spec in getattr(engine, side)]
        for side in ("inputs", "outputs")
    }
    rest = {"options": dict(engine.options), "toolchain": dict(engine.toolchain)}
    place = {"target": engine.target, "directory": str(engine.directory), "files": engine.files}
    return json.dumps({**place, **specs, **rest})


def _engine(text: str) -> Engine:
    raw = json.loads(text)
    inputs, outputs = (
        tuple(TensorSpec(name, dtype, tuple(shape)) for name, dtype, shape in raw[side])
        for side in ("inputs", "outputs")
    )
    return Engine(
        target=raw["target"],
        directory=Path(raw["directory"]),
        files=tuple(raw["files"]),
        inputs=inputs,
        outputs=outputs,
        options=raw["options"],
        toolchain=raw["toolchain"],
    )


def _main() -> float | None:
    engine = _engine(sys.stdin.read())
    for package in engine.toolchain:
        importlib.import_module(package)  # what a toolchain itself takes is not the engine's
    before = resident_mb()
    session = targets.get(engine.target).load(engine)
    session.run({spec.name: spec.zeros() for spec in engine.inputs})
    after = resident_mb()
    return None if before is None or after is None else after - before


if __name__ == "__main__":
    print(json.dumps(_main()))
