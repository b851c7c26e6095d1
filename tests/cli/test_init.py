"""Settings as a file: what `init` writes, who wins over whom, what is refused, what a run keeps."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pkecho_edge import targets
from pkecho_edge.calibration.scheme import scheme_names
from pkecho_edge.cli.compile_options import CompileSettings
from pkecho_edge.cli.prune import PruneSettings
from pkecho_edge.cli.settings import options_of
from pkecho_edge.cli.settings_command import settings_command
from pkecho_edge.cli.settings_file import (
    CONFIG,
    read_settings,
    settings_text,
    write_record,
)
from pkecho_edge.cli.tune import TuneSettings
from pkecho_edge.records import record_path
from pkecho_edge.verify.gates import DEFAULT_LIMITS

Refuses = Callable[..., str]
Type = Callable[[str], Any]

ONLY_CUT = "prune network.safetensors --size 96 --steps 0 --no-refit --importance magnitude"
KINDS = {"compile": CompileSettings, "prune": PruneSettings, "tune": TuneSettings}


# What init writes


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: Type) -> str:
    """The text of a fresh pkecho-edge.toml in the current folder."""
    monkeypatch.chdir(tmp_path)
    assert typed("init").code == 0
    return (tmp_path / CONFIG).read_text(encoding="utf-8")


def test_as_it_is_written_it_says_what_is_done_without_it(written: str) -> None:
    settings = CompileSettings(**read_settings(Path(CONFIG), "compile", CompileSettings))

    assert settings == CompileSettings(limits=DEFAULT_LIMITS)


@pytest.mark.parametrize("table", KINDS)
def test_every_option_is_there_with_its_meaning(table: str, tmp_path: Path) -> None:
    text = settings_text(table, KINDS[table](), ["heading"], tmp_path)

    for option in options_of(KINDS[table]):
        (entry,) = re.findall(rf"((?:^# .+\n)+)(?:# )?{option.name} = ", text, re.MULTILINE)
        assert option.allowed in " ".join(entry.replace("\n# ", " ").split())
    assert len(options_of(KINDS[table])) > 12


@pytest.mark.parametrize("table", KINDS)
def test_every_example_may_be_uncommented(table: str, tmp_path: Path) -> None:
    text = settings_text(table, KINDS[table](), ["heading"], tmp_path)
    for option in options_of(KINDS[table]):
        path = tmp_path / f"{option.name}.toml"
        path.write_text(re.sub(rf"^# ({option.name} = )", r"\1", text, flags=re.MULTILINE))

        assert read_settings(path, table, KINDS[table]).get(option.name) is not None


def test_the_choices_that_it_names_are_all_there_are(written: str) -> None:
    comments = " ".join(written.replace("\n# ", " ").split())

    named = re.search(r"See `pkecho-edge targets`\. (.+?)\. Takes", comments)
    schemes = re.search(r"Quantization scheme; .+?target's\. (.+?): docs", comments)
    assert named is not None
    assert schemes is not None
    assert tuple(re.split(r", | or ", named[1])) == targets.names()
    assert sorted(re.split(r", | or ", schemes[1])) == sorted(scheme_names())


@pytest.mark.parametrize(
    ("argument", "place"), [("", CONFIG), (".", CONFIG), ("new", f"new/{CONFIG}"), ("a.toml",) * 2]
)
def test_a_folder_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: Type, argument: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)

    outcome = typed(f"init {argument}")

    assert outcome.code == 0, outcome.err
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.toml")] == [place]
    assert f"Written: {place}" in outcome.out
    assert ("--config a.toml" in outcome.out) is (place == "a.toml")


def test_overwriting_is_asked_for(written: str, typed: Type) -> None:
    Path(CONFIG).write_text("mine")
    assert typed("init").code == 2
    assert Path(CONFIG).read_text() == "mine"

    assert typed("init --overwrite").code == 0
    assert Path(CONFIG).read_text() == written


def test_a_link_that_leads_nowhere_is_replaced_only_when_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: Type
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(CONFIG).symlink_to("nowhere")

    assert typed("init").code == 2
    assert Path(CONFIG).is_symlink()

    assert typed("init --overwrite").code == 0
    assert Path(CONFIG).is_file()


def test_what_the_documents_show_is_accepted(tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
    (shown,) = re.findall(r"```toml\n(.+?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "a.toml").write_text(shown)

    found = {table: read_settings(tmp_path / "a.toml", table, KINDS[table]) for table in KINDS}

    assert found["compile"]["clips"] == 64
    assert found["compile"]["limits"] == {**DEFAULT_LIMITS, "dsc_drift": 0.3}
    assert found["tune"]["limits"] == found["compile"]["limits"]
    assert (found["prune"], found["tune"]["min_fps"]) == ({"ratio": 0.8}, 60.0)


# Who wins


@dataclass
class Verb:
    """A command with compile's settings that only remembers what it was told."""

    settings: Any = None

    def run(self, line: str) -> Any:
        def verb(settings: CompileSettings, quiet: bool = False) -> None:
            self.settings = settings

        app = typer.Typer()
        app.command("compile")(settings_command("compile", CompileSettings, verb, CONFIG))
        app.command("other")(lambda: None)
        return CliRunner().invoke(app, ["compile", *line.split()])


