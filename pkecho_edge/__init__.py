"""From a trained echocardiography segmentation network to a verified INT8 engine for scanners.

The names below are imported when they are first used, so that `import pkecho_edge`, and with it
the command line, costs neither torch nor NumPy:

    import pkecho_edge as pk

    made = pk.compile("checkpoint.safetensors", "heart.pkb", data="recordings")
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pkecho_edge.api import compile, run, verify
    from pkecho_edge.data.clip import Clip, ed_es_clip
    from pkecho_edge.data.recording import Recording
    from pkecho_edge.errors import PkechoEdgeError
    from pkecho_edge.model.checkpoint import load_checkpoint, save_checkpoint
    from pkecho_edge.model.configuration import NetworkConfig
    from pkecho_edge.model.network import PKEchoNet
    from pkecho_edge.runtime import open_bundle

__version__ = "0.1.0"

# OpenVINO and NNCF send usage data, unless somebody has said no, from a forked process that can
# hang for ever when a program ends. Without this module they do not.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None: not importable

__all__ = [
    "Clip",
    "NetworkConfig",
    "PKEchoNet",
    "PkechoEdgeError",
    "Recording",
    "compile",
    "ed_es_clip",
    "load_checkpoint",
    "open_bundle",
    "run",
    "save_checkpoint",
    "verify",
]

_HOME = {
    "Clip": "pkecho_edge.data.clip",
    "NetworkConfig": "pkecho_edge.model.configuration",
    "PKEchoNet": "pkecho_edge.model.network",
    "PkechoEdgeError": "pkecho_edge.errors",
    "Recording": "pkecho_edge.data.recording",
    "compile": "pkecho_edge.api",
    "ed_es_clip": "pkecho_edge.data.clip",
    "load_checkpoint": "pkecho_edge.model.checkpoint",
    "open_bundle": "pkecho_edge.runtime",
    "run": "pkecho_edge.api",
    "save_checkpoint": "pkecho_edge.model.checkpoint",
    "verify": "pkecho_edge.api",
}
"""Public name -> the module that defines it."""


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, imported or not yet."""
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `pkecho_edge.verify` the function, also after the package of that name was imported.

    Importing a submodule binds it as an attribute of its parent; without this, what the public
    name means would depend on what else had been imported before.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
