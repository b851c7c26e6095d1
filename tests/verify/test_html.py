"""report.html: the figures of report.json, nothing that runs, nothing that is fetched."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pkecho_edge.cli.verify import print_reports
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import MissingDependency, UsageError
from pkecho_edge.measuring import VerifyResult, write_reports
from pkecho_edge.verify.accuracy import measure_accuracy
from pkecho_edge.verify.gallery import Gallery
from pkecho_edge.verify.html import render_html, write_html
from pkecho_edge.verify.live import LiveResult, follow_sequence, summarize_live
from pkecho_edge.verify.machine import machine_facts
from pkecho_edge.verify.report import ModeResult, Report, build_report
from pkecho_edge.verify.speed import SpeedResult
from pkecho_edge.verify.words import fine

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
MakeClip = Callable[..., Clip]
TimeSides = Callable[[float, float], SpeedResult]

EVIL = '<script>alert("x")</script>&<img src=x onerror=y>'
LINEAGE = {"bundle_id": "pkb-1", "target": "cpu", "checkpoint_sha256": "ab" * 32, "seed": 0}

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


@dataclass
class Measured:
    """A report and the pictures that go with it."""

    report: Report
    gallery: Gallery

    @cached_property
    def page(self) -> str:
        """Drawn once: it takes seconds, and many tests read it."""
        return self.draw()

    def draw(self) -> str:
        """Drawn anew."""
        return render_html(self.report.to_dict(), {"clip": self.gallery})


Measure = Callable[..., Measured]


@pytest.fixture(scope="module")
def measure(baseline: Network) -> Measure:
    def run(engine: Network, clips: list[Clip], speed: SpeedResult | None = None) -> Measured:
        gallery = Gallery()
        accuracy = measure_accuracy(baseline, engine, clips, gallery=gallery)
        report = build_report({"clip": ModeResult(accuracy, speed)}, machine_facts(), LINEAGE)
        return Measured(report, gallery)

    return run


@pytest.fixture(scope="module")
def failing(
    measure: Measure, eroding_engine: Network, five_clips: list[Clip], time_sides: TimeSides
) -> Measured:
    return measure(eroding_engine, five_clips, time_sides(10, 20))


class Reader(HTMLParser):
    """What a browser would see: elements with attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.pieces: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in {"meta", "br", "image", "path", "rect", "use"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag  # everything is closed in its turn

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())


def test_it_shows_the_verdict_and_the_figures_of_the_report(failing: Measured) -> None:
    document = failing.report.to_dict()
    clip = document["modes"]["clip"]

    text = Reader(failing.page).text

    assert "Fail 2 of 6 gates passed, 4 failed, 0 not measured" in text
    drift, speed = clip["accuracy"]["drift"], clip["speed"]
    assert f"DSC drift, mean {drift['dsc']['mean']:+.2f} points" in text
    assert f"95 % interval {drift['dsc']['low']:+.2f}..{drift['dsc']['high']:+.2f}" in text
    assert f"worst clip {drift['dsc']['worst']:+.2f} {drift['hd95']['worst']:+.2f}" in text
    assert f"baseline {speed['baseline']['fps']:.1f} 10.00 10.00 10.00 0.0 20" in text
    for gate in document["gates"]:
        word = "pass" if gate["pass"] else "fail"
        limit = f"{'>=' if gate['name'] == 'speedup' else '<='} {gate['limit']:g}"
        value = f"{gate['value']:.3g} {gate['unit']}"
        assert f"{gate['name']} {gate['mode']} {limit} {value} {word}" in text
    for rule in (*document["conventions"].values(), *document["warnings"]):
        assert rule in text
    assert "ab" * 32 in text
    for row in clip["accuracy"]["clips"]:
        assert row["identifier"] in text


def test_every_picture_and_chart_has_words_for_those_who_do_not_see_it(failing: Measured) -> None:
    elements = Reader(failing.page).elements
    images = [attributes for tag, attributes in elements if attributes.get("role") == "img"]
    title = re.search("<title>(.*)</title>", failing.page)

    assert len(images) == 10 + 2 * 5  # charts, and two pictures of each clip
    assert all(attributes["aria-label"] for attributes in images)
    assert title is not None
    assert title[1].startswith("Fail: ")
    assert sum(tag == "h1" for tag, _ in elements) == 1
    assert ("html", {"lang": "en"}) in elements


