"""The image for Jetson: its Dockerfile, what it installs, and the page that explains it."""
