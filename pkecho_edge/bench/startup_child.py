"""One start in a process of its own: `python -m pkecho_edge.bench.startup_child`, JSON on stdout.

Arguments: the bundle, then "runtime", "openvino" or the folder of OpenVINO's model cache. Imports
stand in the functions, because what they cost is measured, too.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time

from pkecho_edge.bench.memory import peak_resident_mb, resident_mb

__all__ = ["main"]


class _Laps:
    """Milliseconds between one lap and the next."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.figures: dict[str, float | None] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.figures[f"{name}_ms"] = (now - self._last) * 1e3
        self._last = now


def main(bundle: str, how: str) -> dict[str, float | None]:
    """Imports, hashes, loading and the first push of the bundle's stream engine, each in ms."""
    laps = _Laps()
    start = _start_by_runtime if how == "runtime" else _start_by_openvino
    start(bundle, how, laps)
    return {**laps.figures, "peak_mb": peak_resident_mb()}


def _start_by_runtime(bundle: str, _how: str, laps: _Laps) -> None:
    import numpy as np

    with contextlib.suppress(ImportError):  # the target imports it late: it belongs here
        import openvino  # noqa: F401
    from pkecho_edge.runtime import open_bundle

    laps.lap("imports")
    engine = open_bundle(bundle)
    laps.lap("open")
    stream = engine.stream()
    laps.lap("load")
    laps.figures["rest_mb"] = resident_mb()
    stream.push(np.zeros(engine.bundle.manifest.preprocessing.size, dtype=np.uint8))
    laps.lap("push")


def _start_by_openvino(bundle: str, how: str, laps: _Laps) -> None:
    """OpenVINO called directly, hashes checked once: it alone has a model cache."""
    import openvino  # noqa: F401

    from pkecho_edge.bundle.reader import check_bundle
    from pkecho_edge.targets.openvino_profile import compile_engine

    laps.lap("imports")
    checked = check_bundle(bundle)
    laps.lap("open")
    engine = checked.engine("stream")
    extra = {} if how == "openvino" else {"CACHE_DIR": how}
    request = compile_engine(engine, extra).create_infer_request()
    laps.lap("load")
    laps.figures["rest_mb"] = resident_mb()
    inputs = {spec.name: spec.zeros() for spec in engine.inputs}
    for _ in range(2):  # a window looks at its first frame twice
        request.infer(inputs, share_inputs=True, share_outputs=True)
    laps.lap("push")


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:3])))
