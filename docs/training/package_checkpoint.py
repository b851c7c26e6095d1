"""Put a trained checkpoint into the package, in half precision, and print its SHA-256.

python docs/training/package_checkpoint.py RUN/best.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

from pkecho_edge.model.checkpoint import (
    checkpoint_sha256,
    default_checkpoint_path,
    load_checkpoint,
    save_checkpoint,
)

if __name__ == "__main__":
    packaged = default_checkpoint_path()
    notes = {"trained": "on phantoms, docs/training/default-checkpoint.toml, docs/results.md"}
    save_checkpoint(load_checkpoint(Path(sys.argv[1])), packaged, half=True, notes=notes)
    print(checkpoint_sha256(packaged), packaged.name)
