"""Device profiles: those that come along, and a user's own, hostile ones included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pkecho_edge import targets
from pkecho_edge.errors import UsageError
from pkecho_edge.targets.profile import Profile, load_profile, profile_names, profile_toml

ORIN = load_profile("orin-nano")


def test_the_devices_of_the_documentation_are_there() -> None:
    expected = {"orin-nano", "orin-nx", "agx-orin", "xavier-nx", "thor", "rtx", "hopper"}

    assert expected <= set(profile_names())


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_is_whole(name: str) -> None:
    profile = load_profile(name)

    assert profile.name == name
    assert profile.workspace_mb < profile.build_memory_mb <= profile.memory_mb
    assert profile.jetpack is None or profile.compute_capability is not None


def test_versions_are_compared_as_numbers() -> None:
    assert not replace(ORIN, tensorrt="8.6.2").is_strongly_typed
    assert replace(ORIN, tensorrt="10.3.0").is_strongly_typed
    assert replace(ORIN, tensorrt="11.4.1").is_strongly_typed


@pytest.mark.parametrize("name", profile_names())
def test_a_printed_profile_can_be_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(profile_toml(load_profile(name)), encoding="utf-8")

    assert load_profile(str(path)) == load_profile(name)
    assert load_profile(str(path)).sha256 == load_profile(name).sha256


def test_a_user_s_profile_counts_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(profile_toml(replace(ORIN, workspace_mb=512)), encoding="utf-8")

    mine = targets.options_for("jetson", profile=str(path)).as_dict()
    theirs = targets.options_for("jetson").as_dict()

    assert mine["profile"] == theirs["profile"] == "orin-nano"
    assert mine["profile_sha256"] != theirs["profile_sha256"]


def test_defaults_of_a_target() -> None:
    jetson, cpu = targets.options_for("jetson"), targets.options_for("cpu")

    assert jetson.profile == ORIN
    assert jetson.float_precision == "f16"
    assert cpu.profile is None
    assert cpu.float_precision == "f32"


def test_a_profile_for_a_processor_is_refused() -> None:
    with pytest.raises(UsageError, match=r"cpu has no profiles\..*--target jetson or --target t"):
        targets.options_for("cpu", profile="orin-nano")


@pytest.mark.parametrize(("target", "profile"), [("jetson", "rtx"), ("tensorrt", "thor")])
def test_a_profile_of_another_kind_is_refused(tmp_path: Path, target: str, profile: str) -> None:
    with pytest.raises(UsageError, match=f"profile {profile} is for --target"):
        targets.options_for(target, profile=profile)
    # and where options are made by hand
    options = replace(targets.options_for(target), profile=load_profile(profile))
    with pytest.raises(UsageError, match=f"profile {profile} is for --target"):
        targets.get(target).compile({}, tmp_path, options)


def test_a_profile_that_there_is_not_names_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="there is no profile 'orin'") as caught:
        load_profile("orin")

    assert "orin-nano" in (caught.value.remedy or "")


GOOD = profile_toml(ORIN)
HOSTILE = {
    "empty": "",
    "binary": "\x00\x01",
    "not TOML": "name = ",
    "deep": "a = " + "[" * 5000,
    "unknown key": GOOD + "command = 'x'\n",
    "missing key": "\n".join(GOOD.splitlines()[1:]),
    "number as text": GOOD.replace("8192", '"8192"'),
    "true as a number": GOOD.replace("8192", "true"),
    "no memory": GOOD.replace("memory_mb = 8192", "memory_mb = 0"),
    "more to build than there is": GOOD.replace("4096", "9000"),
    "version as a number": GOOD.replace('"10.3.0"', "10.3"),
    "version of words": GOOD.replace("10.3.0", "latest"),
    "a version that is too old": GOOD.replace("10.3.0", "7.1.3"),
    "a version that is not known": GOOD.replace("10.3.0", "12.1"),
    "more workspace than there is": GOOD.replace("workspace_mb = 1024", "workspace_mb = 9000"),
    "a precision that there is not": GOOD.replace('"fp16"', '"fp8"'),
    "no precisions": GOOD.replace('["int8", "fp16", "fp32"]', "[]"),
    "precisions as text": GOOD.replace('["int8", "fp16", "fp32"]', '"int8"'),
    "a name of a path": GOOD.replace('"orin-nano"', '"../x"'),
    "a newline in the name": GOOD.replace('"orin-nano"', '"a\\nb"'),
    "very large": GOOD + "#" * (1 << 17),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "profile.toml"
    path.write_text(HOSTILE[name], encoding="utf-8")

    with pytest.raises(UsageError, match="is no profile") as caught:
        load_profile(str(path))

    assert caught.value.path == path
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_profile(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no profile"):
        load_profile(str(tmp_path))


def test_values_are_checked_without_a_file() -> None:
    with pytest.raises(ValueError, match=r"TensorRT 8\.4\.1 is not 8\.5 to 11"):
        Profile("a", "", 8192, "8.4.1", "11.4", ("int8",), 64, 64)
