"""What `import pkecho_edge` offers, and what it costs."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import pkecho_edge

PACKAGE = Path(pkecho_edge.__file__)


@pytest.mark.parametrize("name", pkecho_edge.__all__)
def test_every_public_name_resolves_and_is_documented(name: str) -> None:
    value = getattr(pkecho_edge, name)

    assert callable(value)
    assert inspect.getdoc(value)


def test_nothing_tells_anybody_that_it_is_used() -> None:
    pytest.importorskip("openvino")
    program = (
        "import pkecho_edge, openvino\n"
        "from openvino.tools.ovc import convert_impl, telemetry_utils\n"
        "print(convert_impl.tm.__name__, telemetry_utils.tm.__name__)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )

    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub"] * 2


def test_the_names_users_rely_on_are_public() -> None:
    promised = {"load_checkpoint", "compile", "verify", "open_bundle"}

    assert promised <= set(pkecho_edge.__all__)


def test_type_checkers_and_the_interpreter_see_the_same_names() -> None:
    imported_for_types = {
        alias.name: statement.module
        for block in ast.walk(ast.parse(PACKAGE.read_text(encoding="utf-8")))
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }

    assert imported_for_types == pkecho_edge._HOME
    assert sorted(imported_for_types) == sorted(pkecho_edge.__all__)


def test_dir_lists_public_names_before_their_first_use() -> None:
    assert set(pkecho_edge.__all__) <= set(dir(pkecho_edge))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = pkecho_edge.nonsense


def test_import_is_light() -> None:
    heavy = {"torch", "numpy", "scipy", "openvino", "onnx", "onnxruntime", "nncf", "rich", "typer"}

    loaded = _run("import sys, pkecho_edge; print(*sys.modules)").split()

    assert "pkecho_edge" in loaded
    assert heavy.isdisjoint(loaded)


@pytest.mark.parametrize(
    "first",
    [
        "import pkecho_edge.verify",
        "from pkecho_edge import verify",
        "from pkecho_edge.verify import speed",
    ],
)
def test_verify_is_the_function_whatever_was_imported_before(first: str) -> None:
    assert _run(f"{first}\nimport pkecho_edge\nprint(type(pkecho_edge.verify).__name__)") == (
        "function"
    )


def _run(code: str) -> str:
    """What a fresh interpreter prints for this code."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()
