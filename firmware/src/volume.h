// The volume of a ventricle seen in one view: single-plane Simpson with 20 discs along the
// principal axis, as pkecho_edge/metrics/ejection_fraction.py and long_axis.py (Lang et al., J Am
// Soc Echocardiogr 28(1), 2015).
#pragma once

#include <cstdint>

namespace pkecho {

// u8 [height, width], dense, 0 or 1; spacing of (row, column), 1 and 1 for pixels. In the cube of
// the spacing's unit; an empty mask has 0. Allocates nothing. Equal to the Python function's to
// 1e-9 relative.
double disc_volume(const uint8_t *mask, int height, int width, double spacing_row,
                   double spacing_column) noexcept;

}  // namespace pkecho
