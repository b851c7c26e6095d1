"""What is recorded of the machine, and what is not."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

from pkecho_edge.verify.machine import (
    _quota_cores,
    machine_facts,
    package_versions,
    parse_cpuinfo,
)

X86 = """processor\t: 0
model name\t: Example CPU @ 2.60GHz
cpu MHz\t\t: 2596.128
flags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16

processor\t: 1
model name\t: Another CPU
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm bf16\n"


def test_facts_are_json_and_name_neither_machine_nor_user() -> None:
    facts = machine_facts()

    text = json.dumps(facts, allow_nan=False)

    assert {"cpu", "memory_gib", "os", "python", "versions"} <= set(facts)
    assert platform.node() == "" or f'"{platform.node()}"' not in text
    assert facts["python"] == platform.python_version()


def test_instruction_sets_of_x86() -> None:
    cpu = parse_cpuinfo(X86)

    assert cpu["model"] == "Example CPU @ 2.60GHz"
    assert cpu["clock_mhz"] == pytest.approx(2596.128)
    flags = cpu["flags"]
    assert isinstance(flags, dict)
    assert flags["avx512_vnni"] is flags["bf16"] is True
    assert flags["amx_int8"] is flags["avx_vnni"] is False


def test_instruction_sets_of_arm() -> None:
    flags = parse_cpuinfo(ARM)["flags"]

    assert isinstance(flags, dict)
    assert flags["dotprod"] is flags["i8mm"] is flags["bf16"] is True
    assert flags["avx2"] is False


def test_an_unknown_processor_is_unknown_not_without_flags() -> None:
    flags = parse_cpuinfo("")["flags"]

    assert isinstance(flags, dict)
    assert set(flags.values()) == {None}


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000", None), ("", None), ("150000 100000", 1), ("400000 100000", 4)],
)
def test_a_quota_limits_the_cores(text: str, cores: int | None) -> None:
    assert _quota_cores(text) == cores


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert package_versions(["no-such-package-anywhere"]) == {"no-such-package-anywhere": None}


def test_versions_are_read_without_importing() -> None:
    code = (
        "import sys; from pkecho_edge.verify.machine import machine_facts; machine_facts();"
        "print({'torch', 'openvino', 'onnxruntime', 'nncf'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
