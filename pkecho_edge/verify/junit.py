"""A report as JUnit XML, which every CI system shows: a gate is a test case.

There is no standard; this is the subset that Jenkins, GitLab and GitHub's readers share.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from pkecho_edge.verify.words import Document, gate_limit, gate_value

__all__ = ["cases_xml", "junit_xml"]

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(document: Document) -> str:
    """Every gate of a report: false is a failure, null is skipped.

    Args:
        document: of a report.json.
    """
    cases = []
    for gate in document["gates"]:
        said = f"{gate_value(gate) or 'not measured'}, limit {gate_limit(gate)}"
        said = f"{said}: {gate['reason']}" if gate["reason"] else said
        cases.append((gate["mode"], gate["name"], gate["pass"], said))
    facts = {
        "verdict": document["verdict"],
        "bundle_id": document["lineage"].get("bundle_id"),
        "manifest_sha256": document["lineage"].get("manifest_sha256"),
        "data": document["lineage"].get("data"),
        "against": document["lineage"].get("against", {}).get("bundle_id"),
    }
    return cases_xml("pkecho-edge verify", cases, facts, created=document["created"])


def cases_xml(
    suite: str,
    cases: Sequence[tuple[str, str, bool | None, str]],
    facts: Document,
    *,
    created: str | None = None,
) -> str:
    """One suite.

    Args:
        suite: its name.
        cases: class, name, whether it passed (None: skipped), and what is said of it.
        facts: properties; None is left out. Text may come from a file: what XML cannot hold
            becomes a question mark.
        created: ISO 8601.
    """
    root = ElementTree.Element("testsuite", name=suite, tests=str(len(cases)), errors="0")
    root.set("failures", str(sum(passed is False for _, _, passed, _ in cases)))
    root.set("skipped", str(sum(passed is None for _, _, passed, _ in cases)))
    if created:
        root.set("timestamp", created)
    properties = ElementTree.SubElement(root, "properties")
    for name, value in facts.items():
        if value is not None:
            ElementTree.SubElement(properties, "property", name=name, value=_clean(str(value)))
    for kind, name, passed, said in cases:
        case = ElementTree.SubElement(
            root, "testcase", classname=f"pkecho-edge.{_clean(kind)}", name=_clean(name), time="0"
        )
        if passed is not True:
            tag = "skipped" if passed is None else "failure"
            ElementTree.SubElement(case, tag, message=_clean(said))
        ElementTree.SubElement(case, "system-out").text = _clean(said)
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("?", text)
