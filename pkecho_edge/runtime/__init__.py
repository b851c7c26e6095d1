"""Run a bundle: check it, load its engines, segment recordings and live streams. Needs no torch."""

from pkecho_edge.runtime.engine import ClipResult, Engine, open_bundle
from pkecho_edge.runtime.stream import Restart, Stream, StreamResult
from pkecho_edge.runtime.window import Window, stream_runner

__all__ = [
    "ClipResult",
    "Engine",
    "Restart",
    "Stream",
    "StreamResult",
    "Window",
    "open_bundle",
    "stream_runner",
]
