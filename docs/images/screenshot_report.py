"""Make report.png, report-drift.png, report-statistics.png, report-areas.png and
report-gallery.png: parts of a report.html as headless Chromium shows them.

make demo
python docs/images/screenshot_report.py demo-output/report.html
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

WIDTH, MARGIN = 1100, 24
SHOTS = {
    "report.png": ("", 1500),  # the first screen and the beginning of the gates
    "report-drift.png": ("stream-accuracy", 3000),
    "report-statistics.png": ("stream-statistics", 3000),
    "report-areas.png": ("stream-areas", 3000),
    "report-gallery.png": ("stream-worst", 3000),
}
"""Picture -> the section that it shows, "" for the page's top; and the most pixels of height."""


def screenshot(page: Path, picture: Path, section: str, height: int) -> None:
    """One section alone, or the page's first pixels; without an alpha channel or empty paper."""
    with tempfile.TemporaryDirectory() as folder:
        shown = Path(folder, "page.html")
        text = page.read_text(encoding="utf-8")
        if section:
            rule = f'main > :not([aria-labelledby="{section}"]) {{ display: none; }}'
            text = text.replace("</style>", f"{rule}</style>", 1)
        shown.write_text(text, encoding="utf-8")
        raw = Path(folder, "raw.png")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options += [f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{height}"]
        command = ["chromium", *options, f"--screenshot={raw}", shown.as_uri()]
        subprocess.run(command, check=True, capture_output=True)
        with Image.open(raw) as image:
            opaque = image.convert("RGB")
    paper = Image.new("RGB", opaque.size, opaque.getpixel((0, opaque.height - 1)))
    box = ImageChops.difference(opaque, paper).getbbox()
    bottom = height if box is None else min(height, box[3] + MARGIN)
    colours = opaque.crop((0, 0, WIDTH, bottom)).quantize(256)
    colours.save(picture, optimize=True)


if __name__ == "__main__":
    for name, (section, height) in SHOTS.items():
        screenshot(Path(sys.argv[1]), Path(__file__).with_name(name), section, height)
