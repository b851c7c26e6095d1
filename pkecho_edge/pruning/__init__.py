"""Structured channel pruning: which channels, by what they are worth and what they cost."""
