"""Kill `pkecho-edge compile` at random moments; each time the next run must make it whole.

    python tests/reliability/kill_compile.py --kills 100

Writes a small phantom dataset, compiles it undisturbed for the reference, then for every kill:
an empty cache, a run that is killed with SIGKILL (its whole process group) at a moment drawn
uniformly from the undisturbed duration, a look at what it left, and a run to the end. It fails at
the first bundle that is half there, the first byte that differs from the reference outside of
reports/, and the first leftover.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

COMMAND = [sys.executable, "-m", "pkecho_edge.cli.main"]
STAGES = ("export", "choose", "quantize", "engine-cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _soak(Path(folder), arguments.kills, random.Random(arguments.seed))


def _soak(root: Path, kills: int, moments: random.Random) -> None:
    subprocess.run(
        [*COMMAND, "phantom", "--clips", "6", "--size", "96", "--out", root / "data", "--quiet"],
        check=True,
    )
    reference, duration_s = _reference(root)
    print(f"undisturbed: {duration_s:.1f} s, {len(reference)} files compared", flush=True)
    met: Counter[str] = Counter()
    completed_s = []
    for number in range(1, kills + 1):
        at_s = moments.uniform(0, duration_s)
        where = _kill(root, at_s)
        _check_left(root, reference, where)
        if (root / "out" / "x.pkb").exists():
            where = "after the bundle was in place"
        else:
            start = time.monotonic()
            _finish(root)
            completed_s.append(time.monotonic() - start)
        _check_whole(root, reference)
        met[where] += 1
        print(f"{number:3d}: killed at {at_s:5.2f} s, {where}: whole, same bytes", flush=True)
        _clear(root)
    print(f"\n{kills} kills, {kills} whole bundles, all byte-equal to the undisturbed one")
    for where, count in met.most_common():
        print(f"  {count:3d}  {where}")
    if completed_s:
        print(f"the run after a kill took {statistics.median(completed_s):.1f} s (median)")


def _start(root: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PKECHO_EDGE_CACHE": str(root / "cache")}
    arguments = ["--data", root / "data", "--size", "96", "--clips", "2", "--quiet"]
    return subprocess.Popen(
        [*COMMAND, "compile", *arguments, "--out", root / "out" / "x.pkb"],
        env=environment,
        start_new_session=True,
        stderr=subprocess.PIPE,
    )


def _finish(root: Path) -> None:
    process = _start(root)
    _, printed = process.communicate()
    if process.returncode != 0:
        sys.exit(f"the run after the kill ended with {process.returncode}: {printed.decode()}")


def _reference(root: Path) -> tuple[dict[str, str], float]:
    """Hashes of an undisturbed bundle and how long it took."""
    start = time.monotonic()
    _finish(root)
    duration_s = time.monotonic() - start
    hashes = bundle_hashes(root / "out" / "x.pkb")
    _clear(root)
    return hashes, duration_s


def _kill(root: Path, at_s: float) -> str:
    """Run and kill; says in which stage it was met."""
    process = _start(root)
    try:
        process.communicate(timeout=at_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = {p.name.rsplit("-", 1)[0] for p in _cache(root) if not p.name.startswith(".")}
    if not (root / "out").exists() and not done:
        return "before anything was written"
    for stage in STAGES:
        if stage not in done:
            return f"before or in stage {stage}"
    return "while verifying and assembling"


def _cache(root: Path) -> list[Path]:
    return list((root / "cache").iterdir()) if (root / "cache").exists() else []


def _check_left(root: Path, reference: dict[str, str], where: str) -> None:
    """What a killed run leaves under its final name is whole."""
    bundle = root / "out" / "x.pkb"
    if bundle.exists() and bundle_hashes(bundle) != reference:
        sys.exit(f"killed {where}: the bundle is half there")
    for stage in _cache(root):
        if not stage.name.startswith(".") and stage.name not in ("checkpoints", "durations.json"):
            noted = json.loads((stage / "hashes.json").read_bytes())
            found = {
                p.relative_to(stage).as_posix(): _sha256(p)
                for p in stage.rglob("*")
                if p.is_file() and p.name != "hashes.json"
            }
            if noted != found:
                sys.exit(f"killed {where}: stage {stage.name} is half there")


def _check_whole(root: Path, reference: dict[str, str]) -> None:
    found = bundle_hashes(root / "out" / "x.pkb")
    if different := sorted(n for n in {*found, *reference} if found.get(n) != reference.get(n)):
        sys.exit(f"other bytes than the undisturbed run: {', '.join(different)}")
    left = [p for p in (root / "out").iterdir() if p.name not in ("x.pkb", "x.pkb.toml")]
    left += (root / "cache").rglob(".*")
    if left:
        sys.exit(f"left behind: {', '.join(map(str, left))}")


def bundle_hashes(bundle: Path) -> dict[str, str]:
    """All but reports/, and the manifest without the key `reports`."""
    hashes = {
        p.relative_to(bundle).as_posix(): _sha256(p)
        for p in bundle.rglob("*")
        if p.is_file() and p.name != "manifest.json" and p.parent.name != "reports"
    }
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest.pop("reports")
    hashes["manifest.json"] = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    return hashes


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _clear(root: Path) -> None:
    for name in ("cache", "out"):
        shutil.rmtree(root / name, ignore_errors=True)


if __name__ == "__main__":
    main()
