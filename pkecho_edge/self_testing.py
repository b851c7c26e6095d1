"""The golden self-test of a bundle, told as every verification is: table, JSON, JUnit XML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pkecho_edge.bundle.golden import GoldenResult
from pkecho_edge.bundle.parts import GoldenTolerances
from pkecho_edge.verify.junit import cases_xml

__all__ = ["SELF_TEST_SCHEMA", "self_test_document", "self_test_table", "self_test_xml"]

SELF_TEST_SCHEMA = "pkecho-edge/self-test/1"


def self_test_document(
    bundle_id: str, results: Mapping[str, GoldenResult], tolerances: GoldenTolerances
) -> dict[str, Any]:
    """What the golden vectors gave, as strict JSON values; an infinite difference is null.

    Args:
        bundle_id: of the bundle.
        results: mode -> its result, at least one.
        tolerances: of the manifest.
    """
    return {
        "schema": SELF_TEST_SCHEMA,
        "bundle_id": bundle_id,
        "verdict": "pass" if all(result.passed for result in results.values()) else "fail",
        "tolerances": {
            "pixels_fraction": tolerances.pixels_fraction,
            "area_fraction": tolerances.area_fraction,
        },
        "modes": {mode: _result(result) for mode, result in results.items()},
    }


def _result(result: GoldenResult) -> dict[str, Any]:
    difference = result.max_abs_logit_difference
    return {
        "pass": result.passed,
        "pixels_differ_fraction": result.pixels_differ_fraction,
        "area_difference_fraction": result.area_difference_fraction,
        "max_abs_logit_difference": difference if math.isfinite(difference) else None,
    }


def self_test_table(document: Mapping[str, Any]) -> RenderableType:
    """One row per mode and the verdict, readable without colour."""
    limits = document["tolerances"]
    table = Table(
        title=Text("golden self-test"), title_justify="left", box=box.SIMPLE, padding=(0, 1)
    )
    table.add_column("mode", no_wrap=True)
    for header in ("pixels (%)", "area (%)", "logits", "result"):
        table.add_column(header, justify="right", no_wrap=True)
    for mode, found in document["modes"].items():
        logits = found["max_abs_logit_difference"]
        table.add_row(
            mode,
            f"{100 * found['pixels_differ_fraction']:.3g}",
            f"{100 * found['area_difference_fraction']:.3g}",
            "not finite" if logits is None else f"{logits:.3g}",
            Text("pass", style="green") if found["pass"] else Text("FAIL", style="bold red"),
        )
    rule = (
        f"worst frame; at most {100 * limits['pixels_fraction']:g} % of pixels and "
        f"{100 * limits['area_fraction']:g} % of the area may differ"
    )
    passed = document["verdict"] == "pass"
    verdict = Text(
        f"verdict: {document['verdict'].upper()} (golden vectors alone: no accuracy, no speed)",
        style="bold green" if passed else "bold red",
    )
    return Group(table, Text(rule, style="dim"), verdict)


def self_test_xml(document: Mapping[str, Any]) -> str:
    """One test case per mode."""
    cases = [
        (
            mode,
            "golden_self_test",
            bool(found["pass"]),
            f"{100 * found['pixels_differ_fraction']:.3g} % of pixels and "
            f"{100 * found['area_difference_fraction']:.3g} % of the area differ",
        )
        for mode, found in document["modes"].items()
    ]
    facts = {"bundle_id": document["bundle_id"], "verdict": document["verdict"]}
    return cases_xml("pkecho-edge self-test", cases, facts, created=None)
