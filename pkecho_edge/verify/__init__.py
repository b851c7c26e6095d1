"""Is the engine still the baseline: accuracy and speed of both, gates, and the report."""
