"""Run a bundle on a recording: masks, figures, beats, and the pictures that show them."""
