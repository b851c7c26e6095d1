"""Write the inputs that the fuzzers start from.

    python firmware/fuzz/make_corpus.py FOLDER

FOLDER/manifest and FOLDER/signature are corpora, FOLDER/manifest.dict is the dictionary for the
former.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]  # the tests' small bundle

from pkecho_edge.bundle import minisign  # noqa: E402
from pkecho_edge.bundle.minisign import SecretKey  # noqa: E402
from tests.firmware.small_bundle import seal, write_small_bundle  # noqa: E402

_DATA, _COMMENT = b'{"schema": "pkecho-edge/bundle/2"}\n', "a trusted comment"
_CONFIGURATIONS: tuple[Any, ...] = (
    [0, -1, 0.5, 1e-7, 1e300, 5e-324, 1 << 53, True, None, "", [], {}],
    {"deep": [[[[[[{"a": {"b": {}}}]]]]]]},
    '\b\f\n\r\t"\\/\x7f½€\N{GRINNING FACE}\uffff',
)


def main(folder: Path) -> None:
    """Write all three."""
    for name in ("manifest", "signature"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        document = json.loads(write_small_bundle(Path(scratch) / "heart.pkb").to_json())
    needed = [f for f in document["files"] if not f["path"].startswith(("golden/", "model/"))]
    document = seal(document | {"files": needed})  # the shorter, the faster
    _manifests(folder / "manifest", document)
    _signatures(folder / "signature")
    words = sorted(_words(document))
    (folder / "manifest.dict").write_text("".join(f'"{_escaped(word)}"\n' for word in words))


def _manifests(folder: Path, document: dict[str, Any]) -> None:
    variants = [document, {"schema": "pkecho-edge/bundle/3"}, {}, []]
    for configuration in _CONFIGURATIONS:
        lineage = document["lineage"] | {"configuration": {"x": configuration}}
        variants.append(seal(document | {"lineage": lineage}))
    for mode in (0, 1):
        variants.append(seal(document | {"engines": [document["engines"][mode]], "gates": []}))
    for i, variant in enumerate(variants):
        (folder / f"{i}.json").write_text(json.dumps(variant, separators=(",", ":")))
    (folder / "indented.json").write_text(json.dumps(document, indent=2, ensure_ascii=False))


def _signatures(folder: Path) -> None:
    key = SecretKey.generate()
    signature = minisign.sign(_DATA, key, _COMMENT)
    for i, public in enumerate((key.public.to_text(), key.public.to_text().splitlines()[1])):
        (folder / f"{i}").write_text(f"{public}\0{signature}")
        (folder / f"{i}crlf").write_text(f"{public}\0{signature}".replace("\n", "\r\n"))


def _words(value: Any) -> set[str]:
    """Every key and every short text in it, in quotes."""
    if isinstance(value, dict):
        return {json.dumps(key) for key in value}.union(*map(_words, value.values()))
    if isinstance(value, list):
        return set().union(*map(_words, value))
    return {json.dumps(value)} if isinstance(value, str) and len(value) < 40 else set()


def _escaped(text: str) -> str:
    return "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}"
        for byte in text.encode()
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
