"""How good a mask is: overlap, surface distance, ejection fraction, patient statistics."""
