"""Settings that all tests share."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

# A shared machine may pause for longer than any deadline: speed is asserted where it is meant.
settings.register_profile("default", deadline=None)
# A change is judged by the same examples every time; new ones are found at a desk.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Parallel workers share the cores, or their threads only wait for each other. Torch and NumPy read
# this when they are first imported, so it costs nothing where they are not installed.
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _workers > 1:
    _cores = os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _cores // _workers)))


@pytest.fixture(scope="session")
def time_briefly() -> Callable[[pytest.MonkeyPatch], None]:
    """Makes whatever measures engines do so in three rounds, until the patch is undone."""
    from pkecho_edge import measuring  # torch comes with it, after the threads are set

    brief = partial(measuring.measure_speed, warmup=1, min_rounds=3, min_seconds=0.0)
    return lambda patch: patch.setattr(measuring, "measure_speed", brief)


@pytest.fixture
def timed_briefly(
    monkeypatch: pytest.MonkeyPatch, time_briefly: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Engines are timed, but in three rounds."""
    time_briefly(monkeypatch)


@pytest.fixture(scope="session")
def dicom_files() -> ModuleType:
    """The module that writes DICOM files, which tests in several folders use."""
    place = Path(__file__).with_name("dicom_files.py")
    spec = importlib.util.spec_from_file_location("dicom_files", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
