"""The C library reads the manifests that the Python reader reads, refuses the others, and derives
the same id from each.
"""

from __future__ import annotations

import itertools
import json
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pkecho_edge.bundle.layout import MANIFEST
from pkecho_edge.bundle.manifest import Manifest
from pkecho_edge.bundle.reader import check_bundle
from pkecho_edge.bundle.strict_json import MAX_BYTES, canonical_json
from pkecho_edge.errors import EnvironmentMismatch, IntegrityError, PkechoEdgeError
from tests.firmware.mutations import mutated
from tests.firmware.small_bundle import copy_bundle, seal
from tests.firmware.trust_program import UNSIGNED, Library

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"


@pytest.fixture
def content(original: Path) -> bytes:
    """Its manifest."""
    return (original / MANIFEST).read_bytes()


@pytest.fixture
def document(content: bytes) -> dict[str, Any]:
    """The same, parsed: to be tampered with."""
    parsed: dict[str, Any] = json.loads(content)
    return parsed


def python_says(content: bytes) -> str:
    """The bundle's id, or the status of the reason why the Python reader refuses it."""
    try:
        return Manifest.from_json(content).bundle_id
    except EnvironmentMismatch:
        return "SCHEMA_VERSION"
    except IntegrityError:
        return "MANIFEST"


def python_accepts(bundle: Path) -> bool:
    try:
        check_bundle(bundle)
    except PkechoEdgeError:
        return False
    return True


def assert_agree(library: Library, contents: list[bytes]) -> list[str]:
    """Both say the same about each manifest; returns what."""
    expected = [python_says(content) for content in contents]
    verdicts = library.parse(contents)
    found = [v.message if v.status == "OK" else v.status for v in verdicts]
    for content, python, c in zip(contents, expected, found, strict=True):
        assert c == python, content[:4000]
    return found


def test_both_readers_agree_on_mutated_manifests(
    library: Library, content: bytes, document: dict[str, Any]
) -> None:
    found = assert_agree(
        library, [mutated(document, content, random.Random(seed)) for seed in range(2000)]
    )
    n_accepted = sum(said.startswith("pkb-") for said in found)
    assert n_accepted > 200  # or nothing but the hash was tested
    assert found.count("MANIFEST") > 1000


def test_both_readers_agree_on_bundles_with_mutated_manifests(
    library: Library, original: Path, content: bytes, document: dict[str, Any], tmp_path: Path
) -> None:
    bundles = []
    for seed in range(1000):
        bundles.append(copy_bundle(original, tmp_path / f"{seed}.pkb", MANIFEST))
        changed = mutated(document, content, random.Random(1_000_000 + seed))
        (bundles[-1] / MANIFEST).write_bytes(changed)

    verdicts = library.open(bundles, *UNSIGNED)

    for bundle, verdict in zip(bundles, verdicts, strict=True):
        assert (verdict.status == "OK") == python_accepts(bundle), bundle
    statuses = [verdict.status for verdict in verdicts]
    assert statuses.count("OK") > 50
    assert {"MANIFEST", "FILE_CHANGED", "FILE_UNLISTED"} < set(statuses)


def test_both_readers_agree_on_every_flipped_byte(library: Library, content: bytes) -> None:
    contents = []
    for position in range(0, len(content), 5):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        contents.append(bytes(flipped))
    assert_agree(library, contents)


def with_configuration(document: dict[str, Any], configuration: Any) -> dict[str, Any]:
    """The document with other free JSON in it, sealed."""
    return seal(
        document | {"lineage": document["lineage"] | {"configuration": {"x": configuration}}}
    )


