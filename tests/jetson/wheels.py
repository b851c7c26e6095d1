"""Asks pip which wheels a Jetson would install, from the lists that Dockerfile.jetson installs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .dockerfile import Dockerfile

# Python and the wheels that fit: JetPack 5's pip 20 knows no wheel tag newer than manylinux2014.
PYTHONS = {"5": "3.8", "6": "3.10", "7": "3.12"}
PLATFORMS = {
    "5": ("manylinux2014_aarch64",),
    "6": ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
    "7": ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
}
# urllib3's and pip's words for a network that is not there; none of them for a missing version.
NETWORK = re.compile(
    r"connection broken by|NewConnectionError|ConnectTimeout|ReadTimeout|Read timed out"
    r"|name resolution|ProxyError|Max retries exceeded|Could not fetch URL .* connection error"
)


class Offline(Exception):
    """pip failed because the network did."""


class Unresolvable(Exception):
    """pip failed although the network was there."""


@dataclass(frozen=True)
class Wheel:
    """A wheel that pip would install."""

    version: str
    file: str  # its URL
    requires: tuple[str, ...]  # its metadata's Requires-Dist


@dataclass(frozen=True)
class Pin:
    """One line of a list: `name==version ; marker --hash=sha256:... --hash=...`."""

    requirement: Requirement
    hashes: tuple[str, ...]  # "sha256:<64 hexadecimal digits>"

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        return str(self.requirement.specifier).removeprefix("==")

    def applies(self, jetpack: str) -> bool:
        marker = self.requirement.marker
        return marker is None or marker.evaluate(environment(jetpack))

    def line(self) -> str:
        """The line without its marker, which pip would judge by the Python it runs on."""
        pinned = f"{self.requirement.name}{self.requirement.specifier}"
        return " ".join([pinned, *(f"--hash={each}" for each in self.hashes)])


def environment(jetpack: str) -> dict[str, str]:
    """What environment markers are judged by on a Jetson."""
    return {
        "python_version": PYTHONS[jetpack],
        "python_full_version": f"{PYTHONS[jetpack]}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "aarch64",
        "extra": "",
    }


def installed_lists(dockerfile: Dockerfile, jetpack: str) -> list[str]:
    """The lists that the stage `packages` installs on a JetPack, as paths in the context."""
    return [
        path
        for run in dockerfile.stage("packages").all("RUN")
        if "WITH_PKECHO" not in run.value
        or jetpack != "5"  # the first stage refuses the two together
        for path in re.findall(r"pip install[^;&|]* -r (\S+)", run.value)
    ]


def pins(text: str) -> list[Pin]:
    """The lines of a list.

    Raises:
        ValueError: a line that is not pinned to one version, or has no hash.
    """
    joined = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    found = []
    for line in filter(str.strip, joined.splitlines()):
        requirement, *hashes = re.split(r"\s--hash=", line)
        pin = Pin(Requirement(requirement.strip()), tuple(each.strip() for each in hashes))
        if not re.fullmatch(r"==[\w.]+", str(pin.requirement.specifier)):
            raise ValueError(f"{line}: not pinned to one version")
        if not hashes or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in pin.hashes):
            raise ValueError(f"{line}: no SHA-256")
        found.append(pin)
    return found


def resolve(
    lines: list[str],
    jetpack: str,
    folder: Path,
    options: tuple[str, ...] = (),
    **variables: str,
) -> dict[str, Wheel]:
    """The wheels pip would install, by normalised name; nothing is installed.

    Raises:
        Offline, Unresolvable: with pip's last lines.
    """
    listed, report = folder / "list.txt", folder / "report.json"
    listed.write_text("\n".join(lines) + "\n", encoding="utf-8")
    asked = ["--dry-run", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    asked += ["--python-version", PYTHONS[jetpack], "--implementation", "cp"]
    asked += [word for name in PLATFORMS[jetpack] for word in ("--platform", name)]
    asked += ["--retries", "1", "--disable-pip-version-check", "--target", str(folder / "none")]
    asked += [*options, "--report", str(report), "-r", str(listed)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *asked],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables},
    )
    if done.returncode != 0:
        failed = Offline if NETWORK.search(done.stderr) else Unresolvable
        raise failed("\n".join(done.stderr.splitlines()[-5:]))
    entries = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {
        canonicalize_name(entry["metadata"]["name"]): Wheel(
            version=entry["metadata"]["version"],
            file=entry["download_info"]["url"],
            requires=tuple(entry["metadata"].get("requires_dist", ())),
        )
        for entry in entries
    }


def open_requirements(wheels: dict[str, Wheel], jetpack: str) -> list[str]:
    """What wheels ask for on a device that is not among them in a version that fits."""
    versions = {name: wheel.version for name, wheel in wheels.items()}
    return [
        f"{name}: {text}"
        for name, wheel in wheels.items()
        for text in unmet(wheel.requires, versions, jetpack)
    ]


def unmet(texts: Iterable[str], versions: dict[str, str], jetpack: str) -> list[str]:
    """The requirements that apply on a JetPack and that no installed version meets."""
    missing = []
    for text in texts:
        requirement = Requirement(text)
        marker, name = requirement.marker, canonicalize_name(requirement.name)
        applies = marker is None or marker.evaluate(environment(jetpack))
        met = name in versions and requirement.specifier.contains(versions[name])
        if applies and not met:
            missing.append(text)
    return missing
