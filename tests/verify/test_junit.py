"""JUnit XML: what CI systems read of it."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from pkecho_edge.bundle.golden import GoldenResult
from pkecho_edge.bundle.parts import GoldenTolerances
from pkecho_edge.self_testing import self_test_document, self_test_xml
from pkecho_edge.verify.accuracy import AccuracyResult
from pkecho_edge.verify.junit import cases_xml, junit_xml
from pkecho_edge.verify.report import ModeResult, build_report
from pkecho_edge.verify.speed import SpeedResult


def test_every_gate_is_a_test_case(
    degraded: AccuracyResult, time_sides: Callable[[float, float], SpeedResult]
) -> None:
    mode = ModeResult(degraded, None)
    fast = ModeResult(degraded, time_sides(20, 10))
    lineage = {"bundle_id": "pkb-1", "data": "five clips"}
    document = build_report({"clip": fast, "stream": mode}, {}, lineage).to_dict()

    suite = ElementTree.fromstring(junit_xml(document))

    cases = {(c.get("classname"), c.get("name")): c for c in suite.iter("testcase")}
    assert len(cases) == len(document["gates"]) == int(suite.get("tests", ""))
    for gate in document["gates"]:
        case = cases[f"pkecho-edge.{gate['mode']}", gate["name"]]
        children = {child.tag for child in case}
        expected = {True: set(), False: {"failure"}, None: {"skipped"}}[gate["pass"]]
        assert children - {"system-out"} == expected
    failed = sum(gate["pass"] is False for gate in document["gates"])
    skipped = sum(gate["pass"] is None for gate in document["gates"])
    assert (suite.get("failures"), suite.get("skipped")) == (str(failed), str(skipped))
    assert failed >= 1
    assert skipped >= 1
    found = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert found == {"verdict": "fail", "bundle_id": "pkb-1", "data": "five clips"}
    failure = cases["pkecho-edge.clip", "dsc_drift"].find("failure")
    assert failure is not None
    assert "limit <= 0.5" in failure.get("message", "")


@pytest.mark.parametrize("evil", ['<a b="c">&amp;', "nul \x00 and escape \x1b", "half \ud800"])
def test_text_of_any_kind_stays_text(evil: str) -> None:
    text = cases_xml("s", [("clip", evil, False, evil)], {"data": evil}, created=None)

    case = ElementTree.fromstring(text.encode()).find("testcase")
    assert case is not None
    cleaned = evil.replace("\x00", "?").replace("\x1b", "?").replace("\ud800", "?")
    assert case.get("name") == cleaned


def test_a_self_test_is_one_case_per_mode() -> None:
    results = {
        "clip": GoldenResult(0.25, 0.001, 0.002, passed=True),
        "stream": GoldenResult(float("inf"), 0.5, 0.9, passed=False),
    }

    document = self_test_document("pkb-1", results, GoldenTolerances(0.002, 0.01))
    suite = ElementTree.fromstring(self_test_xml(document))

    assert document["verdict"] == "fail"
    assert document["modes"]["clip"]["max_abs_logit_difference"] == 0.25
    assert document["modes"]["stream"]["max_abs_logit_difference"] is None
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [c.find("failure") is not None for c in suite.iter("testcase")] == [False, True]
