"""Benchmarks: every engine timed turn by turn in one run."""
