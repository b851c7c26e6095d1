"""The C library behind `pkecho-trust`, which opens bundles and prints what came of it."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

UNSIGNED = ("--allow-unsigned",)


@dataclass(frozen=True)
class Verdict:
    """What the library says about one bundle."""

    status: str  # without PKECHO_
    message: str


@dataclass(frozen=True)
class Library:
    """The library, behind its test program."""

    program: Path
    folder: Path

    @classmethod
    def of(cls, build: Path, scratch: Path) -> Library:
        """The one that was built; its inputs are laid out in a new folder in `scratch`."""
        folder = scratch / "library"
        folder.mkdir()
        return cls(build / "pkecho-trust", folder)

    def open(self, paths: Iterable[Path], *options: str, descriptors: int = 256) -> list[Verdict]:
        """Open bundles, all in one process that has only so many file descriptors."""
        return self._run("--batch", paths, options, descriptors)

    def parse(self, manifests: Iterable[bytes]) -> list[Verdict]:
        """Parse manifests without their bundles; the message of OK is the bundle's id."""
        paths = []
        for i, content in enumerate(manifests):
            paths.append(self.folder / f"{i}.json")
            paths[-1].write_bytes(content)
        return self._run("--manifests", paths, (), 256)

    def _run(
        self, mode: str, paths: Iterable[Path], options: tuple[str, ...], descriptors: int
    ) -> list[Verdict]:
        listing = self.folder / "list"
        listing.write_text("".join(f"{path}\n" for path in paths))
        command = shlex.join([str(self.program), mode, str(listing), *options])
        run = subprocess.run(
            ["sh", "-c", f"ulimit -n {descriptors}; exec {command}"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stderr[-4000:]
        assert run.stderr == ""
        verdicts = [Verdict(*line.split("\t", 1)) for line in run.stdout.split("\n")[:-1]]
        for verdict in verdicts:
            if verdict.status != "PKECHO_OK":  # a trusted comment is shown as it was signed
                assert re.fullmatch("[ -~]{10,511}", verdict.message)
        return [Verdict(v.status.removeprefix("PKECHO_"), v.message) for v in verdicts]

    def says(self, path: Path, *options: str) -> Verdict:
        (verdict,) = self.open([path], *options)
        return verdict
