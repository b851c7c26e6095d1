"""Settings that all tests share."""

from __future__ import annotations

import os

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
