"""What a device gets with its bundle: one program; and what reads on the host what it writes."""
