"""Recordings, clips and the places they come from."""
