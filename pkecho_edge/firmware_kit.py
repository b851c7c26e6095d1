"""Build the firmware kit: libpkecho, its back-ends and examples, with CMake, from the sources.

out/include/pkecho.h, pkecho_backend.h
    lib/libpkecho.so, lib/pkecho/libpkecho-backend-cpu.so and what it needs of OpenVINO
    lib/cmake/pkecho/      for find_package(pkecho)
    bin/, share/           the examples
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pkecho_edge
from pkecho_edge.errors import MissingDependency, PkechoEdgeError, UsageError
from pkecho_edge.files import scratch_folder

__all__ = ["FirmwareOptions", "build_firmware", "firmware_source"]

PACKAGES = ("cmake", "g++", "libsodium-dev", "make", "pkg-config")
"""Of Debian, that a build needs."""

_PROGRAMS = ("cmake", "g++", "make", "pkg-config")


@dataclass(frozen=True)
class FirmwareOptions:
    """What is built.

    Attributes:
        openvino: whether the back-end for target cpu is.
        copy_openvino: whether the files of OpenVINO that it needs, 85 MB, are installed beside it.
        tensorrt_root: folder with TensorRT's include/ and lib/, for the back-end of jetson and
            tensorrt; None for none.
        definitions: further `-D` of CMake, "NAME=VALUE" each.
    """

    openvino: bool = True
    copy_openvino: bool = True
    tensorrt_root: Path | None = None
    definitions: Sequence[str] = ()

    def arguments(self) -> list[str]:
        """For CMake.

        Raises:
            MissingDependency: the OpenVINO package is asked for and not installed.
        """
        found = [f"-DPKECHO_OPENVINO={_on(self.openvino)}"]
        if self.openvino:
            found += [f"-DOpenVINO_DIR={_openvino_cmake()}"]
            found += [f"-DPKECHO_COPY_OPENVINO={_on(self.copy_openvino)}"]
        if self.tensorrt_root is not None:
            found += [f"-DPKECHO_TENSORRT_ROOT={self.tensorrt_root.absolute()}"]
        return [*found, *(f"-D{definition}" for definition in self.definitions)]


def firmware_source() -> Path:
    """The folder firmware/ of the checkout that this package runs from.

    Raises:
        UsageError: it was installed without its sources.
    """
    source = Path(pkecho_edge.__file__).parent.parent / "firmware"
    if not (source / "CMakeLists.txt").is_file():
        raise UsageError(
            "the sources of the firmware kit are not beside this package",
            path=source,
            remedy="Run it from a checkout, or name the folder: --source DIR",
        )
    return source


def build_firmware(
    out: Path,
    options: FirmwareOptions,
    *,
    source: Path | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Configure, build and install; `out` appears when it is whole.

    Args:
        out: folder to make.
        options: what is built.
        source: the folder firmware/; None for the checkout's.
        overwrite: replace `out` where it exists.
        say: hears each line of CMake and the compiler.

    Raises:
        UsageError: no sources there, `out` exists, or it cannot be written.
        MissingDependency: a program or library that the build needs is not installed.
        PkechoEdgeError: the build failed; names the first line that says why.
    """
    source = firmware_source() if source is None else source
    if not (source / "CMakeLists.txt").is_file():
        raise UsageError("holds no CMakeLists.txt", path=source, remedy="Name the folder firmware/")
    if out.exists() and not overwrite:
        raise UsageError("exists", path=out, remedy="Choose another --out, or pass --overwrite")
    if out.exists() and (out.is_symlink() or not (out / "include" / "pkecho.h").is_file()):
        raise UsageError(
            "is not a firmware kit, so it is not replaced", path=out, remedy="Choose another --out"
        )
    _check_programs()
    arguments = options.arguments()
    try:
        with scratch_folder(out.absolute().parent, out.name) as scratch:
            build, installed = scratch / "build", scratch / "installed"
            configure = ["cmake", "-S", str(source), "-B", str(build), "-DCMAKE_INSTALL_LIBDIR=lib"]
            _run([*configure, *arguments], say)
            _run(["cmake", "--build", str(build), "--parallel"], say)
            _run(["cmake", "--install", str(build), "--prefix", str(installed), "--strip"], say)
            if out.exists():  # deleted with the scratch folder, once the new one is in its place
                out.rename(scratch / "replaced")
            installed.rename(out)
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", path=out, remedy="Choose another --out"
        ) from error


def _on(value: bool) -> str:
    return "ON" if value else "OFF"


def _openvino_cmake() -> Path:
    spec = importlib.util.find_spec("openvino")
    if spec is None or spec.origin is None:
        raise MissingDependency(
            "OpenVINO is not installed, whose headers the back-end for target cpu needs",
            remedy="Run: pip install 'pkecho-edge[cpu]', or pass --no-openvino",
        )
    return Path(spec.origin).parent / "cmake"


def _check_programs() -> None:
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if not missing and subprocess.run(["pkg-config", "--exists", "libsodium"]).returncode:
        missing = ["libsodium-dev"]
    if missing:
        raise MissingDependency(
            f"not installed here, and needed for the build: {', '.join(missing)}",
            remedy=f"Run: apt-get install {' '.join(PACKAGES)}",
        )


def _run(command: list[str], say: Callable[[str], None]) -> None:
    """Run a program; PkechoEdgeError with the first line that looks like a reason."""
    reason = last = ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last = line.strip() or last
                if reason.endswith(":") and line.strip():
                    reason += f" {line.strip()}"  # CMake says where first, and what below it
                if not reason and ("error" in line.lower() or "not found" in line.lower()):
                    reason = line.strip()
                say(line.rstrip())
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise PkechoEdgeError(
            f"the build failed: {(reason or last).rstrip('.')}",
            remedy="See all of it with --verbose",
        )