def _texts() -> Iterator[tuple[str, bool]]:
    """JSON values, and whether they may stand in a manifest."""
    yield from (
        (text, True) for text in ("0", "-0", "1.5e5", "1E+5", "1e-400", "[ ]", "{\t}", '""')
    )
    yield from (
        (text, True) for text in ('"\\/"', '"\\ud83d\\ude00"', '"\x7f"', '"\u2028"', "null")
    )
    yield from ((text, True) for text in ("9007199254740992", "-9007199254740992", "-0.0"))
    yield from ((text, True) for text in ("0." + "0" * 400 + "1", "1" * 300 + ".0", "5e-324"))
    yield from ((text, False) for text in ("9007199254740993", "-9007199254740993", "1" * 18))
    yield from ((text, False) for text in ("1" * 5000, "NaN", "Infinity", "-Infinity", "1e400"))
    yield from ((text, False) for text in ("-1e400", "1" * 400 + ".0", "01", "1.", ".5", "+1"))
    yield from ((text, False) for text in ('"\\ud800"', '"\\ude00"', '"\\ud83d\\ud83d"', '"\\x"'))
    yield from ((text, False) for text in ('"\\u12"', '"\\u 123"', '"\\u12\u0663x"', '"\t"', '"a'))
    yield from ((text, False) for text in ("[1,]", "[,]", '{"a":1,}', '{"a"}', "{1:2}", "'a'"))
    yield from ((text, False) for text in ('{"a":1,"a":1}', '{"a":1,"\\u0061":2}', "nul", "truex"))
    yield from (
        (text, False) for text in ("\u0661", "\xa0 1", "\ufeff1", "1 1", "[1", "{", "]", "")
    )
    for depth in (28, 29, 30, 31, 32, 33, 2000):  # the value itself stands on level 3
        yield "[" * depth + "]" * depth, depth <= 30
        yield '{"a":' * depth + "{}" + "}" * depth, depth <= 29
        yield '{"a":' * depth + "1" + "}" * depth, depth <= 29


def test_both_readers_agree_on_unusual_json(library: Library, document: dict[str, Any]) -> None:
    contents, expected = [], []
    for text, is_fine in _texts():
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = 0
        sealed = json.dumps(with_configuration(document, value))
        for blank in ("", "\r\n\t "):
            contents.append(
                sealed.replace(
                    f'"x": {json.dumps(value)}', f'"x": {blank}{text}{blank}', 1
                ).encode()
            )
            expected.append(is_fine)
    assert_agree(library, contents)
    for content, verdict, is_fine in zip(contents, library.parse(contents), expected, strict=True):
        assert (verdict.status == "OK") == is_fine, content[:3000]
        assert "does not match" not in verdict.message  # it is the text that is refused


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b" ", b"{", b"{}", b"[]", b"null", b'""', b"0", b"[" * 100_000, b"{}{}", b"{}\0"),
        *(b'{"a": "\xff"}', b'{"a": "\xed\xa0\x80"}', b'{"a": "\xc0\xaf"}', b"\xff\xfe{\0}\0"),
        *(b"\xef\xbb\xbf{}", b'{"a": ' + b"9" * 5000 + b"}", b" " * (4 << 20) + b" "),
        *(b'"' * (1 << 20), b"[" + b"1," * (1 << 20) + b"1]", b"-" * (1 << 20), b"[[],[]" * 99999),
    ],
)
def test_text_that_is_no_manifest_is_refused(library: Library, content: bytes) -> None:
    assert assert_agree(library, [content]) == ["MANIFEST"]


def test_truncated_manifests_are_refused(library: Library, content: bytes) -> None:
    found = assert_agree(library, [content[:n] for n in range(0, len(content) - 2, 29)])
    assert len(found) > 200
    assert set(found) == {"MANIFEST"}


def test_another_schema_version_is_told_from_a_damaged_manifest(
    library: Library, document: dict[str, Any]
) -> None:
    versions = ("2", "1", "3", "999999999", "1000000000", "0", "02", "", "2\n", "x", "\u0662")
    contents = [
        json.dumps(document | {"schema": f"pkecho-edge/bundle/{version}", "new": 1}).encode()
        for version in versions
    ]
    found = assert_agree(library, contents)
    assert found == ["MANIFEST", *["SCHEMA_VERSION"] * 3, *["MANIFEST"] * 7]


def test_the_size_of_a_manifest_has_a_limit(library: Library, content: bytes) -> None:
    most = content + b" " * ((4 << 20) - len(content))
    assert [said[:4] for said in assert_agree(library, [most, most + b" "])] == ["pkb-", "MANI"]