@pytest.fixture
def verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verb:
    monkeypatch.chdir(tmp_path)
    (tmp_path / CONFIG).write_text('[compile]\nclips = 7\nseed = 3\nmode = "clip"\n')
    return Verb()


def test_what_is_typed_wins_over_the_file_and_that_over_the_defaults(verb: Verb) -> None:
    result = verb.run("--clips 9")

    assert verb.settings == CompileSettings(clips=9, seed=3, mode="clip")
    assert result.stdout == f"Settings: {CONFIG}, table [compile]\n"


def test_a_default_that_is_typed_wins_too(verb: Verb) -> None:
    verb.run("--clips 32 --mode both")

    assert verb.settings == CompileSettings(seed=3)


def test_a_checkpoint_that_is_typed_leaves_the_file_alone(verb: Verb) -> None:
    result = verb.run("network.safetensors")

    assert verb.settings == CompileSettings(checkpoint=Path("network.safetensors"))
    assert result.stdout == ""


def test_config_is_read_in_any_case(verb: Verb, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('[compile]\nrule = "minmax/mse"\ncheckpoint = "a.pt"\n')

    verb.run("network.safetensors --config other.toml")
    assert verb.settings == CompileSettings(
        checkpoint=Path("network.safetensors"), rule="minmax/mse"
    )

    verb.run("--config other.toml")
    assert verb.settings.checkpoint == Path("a.pt")
    assert verb.settings.clips == 32


def test_without_a_file_there_are_the_defaults(verb: Verb, tmp_path: Path) -> None:
    (tmp_path / CONFIG).unlink()

    assert verb.run("").stdout == ""
    assert verb.settings == CompileSettings()


def test_quiet_does_not_say_which_file(verb: Verb) -> None:
    assert verb.run("--quiet").stdout == ""
    assert verb.settings.seed == 3


def test_what_is_typed_takes_the_place_of_its_rival(verb: Verb, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text("[compile]\nphantoms = true\n[gates]\nspeedup = 2\n")

    verb.run("--data recordings --gates gates.toml")

    assert verb.settings == CompileSettings(data=Path("recordings"), gates=Path("gates.toml"))


# What a file may say


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "here" / "a.toml"
    path.parent.mkdir()
    path.write_text('[compile]\ndata = "d"\nprofile = "mine.toml"\nout = "/x.pkb"\n')

    assert read_settings(path, "compile", CompileSettings) == {
        "data": path.parent / "d",
        "profile": str(path.parent / "mine.toml"),
        "out": Path("/x.pkb"),
    }


def test_the_name_of_a_profile_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[compile]\nprofile = "orin-nano"\n')

    found = read_settings(tmp_path / "a.toml", "compile", CompileSettings)
    assert found == {"profile": "orin-nano"}


def test_limits_are_filled_up_with_the_default_ones(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[compile]\n[gates]\nspeedup = 2\nagreement_dsc = 99.5\n")

    found = read_settings(tmp_path / "a.toml", "compile", CompileSettings)
    assert found == {"limits": {**DEFAULT_LIMITS, "speedup": 2.0, "agreement_dsc": 99.5}}


def test_each_verb_has_its_table(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[compile]\nclips = 7\n[prune]\nratio = 0.25\nsize = ["96", "128"]\n[tune]\n')

    assert read_settings(path, "prune", PruneSettings) == {"ratio": 0.25, "size": ["96", "128"]}
    assert read_settings(path, "tune", TuneSettings) == {}


def test_a_whole_number_will_do_for_a_fraction(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[tune]\nmin_fps = 60\n")

    found = read_settings(tmp_path / "a.toml", "tune", TuneSettings)
    assert found == {"min_fps": 60.0}
    assert type(found["min_fps"]) is float


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("[compile]\nclip = 3", "'clip' is no setting of compile. Did you mean clips?",
                     id="settings, unknown name"),
        pytest.param("[compile]\ncolour = 3", "Use one of checkpoint, target,",
                     id="settings, strange name"),
        pytest.param("[compile]\nclips = 'many'", "clips is 'many'. It takes a whole number, 1 or",
                     id="settings, text for a number"),
        pytest.param("[compile]\nclips = 3.0", "clips is 3.0", id="settings, fraction"),
        pytest.param("[compile]\nclips = true", "clips is True", id="settings, true for a number"),
        pytest.param("[compile]\nclips = 0", "clips is 0. It takes a whole number, 1 or more",
                     id="settings, number below its range"),
        pytest.param("[compile]\nverify_clips = 201", "a whole number, 1 to 200",
                     id="settings, number above its range"),
        pytest.param("[compile]\nphantoms = 1", "phantoms is 1. It takes true or false",
                     id="settings, 1 for true"),
        pytest.param("[compile]\nsize = 128", "size is 128. It takes a text",
                     id="settings, number for a text"),
        pytest.param("[compile]\nkeep_float = 'a'", "It takes a list of texts",
                     id="settings, text for a list"),
        pytest.param("[compile]\nclips = [3]", "clips is [3]", id="settings, list for a number"),
        pytest.param("[compile]\ndata = ''", "data is ''. It takes a path", id="settings, no path"),
        pytest.param('[compile]\ndata = "a\\u0000b"', "It takes a path", id="settings, NUL"),
        pytest.param("[compile]\nsize = '100'", "size: size 100 is not possible. Use multiples",
                     id="settings, impossible size"),
        pytest.param("[compile]\nmode = 'sideways'", "mode: there is no mode 'sideways'",
                     id="settings, unknown mode"),
        pytest.param("[compile]\ntarget = 'toaster'", "target: unknown target 'toaster'",
                     id="settings, unknown target"),
        pytest.param("[compile]\nrule = 'best'", "rule: there is no range rule best",
                     id="settings, unknown rule"),
        pytest.param("[compile]\nprune = nan", "prune: ratio nan is", id="settings, NaN as ratio"),
        pytest.param("[compile]\nthreads = 300", "threads: 300 threads",
                     id="settings, too many threads"),
        pytest.param("[compile]\nsecurity_version = 0", "security_version: security version 0",
                     id="settings, security version 0"),
        pytest.param("[tune]", "it has no table [compile]", id="settings of another verb"),
        pytest.param("clips = 3", "'clips' is no table", id="settings outside a table"),
        pytest.param("compile = 3", "it has no table [compile]", id="settings, number for a table"),
        pytest.param("[compile]\n[gates]\nspeed = 1", "'speed' is no gate",
                     id="settings, unknown gate"),
        pytest.param("[compile]\n[gates]\nspeedup = -1", "the limit of speedup",
                     id="settings, negative limit"),
        pytest.param("[compile]\ngates = 'gates.toml'\n[gates]\nspeedup = 1", "Keep one of them",
                     id="settings with limits twice"),
        pytest.param("[compile\n", "cannot be read", id="settings that are no TOML"),
        pytest.param("[compile]\nclips = 3\nclips = 4", "cannot be read",
                     id="settings, a name twice"),
        pytest.param("a = " + "[" * 50000, "cannot be read", id="settings, too deep"),
    ],
)  # fmt: skip
def test_settings_are_refused(world: Path, refuses: Refuses, text: str, says: str) -> None:
    (world / "my.toml").write_text(text)

    refuses("compile network.safetensors --config my.toml", 2, "my.toml: ", says)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param("compile --config nowhere.toml", "nowhere.toml: the settings cannot be read",
                     id="missing settings"),
        pytest.param("compile --config data", "data: the settings cannot be read (Is a directory)",
                     id="settings that are a folder"),
        pytest.param("compile --config network.safetensors", "network.safetensors: the settings",
                     id="settings that are weights"),
        pytest.param("init data/FileList.csv/a", "cannot be written", id="init below a file"),
        pytest.param("init heart.pkb", "lies in a bundle", id="init into a bundle"),
        pytest.param("init mine.toml", "mine.toml: exists already. Choose another name, or add --o",
                     id="init over a file"),
    ],
)  # fmt: skip
def test_a_settings_file_is_refused(world: Path, refuses: Refuses, line: str, says: str) -> None:
    (world / "mine.toml").write_text("mine")

    refuses(line, 2, says)


def test_the_file_in_the_current_folder_is_refused_alike(world: Path, refuses: Refuses) -> None:
    (world / CONFIG).write_text("[compile]\nclips = 0\n")

    refuses("compile", 2, f"{CONFIG}: clips is 0", case="settings found in the current folder")


def test_a_link_that_leads_nowhere_is_not_passed_over(world: Path, refuses: Refuses) -> None:
    (world / CONFIG).symlink_to("nowhere")

    refuses("compile", 2, "cannot be read", case="settings, a link that leads nowhere")


# What a run keeps


def test_a_record_says_all_that_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = CompileSettings(
        Path("a.pt"),
        data=Path("../d"),
        clips=5,
        prune=0.25,
        rule="minmax/mse",
        restore=False,
        keep_float=["encoder.stem", 'quoted "'],
        out=Path("out/x.pkb"),
        limits={**DEFAULT_LIMITS, "flicker": 0.1},
    )
    record = Path("out/x.pkb.toml")
    write_record(record, "compile", said)

    found = CompileSettings(**read_settings(record, "compile", CompileSettings))

    paths = ("checkpoint", "data", "out")
    for name in paths:
        ours, theirs = getattr(said, name), getattr(found, name)
        assert not theirs.is_absolute()
        assert theirs.resolve() == ours.resolve()
    assert replace(found, **{name: getattr(said, name) for name in paths}) == said
    assert {f.name for f in fields(CompileSettings)} >= {"limits", *paths}


def test_through_a_link_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to("deep/er")
    write_record(Path("link/x.toml"), "compile", CompileSettings(data=Path("d")))

    found = read_settings(Path("link/x.toml"), "compile", CompileSettings)

    assert found["data"] == tmp_path / "d"


def test_a_path_through_a_link_leads_to_the_same_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`link/..` is not the folder that holds the link."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "d").mkdir()
    (tmp_path / "link").symlink_to("deep/er")
    said = CompileSettings(data=Path("link/../d"), checkpoint=Path("link/a.pt"))
    write_record(Path("x.toml"), "compile", said)

    found = read_settings(Path("x.toml"), "compile", CompileSettings)

    assert found["data"].resolve() == tmp_path / "deep" / "d"
    assert found["data"].is_absolute()
    assert found["checkpoint"] == Path("link/a.pt")


def test_a_profile_that_is_a_file_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = CompileSettings(target="jetson", profile="mine.toml")
    write_record(Path("out/x.toml"), "compile", said)

    found = read_settings(Path("out/x.toml"), "compile", CompileSettings)

    assert Path(found["profile"]).resolve() == tmp_path / "mine.toml"


@pytest.mark.parametrize(
    "name", ["a\nb", "a\x1b[2Jb", "a\x7fb", "a\u00a0b", "a\u2028b", "a\udcffb"]
)
def test_whatever_an_output_is_called_its_record_can_be_read(tmp_path: Path, name: str) -> None:
    record = record_path(tmp_path / f"{name}.pkb")
    write_record(record, "compile", CompileSettings(out=tmp_path / f"{name}.pkb", clips=5))

    found = read_settings(record, "compile", CompileSettings)

    assert found["clips"] == 5
    assert "out" not in found if name == "a\udcffb" else found["out"] == tmp_path / f"{name}.pkb"
    assert not {"\x1b", "\x7f"} & set(record.read_text())


def test_a_name_that_is_no_unicode_costs_no_record(tmp_path: Path) -> None:
    record = record_path(tmp_path / "x.pkb")
    write_record(record, "compile", CompileSettings(data=Path("d\udcff"), clips=5))

    assert read_settings(record, "compile", CompileSettings)["clips"] == 5
    assert "type it instead" in record.read_text()


def test_a_record_makes_the_same_bundle_again(
    world: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    # one thread: with two, this network's engine does not always answer alike, see configuration.md
    odd = "--seed 3 --rule minmax/minmax+bias --no-restore --mode clip --threads 1"
    line = f"compile network.safetensors --data data --size 96 --clips 2 --gates gates.toml {odd}"
    first = typed(f"{line} --security-version 4 --out one/odd.pkb")
    assert first.code == 0, first.err
    assert "--config one/odd.pkb.toml" in first.out
    (world / "gates.toml").unlink()  # the record holds the limits themselves
    # nothing is reused, but for the baseline
    shutil.copytree(world / "cache" / "checkpoints", world / "fresh" / "checkpoints")
    monkeypatch.setenv("PKECHO_EDGE_CACHE", str(world / "fresh"))

    again = typed("compile --config one/odd.pkb.toml --out two.pkb")

    assert again.code == 0, again.err
    assert "(reused)" not in again.out
    one, two = (json.loads((world / at / "manifest.json").read_text()) for at in MANIFESTS)
    assert two["bundle_id"] == one["bundle_id"]
    assert two["lineage"]["engine_sha256"] == one["lineage"]["engine_sha256"]
    assert one.pop("reports") != two.pop("reports")
    assert one == two
    assert one["bundle_id"] in (world / "one/odd.pkb.toml").read_text()
    heart = json.loads((world / "heart.pkb/manifest.json").read_text())
    assert heart["bundle_id"] != one["bundle_id"]  # the odd options count


MANIFESTS = ("one/odd.pkb", "two.pkb")


def test_a_record_prunes_the_same_again(world: Path, typed: Type) -> None:
    line = f"{ONLY_CUT} --ratio 0.4 --scope per-layer"
    assert typed(f"{line} --out one.safetensors").code == 0

    again = typed("prune --config one.safetensors.toml --out two.safetensors")

    assert again.code == 0, again.err
    same = (world / "two.safetensors").read_bytes() == (world / "one.safetensors").read_bytes()
    assert same


@pytest.mark.parametrize(
    "line",
    [
        "compile network.safetensors --data data --size 96 --out new.pkb",
        f"{ONLY_CUT} --ratio 0.4 --out new.pkb",
    ],
)
def test_a_record_does_not_take_a_foreign_files_place(
    world: Path, refuses: Refuses, line: str
) -> None:
    (world / "new.pkb.toml").write_bytes(b"\0picture")

    refuses(line, 2, "new.pkb.toml: exists and holds", case="record over a foreign file")


SETTINGS = "# mine\n[compile]\nclips = 2\n[prune]\nratio = 0.4\n[tune]\nsize = '96'\n"


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("tune.toml", "tune --config tune.toml --phantoms --out ."),
        ("new.toml", "compile network.safetensors --config new.toml --data data --out new"),
        ("new.toml", "prune network.safetensors --config new.toml --out new"),
        (
            "new.toml",
            "compile network.safetensors --config new.toml --data data --out new --dry-run",
        ),
    ],
)
def test_a_record_does_not_take_the_place_of_settings_that_somebody_wrote(
    world: Path, refuses: Refuses, place: str, line: str
) -> None:
    (world / place).write_text(SETTINGS)

    refuses(line, 2, f"{place}: exists and is no record of", case="record over somebody's settings")


