"""Calibration sets and post-training quantization."""
