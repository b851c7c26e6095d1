"""Make docs/images/verify.svg: what a terminal shows of a report, one mode of it.

    python docs/images/make_table_image.py REPORT.json [clip|stream]

REPORT.json is one of the tutorial's bundle, heart.pkb/reports/report.json.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from pkecho_edge.verify.report import read_report, render_table

COLUMNS = 84


def picture(report: Path, mode: str) -> str:
    """An SVG that fetches nothing: the reader's own monospaced font."""
    document = read_report(report)
    document["modes"] = {mode: document["modes"][mode]}
    document["gates"] = [gate for gate in document["gates"] if gate["mode"] == mode]
    lines = document["warnings"]
    document["warnings"] = [line for line in lines if line.partition(": ")[0] in (mode, line)]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), highlight=False)
    console.print(render_table(document))
    title = f"pkecho-edge verify: mode {mode}"
    svg = console.export_svg(title=title, unique_id="verify")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


if __name__ == "__main__":
    chosen = sys.argv[2] if len(sys.argv) > 2 else "clip"
    svg = picture(Path(sys.argv[1]), chosen)
    Path(__file__).with_name("verify.svg").write_text(svg, encoding="utf-8")