def test_a_record_with_other_tables_is_kept(world: Path, refuses: Refuses) -> None:
    record = world / "heart.pkb.toml"
    write_record(record, "compile", CompileSettings(Path("network.safetensors"), data=Path("data")))
    record.write_text(record.read_text() + "[prune]\nratio = 0.4\n")
    line = "compile --config heart.pkb.toml --out heart.pkb --overwrite"

    refuses(line, 2, "heart.pkb.toml: exists and is no record", case="record with other tables")


def test_a_link_to_a_record_that_is_gone_is_kept(world: Path, refuses: Refuses) -> None:
    (world / "new.pkb.toml").symlink_to("nowhere")
    line = "compile network.safetensors --data data --size 96 --out new.pkb"

    refuses(line, 2, "new.pkb.toml: exists and is no record", case="record over a link")


def test_a_run_may_write_the_record_again_that_it_reads(world: Path, typed: Type) -> None:
    line = f"{ONLY_CUT} --ratio 0.4 --scope per-layer"
    assert typed(f"{line} --out one.safetensors").code == 0
    first = (world / "one.safetensors.toml").read_text()

    again = typed("prune --config one.safetensors.toml --out one.safetensors --overwrite")

    assert again.code == 0, again.err
    assert (world / "one.safetensors.toml").read_text() == first


