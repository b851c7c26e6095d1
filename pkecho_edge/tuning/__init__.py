"""Trials of quantized engines: which rule, which layers hurt, which return to float."""
