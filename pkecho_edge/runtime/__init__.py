"""Run a bundle: check it, load its engines, segment recordings and live streams. Needs no torch."""

from pkecho_edge.runtime.engine import ClipResult, Engine, open_bundle
from pkecho_edge.runtime.stream import Restart, Stream, StreamResult
from pkecho_edge.runtime.window import open_window, stream_runner

__all__ = [
    "ClipResult",
    "Engine",
    "Restart",
    "Stream",
    "StreamResult",
    "open_bundle",
    "open_window",
    "stream_runner",
]