def test_no_record_of_another_bundle_stays_beside_a_new_one(world: Path) -> None:
    """Not even where it is made from Python, which keeps no record."""
    import pkecho_edge as pk

    record, mine = world / "heart.pkb.toml", world / "other.pkb.toml"
    write_record(record, "compile", CompileSettings())
    mine.write_text("[compile]\n")
    for out in ("heart.pkb", "other.pkb"):
        pk.compile(
            *("network.safetensors", out),
            data="data",
            size=96,
            clips=2,
            modes=("clip",),
            rule="minmax/minmax",
            overwrite=True,
            progress=False,
        )

    assert not record.exists()
    assert mine.read_text() == "[compile]\n"


def test_a_record_says_what_the_target_stood_for(world: Path, typed: Type) -> None:
    line = "compile network.safetensors --data data --size 96 --clips 2 --gates gates.toml"
    assert typed(f"{line} --mode clip --out new.pkb").code == 0

    found = read_settings(world / "new.pkb.toml", "compile", CompileSettings)

    manifest = json.loads((world / "new.pkb" / "manifest.json").read_text())
    assert found["scheme"] == targets.get("cpu").capabilities.scheme
    assert json.dumps(found["scheme"]) in json.dumps(manifest)
    assert found["float_precision"] == "f32"
    assert "prune_steps" not in found  # nothing was pruned
    assert "profile" not in found