def test_nothing_runs_and_nothing_is_fetched(failing: Measured) -> None:
    elements = Reader(failing.page).elements
    named = {attributes["id"] for _, attributes in elements if attributes.get("id")}

    assert {"script", "link", "iframe", "object", "embed", "img", "a"}.isdisjoint(
        tag for tag, _ in elements
    )
    assert "http://" not in failing.page
    assert "https://" not in failing.page
    assert "@import" not in failing.page
    for _, attributes in elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            address = attributes.get(name) or "#"
            assert address[0] == "#" or address.startswith("data:image/png;base64,")
            assert address[0] != "#" or address == "#" or address[1:] in named
    for address in re.findall(r"url\(([^)]*)\)", failing.page):
        assert address[1:] in named


def test_names_are_unique(failing: Measured) -> None:
    names = [a["id"] for _, a in Reader(failing.page).elements if a.get("id")]

    assert len(names) == len(set(names))


def test_text_that_came_with_the_data_is_only_text(
    measure: Measure, make_clip: MakeClip, eroding_engine: Network
) -> None:
    clips = [
        replace(make_clip(f"p{index}{EVIL}", source=EVIL), quality=f"$\\frac{{{EVIL}")
        for index in range(2)
    ]
    measured = measure(eroding_engine, clips)
    report = replace(
        measured.report,
        machine={"cpu": {"model": EVIL}, EVIL: EVIL},
        lineage={EVIL: EVIL, "data": EVIL, "target": EVIL, "bundle_id": EVIL},
        warnings=(EVIL,),
        created=EVIL,
    )
    page = render_html(report.to_dict(), {"clip": measured.gallery})

    reader = Reader(page)

    assert not {"script", "img"} & {tag for tag, _ in reader.elements}
    assert "<script" not in page
    assert EVIL in reader.text
    assert f"p0{EVIL}-clip@0-3" in reader.text


def test_names_that_are_not_utf_8_are_written_all_the_same(
    measure: Measure, make_clip: MakeClip, eroding_engine: Network, tmp_path: Path
) -> None:
    measured = measure(eroding_engine, [make_clip("p\udcff")])  # as os.listdir gives them

    write_html(measured.report, {"clip": measured.gallery}, tmp_path / "report.html")

    assert r"p\udcff-clip" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_was_not_measured_is_said(
    measure: Measure, make_clip: MakeClip, baseline: Network
) -> None:
    measured = measure(baseline, [make_clip(truth=False)])

    text = Reader(measured.page).text

    assert "Incomplete" in text
    assert "dsc_drift clip <= 0.5 - not measured no clip with ground truth" in text
    assert "speedup clip >= 1 - not measured not timed" in text
    assert "Recorded clips: speed Not measured." in text
    assert "drift - - - 0.00" in text  # EF needs no truth
    assert "no ground truth, agreement 100.00 %" in text
    assert "None" not in text
    assert not re.search(r"\bnan (%|points|ms)", text)


@pytest.mark.parametrize("with_modes", [True, False])
def test_a_report_of_nothing_is_a_page_too(with_modes: bool) -> None:
    modes = {"clip": ModeResult(None, None)} if with_modes else {}

    text = Reader(render_html(build_report(modes, {}, {}).to_dict(), {})).text

    assert "Incomplete" in text


def test_no_clips_at_all(measure: Measure, baseline: Network) -> None:
    assert "Incomplete" in measure(baseline, []).page


def test_both_modes_stand_on_one_page(failing: Measured) -> None:
    mode = failing.report.modes["clip"]
    report = build_report({"clip": mode, "stream": mode}, {}, LINEAGE)

    page = render_html(report.to_dict(), {"clip": failing.gallery, "stream": failing.gallery})

    names = [a["id"] for _, a in Reader(page).elements if a.get("id")]
    assert len(names) == len(set(names))
    assert "Live stream: accuracy" in page


