"""The thing that ships: an engine with its manifest, golden vectors, reports and signature.

Nothing here imports torch or a vendor's toolchain, so a device that only runs engines can read
and check a bundle. Everything read from a bundle counts as hostile until it has been checked.
"""