def test_the_record_of_an_earlier_checkpoint_goes_before_that_is_replaced(
    world: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pkecho_edge import files

    line = f"{ONLY_CUT} --out one.safetensors"
    assert typed(f"{line} --ratio 0.4").code == 0
    first, real = (world / "one.safetensors").read_bytes(), files.write_atomically

    def full(path: Path, data: bytes) -> None:
        if path.suffix == ".toml":
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(files, "write_atomically", full)
    outcome = typed(f"{line} --ratio 0.3 --overwrite")

    assert outcome.code == 2
    assert "one.safetensors.toml: cannot be written (No space" in outcome.err
    assert (world / "one.safetensors").read_bytes() != first
    assert not (world / "one.safetensors.toml").exists()


@pytest.mark.parametrize("verified", [True, False])
def test_the_record_of_an_earlier_search_goes_before_its_bundle_is_replaced(
    tmp_path: Path, verified: bool
) -> None:
    from pkecho_edge import searching

    scratch = tmp_path / ".scratch"
    (scratch / "heart.pkb").mkdir(parents=True)
    write_record(tmp_path / "tune.toml", "tune", TuneSettings())

    searching._replace(tmp_path / "heart.pkb", scratch, verified)

    assert not (tmp_path / "tune.toml").exists()
    assert (tmp_path / "heart.pkb").exists() is verified
