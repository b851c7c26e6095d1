"""Exact rewriting of a trained network into graphs for inference."""
