"""What `pkecho-edge firmware build` makes, as somebody who links it finds it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pkecho_edge import firmware_kit
from pkecho_edge.cli.verbs import build_app
from pkecho_edge.errors import MissingDependency, PkechoEdgeError, UsageError
from pkecho_edge.firmware_kit import PACKAGES, FirmwareOptions, build_firmware
from tests.firmware.conftest import ROOT, configure


@pytest.fixture(scope="module")
def kit(firmware_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the command, with all its defaults."""
    out = tmp_path_factory.mktemp("kit") / "kit"
    done = CliRunner().invoke(build_app("firmware"), ["firmware", "build", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "include/pkecho.h" in done.output
    return out


def test_everything_is_where_the_documentation_says(kit: Path) -> None:
    lib = kit / "lib"
    expected = [
        "include/pkecho.h",
        "include/pkecho_backend.h",
        "lib/libpkecho.so",
        "lib/cmake/pkecho/pkechoConfig.cmake",
        "lib/pkecho/libpkecho-backend-cpu.so",
        "bin/pkecho-play",
        "bin/pkecho-capture",
        "lib/pkgconfig/pkecho.pc",
        "share/pkecho/examples/CMakeLists.txt",
        "share/pkecho/examples/play.c",
    ]
    assert [name for name in expected if not (kit / name).exists()] == []
    copied = [p for p in (lib / "pkecho").iterdir() if "openvino" in p.name or "tbb" in p.name]
    assert len(copied) == 5
    assert not list(kit.parent.glob(".kit*"))  # nothing half-built stays
    assert (lib / "libpkecho.so.1.0.0").stat().st_size < 1_000_000


def test_a_project_finds_the_package_and_links_it(kit: Path, tmp_path: Path) -> None:
    source = ROOT / "firmware" / "tests" / "consumer"
    configure(tmp_path, f"-DCMAKE_PREFIX_PATH={kit}", source=source)

    def said(program: str) -> str:
        return subprocess.run(
            [tmp_path / program], capture_output=True, text=True, check=True
        ).stdout

    assert said("consumer") == "1.0.0 PKECHO_PUBLIC_KEY\n"
    assert said("consumer_cxx") == "1 1\n"


def test_the_examples_are_a_project_by_themselves(kit: Path, tmp_path: Path) -> None:
    configure(tmp_path, f"-DCMAKE_PREFIX_PATH={kit}", source=kit / "share" / "pkecho" / "examples")

    done = subprocess.run([tmp_path / "bin" / "pkecho-play"], capture_output=True, text=True)
    assert "usage: BUNDLE PUBLIC_KEY" in done.stderr


def test_a_compiler_finds_the_kit_by_pkg_config_wherever_it_was_moved(
    kit: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(kit, moved, symlinks=True)
    environment = {**os.environ, "PKG_CONFIG_PATH": str(moved / "lib" / "pkgconfig")}
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "pkecho"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()

    source = ROOT / "firmware" / "tests" / "consumer" / "main.c"
    program = tmp_path / "consumer"
    subprocess.run(["cc", source, "-o", program, *flags], check=True)
    assert f"-L{moved}/lib" in flags or f"-L{moved}/lib/pkgconfig/../../lib" in flags
    environment["LD_LIBRARY_PATH"] = str(moved / "lib")
    said = subprocess.run([program], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout == "1.0.0 PKECHO_PUBLIC_KEY\n"


@pytest.mark.parametrize(
    ("lib", "include", "expected"),
    [
        ("lib", "include", ["${pcfiledir}/../../", "${prefix}/lib", "${prefix}/include"]),
        ("/k/lib", "include", ["/usr/x", "/k/lib", "${prefix}/include"]),
        ("lib/arch", "/k/inc", ["${pcfiledir}/../../../", "${prefix}/lib/arch", "/k/inc"]),
    ],
)
def test_pkg_config_takes_absolute_folders_as_they_are(
    firmware_build: Path, tmp_path: Path, lib: str, include: str, expected: list[str]
) -> None:
    subprocess.run(
        [
            *("cmake", "-S", ROOT / "firmware", "-B", tmp_path, "-DPKECHO_OPENVINO=OFF"),
            *(f"-DCMAKE_INSTALL_LIBDIR={lib}", f"-DCMAKE_INSTALL_INCLUDEDIR={include}"),
            "-DCMAKE_INSTALL_PREFIX=/usr/x",
        ],
        capture_output=True,
        check=True,
    )

    text = (tmp_path / "pkecho.pc").read_text()
    assert re.findall(r"^(?:prefix|libdir|includedir)=(.+)$", text, re.MULTILINE) == expected


def test_the_example_that_plays_a_video_is_short_enough_to_read() -> None:
    lines = (ROOT / "firmware" / "examples" / "play.c").read_text().splitlines()
    assert len(lines) <= 80


def test_the_documentation_lists_the_packages_that_a_build_needs() -> None:
    text = (ROOT / "docs" / "firmware.md").read_text()
    assert f"apt-get install {' '.join(PACKAGES)}" in text


def test_a_folder_that_exists_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(UsageError, match="exists"):
        build_firmware(tmp_path, FirmwareOptions())
    with pytest.raises(UsageError, match="not a firmware kit"):
        build_firmware(tmp_path, FirmwareOptions(), overwrite=True)
    assert (tmp_path / "precious").exists()


def test_a_kit_can_be_replaced(kit: Path) -> None:
    (kit / "left").touch()
    build_firmware(kit, FirmwareOptions(openvino=False), overwrite=True)
    assert not (kit / "left").exists()
    assert not (kit / "lib/pkecho/libpkecho-backend-cpu.so").exists()
    assert (kit / "lib/libpkecho.so").exists()
    assert not list(kit.parent.glob(".kit*"))


def test_without_sources_it_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"CMakeLists\.txt"):
        build_firmware(tmp_path / "kit", FirmwareOptions(), source=tmp_path)


def test_a_missing_program_is_named_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which
    monkeypatch.setattr(
        firmware_kit.shutil, "which", lambda name: None if name == "cmake" else real(name)
    )
    with pytest.raises(MissingDependency, match="for the build: cmake") as refused:
        build_firmware(tmp_path / "kit", FirmwareOptions())
    assert refused.value.remedy == f"Run: apt-get install {' '.join(PACKAGES)}"


def test_a_build_that_fails_says_why_and_leaves_nothing(
    firmware_build: Path, tmp_path: Path
) -> None:
    source = tmp_path / "broken"
    source.mkdir()
    (source / "CMakeLists.txt").write_text('message(FATAL_ERROR "no such compiler")\n')
    heard: list[str] = []

    with pytest.raises(
        PkechoEdgeError, match=r"the build failed: CMake Error.*no such compiler"
    ) as refused:
        build_firmware(
            tmp_path / "kit", FirmwareOptions(openvino=False), source=source, say=heard.append
        )

    assert re.search("--verbose", refused.value.remedy)
    assert any("no such compiler" in line for line in heard)
    assert [p.name for p in tmp_path.iterdir()] == ["broken"]
