"""Make report.png, the top of a report.html as headless Chromium shows it.

make demo
python docs/images/screenshot_report.py demo-output/report.html
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

WIDTH, HEIGHT = 1100, 1700  # down to the last gate


def screenshot(page: Path, picture: Path) -> None:
    """The page's first HEIGHT pixels, without an alpha channel."""
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options += [f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}"]
        command = ["chromium", *options, f"--screenshot={picture}", page.absolute().as_uri()]
        subprocess.run(command, check=True, capture_output=True)
    with Image.open(picture) as image:
        opaque = image.convert("RGB")
    opaque.save(picture, optimize=True)


if __name__ == "__main__":
    screenshot(Path(sys.argv[1]), Path(__file__).with_name("report.png"))
