"""Make docs/images/run.png: the upper half of a contact sheet.

    python docs/images/make_run_image.py BUNDLE

BUNDLE is one of the packaged checkpoint at 320x320.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from pkecho_edge.data.phantom import draw_spec, phantom_frames
from pkecho_edge.data.phantom_imaging import Scanner
from pkecho_edge.data.video import write_mjpg_avi
from pkecho_edge.running.run import run_bundle

FRAMES, SIZE = 400, (320, 320)


def main(bundle: Path) -> None:
    """Render a phantom that goes on beating, run the bundle on it, keep what fits a page."""
    spec = draw_spec(3_000_003, "good")
    spacing_mm = Scanner(spec.anatomy, spec.acquisition, SIZE, spec.seed).spacing_mm
    with tempfile.TemporaryDirectory() as folder:
        recording, out = Path(folder) / "phantom.avi", Path(folder) / "out"
        frames = np.stack(list(phantom_frames(spec, FRAMES, size=SIZE)))
        write_mjpg_avi(recording, frames, spec.acquisition.frame_rate_hz)
        run_bundle(bundle, recording, out, spacing_mm=spacing_mm)
        with Image.open(out / "sheet.png") as sheet:
            upper = sheet.crop((0, 0, sheet.width, 674))
            small = upper.resize((963, 505), Image.Resampling.LANCZOS)
            small.save(Path(__file__).with_name("run.png"), optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
