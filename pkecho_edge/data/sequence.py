"""A sequence: consecutive frames of one recording, as a live stream sees them.

A clip's frames are picked from all over a systole; a stream gets every frame. What is compared on a
sequence is one result per frame, each with the T - 1 frames before it.
"""

from __future__ import annotations

from pkecho_edge.data.recording import Recording

__all__ = ["MAX_SEQUENCE", "sequence_indices"]

MAX_SEQUENCE = 256
"""Most frames of a sequence: a few heart beats at any frame rate."""


def sequence_indices(recording: Recording, length: int) -> tuple[int, ...]:
    """The frame numbers of a recording's sequence.

    From `length` - 1 frames before the first one with ground truth, so that its window is whole
    where the recording goes back so far, to the last one with ground truth; ED and ES count as
    such. Without any: from the first frame. MAX_SEQUENCE frames at most; where the ground truth
    lies farther apart, they end with the last one.

    Args:
        recording: at least one frame.
        length: T, the frames of a window.
    """
    known = {*recording.labelled, recording.ed_index, recording.es_index} - {None}
    anchors = [index for index in known if index is not None]
    if not anchors:
        return tuple(range(min(len(recording.frames), MAX_SEQUENCE)))
    end = max(anchors) + 1
    return tuple(range(max(0, min(anchors) - length + 1, end - MAX_SEQUENCE), end))