def test_a_configuration_that_grows_beyond_the_limit_is_refused(
    library: Library, document: dict[str, Any]
) -> None:
    """Written out with indentation it is larger than it was in the manifest."""
    one, two = (len(canonical_json({"x": [[[1] * n]]})) for n in (1, 2))
    most = 1 + (MAX_BYTES - one) // (two - one)
    contents = [
        json.dumps(with_configuration(document, [[[1] * n]]), separators=(",", ":")).encode()
        for n in (most, most + 1)
    ]
    assert [said[:4] for said in assert_agree(library, contents)] == ["pkb-", "MANI"]


def test_numbers_are_written_as_python_writes_them(
    library: Library, document: dict[str, Any]
) -> None:
    """The bundle's id is the hash of a text, so each digit counts."""
    chance = random.Random(7)
    numbers = [struct.unpack("<d", chance.randbytes(8))[0] for _ in range(20_000)]
    numbers += [2.0**exponent for exponent in range(-1074, 1024)]
    numbers += [10.0**exponent for exponent in range(-323, 309)]
    numbers += [chance.randrange(10**6) / 10.0**places for places in range(25) for _ in range(40)]
    numbers += [float(chance.randrange(1 << 53)) * scale for scale in (1, 2, 8) for _ in range(500)]
    numbers = [n for n in numbers if n - n == 0]
    numbers += [-n for n in numbers[:1000]]
    sealed = json.dumps(with_configuration(document, numbers)).encode()
    (said,) = assert_agree(library, [sealed])
    assert said.startswith("pkb-")


def test_numbers_are_read_to_the_last_bit(library: Library, document: dict[str, Any]) -> None:
    texts = ["0.1000000000000000055511151231257827", "1e23", "8.41e21", "9007199254740993.0"]
    texts += ["2.2250738585072011e-308", "2.4703282292062327e-324", "2.4703282292062328e-324"]
    texts += ["1.00000000000000011102230246251565404", "1.00000000000000011102230246251565405"]
    texts += ["1.7976931348623158e308", "0.500000000000000166533453693773481063544750213623046875"]
    sealed = json.dumps(with_configuration(document, [float(text) for text in texts]))
    written = json.dumps([float(text) for text in texts])
    assert written in sealed
    (said,) = assert_agree(library, [sealed.replace(written, f"[{', '.join(texts)}]").encode()])
    assert said.startswith("pkb-")


def test_integers_count_as_reals_where_reals_are_meant(
    library: Library, document: dict[str, Any]
) -> None:
    document["postprocessing"]["threshold"] = -3.0
    document["golden"] |= {"pixels_fraction": 0.0, "area_fraction": 1.0}
    document["gates"][0]["limit"] = 9007199254740992.0
    text = json.dumps(seal(document))
    for real, integer in (
        ('"threshold": -3.0', '"threshold": -3'),
        ('"pixels_fraction": 0.0', '"pixels_fraction": -0'),
        ('"area_fraction": 1.0', '"area_fraction": 1'),
        ('"limit": 9007199254740992.0', '"limit": 9007199254740992'),
    ):
        assert real in text
        text = text.replace(real, integer)
    (said,) = assert_agree(library, [text.encode()])
    assert said.startswith("pkb-")


def test_labels_hold_exactly_what_python_calls_printable(
    library: Library, document: dict[str, Any]
) -> None:
    """All that is printable, and from each range that is not, what lies next to it."""
    options = document["engines"][0]["options"]
    points = [chr(c) for c in range(0x110000)]
    printable = [c for c in points if c.isprintable()]
    for i in range(0, len(printable), 1000):
        options[f"from {i}"] = "".join(printable[i : i + 1000])
    (said,) = assert_agree(library, [json.dumps(seal(document)).encode()])
    assert said.startswith("pkb-")

    options.clear()
    contents = []
    for before, here in itertools.pairwise(points):
        if before.isprintable() != here.isprintable():
            options["a"] = min(before, here, key=str.isprintable)
            contents.append(json.dumps(seal(document)).encode())
    assert set(assert_agree(library, contents)) == {"MANIFEST"}


def test_the_table_of_printable_characters_is_the_scripts() -> None:
    made = subprocess.run(
        [sys.executable, str(FIRMWARE / "tools" / "printable_table.py")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    table = (FIRMWARE / "src" / "printable.inc").read_text()
    if made.splitlines()[0] != table.splitlines()[0]:
        pytest.skip("this Python knows another version of Unicode")
    assert made == table