@pytest.fixture(scope="module")
def live(failing: Measured, make_clip: MakeClip) -> Measured:
    """A stream followed over time, on short sequences and on long ones."""
    scored = failing.report.modes["clip"].accuracy
    assert scored is not None
    names = [row.identifier for row in scored.rows[:3]] + [f"s3{EVIL}"]

    def masks(sides: Iterator[int]) -> list[NDArray[np.bool_]]:
        return [np.arange(1000).reshape(10, 100) < side for side in sides]

    def result(n_frames: int) -> LiveResult:
        rows = []
        for patient in range(4):
            beat = [400 + int(100 * np.cos(index / 3)) for index in range(n_frames)]
            grown = [area + index // 20 + patient for index, area in enumerate(beat)]
            pairs = zip(masks(iter(beat)), masks(iter(grown)), strict=True)
            rows.append(follow_sequence(names[patient], f"p{patient}", "camus", pairs, 10))
        return summarize_live(rows, 10)

    mode = replace(failing.report.modes["clip"], live=result(40), live_long=result(200))
    report = build_report({"stream": mode}, machine_facts(), LINEAGE)
    return Measured(report, failing.gallery)


def test_live_behaviour_is_on_the_page(live: Measured) -> None:
    document = live.report.to_dict()["modes"]["stream"]["live"]

    reader = Reader(live.page)

    assert "Live stream: over time Both sides were fed the same 4 sequences" in reader.text
    assert "over time, long sequences" in reader.text
    assert f"warming up {fine(document['warming_up']['pixel_disagreement']['mean'])}" in reader.text
    slope = document["slope"]
    assert (
        f"Slope, % of pixels per 1000 frames {fine(slope['mean'])} "
        f"{fine(slope['low'])}..{fine(slope['high'])} {fine(slope['worst'])}"
    ) in reader.text
    assert "(4 beats, 0 lost by the engine; 0 sequences without a beat)" in reader.text
    labels = [a["aria-label"] or "" for _, a in reader.elements if a.get("role") == "img"]
    assert sum("Pixels that differ from the baseline by frame" in text for text in labels) == 2
    assert "4 sequences of up to 200 frames" in " ".join(labels)
    names = [a["id"] for _, a in reader.elements if a.get("id")]
    assert len(names) == len(set(names))
    assert "<script" not in live.page


def test_a_report_from_before_live_behaviour_is_a_page_too(failing: Measured) -> None:
    document = failing.report.to_dict()
    for mode in document["modes"].values():
        del mode["live"], mode["live_long"], mode["accuracy"]["drift"]["hd95_px"]

    text = Reader(render_html(document, {"clip": failing.gallery})).text

    assert "over time" not in text


def test_sequences_of_no_frame_or_one_are_a_page_too(failing: Measured) -> None:
    mask = np.zeros((4, 4), dtype=np.bool_)
    for n_frames in (0, 1):
        row = follow_sequence("s", "p", "camus", [(mask, mask)] * n_frames, 10)
        mode = replace(failing.report.modes["clip"], live=summarize_live([row], 10))

        text = Reader(render_html(build_report({"stream": mode}, {}, {}).to_dict(), {})).text

        assert f"1 sequences of 1 patients, {n_frames} frames" in text
        assert not re.search(r"\bnan (%|points|frames)", text)


def test_synthetic_data_is_said_at_the_top(
    measure: Measure, make_clip: MakeClip, baseline: Network, failing: Measured
) -> None:
    text = Reader(measure(baseline, [make_clip(source="phantom")]).page).text

    assert 0 < text.index("Synthetic data.") < text.index("Gates")
    assert "Synthetic" not in failing.page


def test_a_dead_engine_is_shown(
    measure: Measure, five_clips: list[Clip], time_sides: TimeSides
) -> None:
    def dead(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full(frames.shape, np.nan, dtype=np.float32)

    text = Reader(measure(dead, five_clips, time_sides(0, 0)).page).text

    assert "Fail" in text
    assert "finite_logits clip <= 0 5 clips with nan or inf fail" in text
    assert "engine gives no EF on 5 clips" in text


def test_the_same_input_gives_the_same_page(failing: Measured) -> None:
    assert failing.draw() == failing.page


def test_the_users_matplotlib_settings_have_no_say(failing: Measured) -> None:
    import matplotlib

    before = failing.page
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": False}):
        assert failing.draw() == before
        assert matplotlib.rcParams["font.size"] == 30


def test_it_stays_small_with_many_clips(failing: Measured) -> None:
    document = failing.report.to_dict()
    accuracy = document["modes"]["clip"]["accuracy"]
    row = accuracy["clips"][0]
    accuracy["clips"] = [
        {**row, "dsc_drift": index / 1000, "ef_engine": row["ef_baseline"] + index / 1000}
        for index in range(5000)
    ]

    assert len(render_html(document, {"clip": failing.gallery})) < 1_500_000


def test_two_hundred_recordings_take_seconds_and_little_room(
    live: Measured, failing: Measured
) -> None:
    document = live.report.to_dict()
    document["modes"]["clip"] = failing.report.to_dict()["modes"]["clip"]
    for mode in document["modes"].values():
        rows, rng = mode["accuracy"]["clips"], np.random.default_rng(0)
        for index in range(len(rows), 200):
            ef = float(rng.uniform(20, 70))
            drift = float(rng.normal())
            rows.append(
                {
                    **rows[0],
                    "identifier": str(index),
                    **{"ef_truth": ef, "ef_baseline": ef + 1, "ef_engine": ef - 1},
                    **{"dsc_drift": drift, "hd95_drift": drift, "asd_drift": drift},
                }
            )
    curves = document["modes"]["stream"]["area_curves"]
    document["modes"]["stream"]["area_curves"] = (curves * 6)[:6]
    started = time.perf_counter()

    page = render_html(document, {"stream": live.gallery, "clip": failing.gallery})

    assert time.perf_counter() - started < 10
    assert len(page) < 8_000_000


def test_statistics_and_subgroups_are_on_the_page(failing: Measured) -> None:
    accuracy = failing.report.to_dict()["modes"]["clip"]["accuracy"]

    text = Reader(failing.page).text

    for each in accuracy["non_inferiority"]:
        cells = f"{each['loss']:.2f} {each['worst_end']:.2f} {each['margin']:g} 5"
        assert f"({each['unit']}) {cells} {'shown' if each['shown'] else 'not shown'}" in text
    for each in accuracy["ef_categories"]:
        assert f"{each['threshold']} % {each['baseline_below']} of 5" in text
    for name, group in (
        (name, group) for kind in accuracy["subgroups"].values() for name, group in kind.items()
    ):
        assert f"{name} 5 5 {group['dsc_baseline']['mean']:.2f}" in text


def test_the_first_lines_answer_how_fast_how_good_and_on_what(failing: Measured) -> None:
    clip = failing.report.to_dict()["modes"]["clip"]
    text = Reader(failing.page).text

    answer = text[text.index("Recorded clips: ") : text.index("Machine: ")]

    assert answer.startswith("Recorded clips: 0.5 times as fast as the baseline (500 frames/s), ")
    assert f"DSC lower by {clip['accuracy']['drift']['dsc']['mean']:.2f} points" in answer
    assert "on 5 clips of 5 patients (camus, 64x64)." in answer


def test_without_truth_the_first_lines_say_that_it_is_agreement_alone(
    measure: Measure, make_clip: MakeClip, eroding_engine: Network
) -> None:
    text = Reader(measure(eroding_engine, [make_clip(truth=False)]).page).text

    assert "no ground truth: agreement with the baseline alone, DSC" in text


def test_areas_over_time_are_drawn_with_the_beats(live: Measured) -> None:
    document = live.report.to_dict()
    curves = document["modes"]["stream"]["area_curves"]

    page = render_html(document, {})

    assert curves
    for curve in curves:
        n_frames = len(curve["areas_baseline"])
        assert f"Area of the ventricle over {n_frames} frames, baseline" in page
        for beat in curve["beats"]:
            ed, es = beat["baseline"]
            assert curve["areas_baseline"][ed] > curve["areas_baseline"][es]


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_without_its_packages_it_says_what_to_install(
    failing: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(MissingDependency, match=r"pip install 'pkecho-edge\[report\]'"):
        write_html(failing.report, {"clip": failing.gallery}, tmp_path / "report.html")

    assert list(tmp_path.iterdir()) == []


def test_without_them_there_is_report_json_and_no_page_of_an_earlier_run(
    failing: Measured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = VerifyResult(failing.report, {"clip": failing.gallery})
    write_reports(result, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"report.json", "report.html"}
    print_reports(tmp_path)
    assert str(tmp_path / "report.html") in capsys.readouterr().out

    monkeypatch.setitem(sys.modules, "jinja2", None)
    write_reports(result, tmp_path)
    print_reports(tmp_path)

    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]
    assert "report.html needs: pip install 'pkecho-edge[report]'\n" in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_refused(failing: Measured, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write the report"):
        write_html(failing.report, {}, tmp_path / "none" / "report.html")


CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [500, 1200])  # 500: headless Chromium's narrowest window
@pytest.mark.parametrize("shown", ["failing", "live"])
def test_a_browser_shows_it_without_overflow(
    shown: str, request: pytest.FixtureRequest, tmp_path: Path, width: int
) -> None:
    failing: Measured = request.getfixturevalue(shown)
    page = tmp_path / "page.html"
    # The page itself lets no script run; its copy may, to say how wide it came out.
    policy = re.compile('<meta http-equiv="Content-Security-Policy"[^>]*>')
    assert policy.search(failing.page)
    wide = (
        "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth"
        " + ' by ' + document.documentElement.scrollHeight</script></body>"
    )
    page.write_text(policy.sub("", failing.page).replace("</body>", wide), encoding="utf-8")

    dom = browse(tmp_path, page, width, "--dump-dom")
    browse(tmp_path, page, width, f"--screenshot={tmp_path / 'page.png'}")

    found = re.search(r"<title>(\d+) of (\d+) by (\d+)</title>", dom)
    assert found is not None
    assert int(found[1]) <= int(found[2]) == width
    assert int(found[3]) > 1000
    assert_not_blank(tmp_path / "page.png", width)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_in_a_browser_nothing_complains_and_nothing_leaves_the_page(
    live: Measured, tmp_path: Path
) -> None:
    page, spoilt = tmp_path / "page.html", tmp_path / "spoilt.html"
    page.write_text(live.page, encoding="utf-8")
    spoilt.write_text("<img src=http://127.0.0.1:9/x><script>nonsense()</script>")

    complaints, requests = visit(tmp_path, page)
    expected = visit(tmp_path, spoilt)  # what would be seen of a page that did either

    assert (complaints, requests) == ([], [])
    assert "nonsense is not defined" in expected[0][0]
    assert expected[1] == ["http://127.0.0.1:9/x"]


def visit(folder: Path, page: Path) -> tuple[list[str], list[str]]:
    """What a page says on the console, and the addresses that it asks for."""
    log = folder / "network.json"
    options = [f"--log-net-log={log}", "--enable-logging=stderr", "--dump-dom"]
    done = chromium(folder, page, 1100, *options)
    said = done.stderr.decode("utf-8", "replace").splitlines()
    asked = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # requests of the browser itself are of no origin
    pages = [params for params in asked if params.get("initiator", "not an origin")[:3] != "not"]
    return [line for line in said if ":CONSOLE" in line], [params["url"] for params in pages]


def browse(folder: Path, page: Path, width: int, *options: str) -> str:
    """What headless Chromium prints."""
    return chromium(folder, page, width, *options).stdout.decode("utf-8", "replace")


def chromium(
    folder: Path, page: Path, width: int, *options: str
) -> subprocess.CompletedProcess[bytes]:
    """Show a page in a window of this width."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},2000", *options]
    return subprocess.run([*command, page.as_uri()], capture_output=True, timeout=120, check=True)


def assert_not_blank(path: Path, width: int) -> None:
    """The banner is red for a failure, and ink covers a fair part of the page."""
    from PIL import Image

    with Image.open(path) as image:
        pixels: NDArray[Any] = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (2000, width, 3)
    red = (np.abs(pixels - (0xB3, 0x26, 0x1E)).max(axis=2) < 8).mean()
    assert red > 0.005
    assert (np.ptp(pixels.reshape(-1, 3), axis=0) > 150).all()
