"""Write src/printable.inc: where str.isprintable changes, from one code point to the next.

    python3 firmware/tools/printable_table.py > firmware/src/printable.inc

The table is that of one Unicode version, so that the library's verdict does not depend on the
machine it was built on.
"""

from __future__ import annotations

import sys
import unicodedata

_PER_LINE = 11


def turns() -> list[int]:
    """Code points at which printable and not printable take turns, from "not" on."""
    found, before = [], False
    for code_point in range(sys.maxunicode + 1):
        now = chr(code_point).isprintable()
        if now != before:
            found.append(code_point)
        before = now
    return found


def table() -> str:
    """The file's content."""
    numbers = turns()
    lines = [f"// Unicode {unicodedata.unidata_version}; made by tools/printable_table.py."]
    for start in range(0, len(numbers), _PER_LINE):
        lines.append(" ".join(f"{n:#x}," for n in numbers[start : start + _PER_LINE]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
