"""One device's facts, as data: a TOML file in profiles/, or a user's own.

name = "orin-nano"                  letters, digits and dashes
description = "Jetson Orin Nano 8 GB, JetPack 6.2"
compute_capability = "8.7"          left out: any GPU
memory_mb = 8192                    of the device, shared with the CPU on a Jetson
tensorrt = "10.3.0"                 what the device has; older versions are refused there
cuda = "12.6"
jetpack = "6.2"                     left out: no Jetson
precisions = ["int8", "fp16", "fp32"]
workspace_mb = 1024                 that a plan's layers may use between them
build_memory_mb = 4096              that building a plan may use
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import MISSING, asdict, dataclass, fields
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from pkecho_edge.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["PRECISIONS", "Profile", "check_profile", "load_profile", "profile_names"]
__all__ += ["profile_toml"]

PRECISIONS = ("int8", "fp16", "fp32")
_MAX_BYTES = 1 << 16
_VERSION = re.compile(r"\d{1,3}(\.\d{1,3}){1,3}")
_FIRST_TENSORRT = (8, 5)
_UNKNOWN_TENSORRT = (12,)


@dataclass(frozen=True)
class Profile:
    """A device; see the module.

    Raises:
        ValueError: a value that cannot be.
    """

    name: str
    description: str
    memory_mb: int
    tensorrt: str
    cuda: str
    precisions: tuple[str, ...]
    workspace_mb: int
    build_memory_mb: int
    compute_capability: str | None = None
    jetpack: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", self.name):
            raise ValueError(f"the name {self.name[:60]!r} is not lower-case letters and dashes")
        for key in ("tensorrt", "cuda", "jetpack", "compute_capability"):
            value = getattr(self, key)
            if value is not None and not _VERSION.fullmatch(value):
                raise ValueError(f"{key} {value[:60]!r} is not a version such as 10.3")
        if not _FIRST_TENSORRT <= self.tensorrt_release < _UNKNOWN_TENSORRT:
            raise ValueError(f"TensorRT {self.tensorrt} is not 8.5 to 11")
        if not self.precisions or not set(self.precisions) <= set(PRECISIONS):
            raise ValueError(f"precisions are of {', '.join(PRECISIONS)}, at least one")
        for key in ("memory_mb", "workspace_mb", "build_memory_mb"):
            if not 64 <= getattr(self, key) <= 1 << 22:
                raise ValueError(f"{key} must lie between 64 and {1 << 22}")
        if self.build_memory_mb > self.memory_mb:
            raise ValueError("build_memory_mb is more than memory_mb")
        if self.workspace_mb > self.memory_mb:
            raise ValueError("workspace_mb is more than memory_mb")

    @property
    def target(self) -> str:
        """The one that it is for."""
        return "jetson" if self.jetpack is not None else "tensorrt"

    @property
    def tensorrt_release(self) -> tuple[int, ...]:
        """For comparing."""
        return tuple(map(int, self.tensorrt.split(".")))

    @property
    def is_strongly_typed(self) -> bool:
        """Whether its TensorRT takes precisions from the graph: from 10 on."""
        return self.tensorrt_release >= (10,)

    @property
    def sha256(self) -> str:
        """Of its values."""
        return sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "precisions": list(self.precisions)}


def profile_names() -> tuple[str, ...]:
    """Of the profiles that come with the package."""
    folder = resources.files("pkecho_edge.targets") / "profiles"
    names = (entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return tuple(sorted(name.removesuffix(".toml") for name in names))


def load_profile(name_or_path: str) -> Profile:
    """A profile of the package by its name, or one of the user's by its path.

    Raises:
        UsageError: neither, or a file that is no profile.
    """
    if name_or_path in profile_names():
        entry = resources.files("pkecho_edge.targets") / "profiles" / f"{name_or_path}.toml"
        return _parse(entry.read_bytes(), Path(f"{name_or_path}.toml"))
    path = Path(name_or_path)
    if not path.is_file():
        raise UsageError(
            f"there is no profile {name_or_path!r}",
            remedy=f"Use {', '.join(profile_names())}, or the path of a TOML file",
        )
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"cannot be read ({error.strerror})", path=path, remedy="Name a readable TOML file"
        ) from error
    return _parse(data, path)


def _parse(data: bytes, path: Path) -> Profile:
    remedy = "Start from one that `pkecho-edge targets --profile NAME` prints"
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError(f"is larger than {_MAX_BYTES >> 10} KiB")
        return _profile(tomllib.loads(data.decode()))
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"is no profile: {error}", path=path, remedy=remedy) from error


def _profile(raw: dict[str, Any]) -> Profile:
    """ValueError where a key is missing, unknown or of another type."""
    known = {field.name: field for field in fields(Profile)}
    if unknown := raw.keys() - known.keys():
        raise ValueError(f"{min(unknown)!r} is not a known key")
    for name, field in known.items():
        if name not in raw:
            if field.default is MISSING:
                raise ValueError(f"{name} is missing")
        elif name == "precisions":
            if not isinstance(raw[name], list) or not all(isinstance(p, str) for p in raw[name]):
                raise ValueError("precisions must be a list of text")
        elif name.endswith("_mb"):
            if type(raw[name]) is not int:  # bool is an int to isinstance
                raise ValueError(f"{name} must be a whole number")
        elif not isinstance(raw[name], str):
            raise ValueError(f"{name} must be text")
    return Profile(**{**raw, "precisions": tuple(raw["precisions"])})


def check_profile(target: str, profile: Profile) -> None:
    """Refuse a desktop's profile for a Jetson, and the other way round.

    Raises:
        UsageError: naming the target that it is for.
    """
    if profile.target != target:
        raise UsageError(
            f"profile {profile.name} is for --target {profile.target}",
            remedy=f"Use --target {profile.target}, or another --profile",
        )


def profile_toml(profile: Profile) -> str:
    """As the text of a TOML file that `load_profile` reads."""
    lines = []
    for name, value in profile.as_dict().items():
        if value is not None:
            # of text, lists of text and whole numbers JSON is TOML
            lines.append(f"{name} = {json.dumps(value)}\n")
    return "".join(lines)
