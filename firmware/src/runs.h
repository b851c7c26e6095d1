// The runs of a mask. Everything that reads a mask goes from run to run: memchr passes over what
// lies between many times faster than a loop over pixels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace pkecho {

// Calls visit(row, start, end), the end exclusive, for each run of ones, in row order.
// mask: u8 [height, width], dense, 0 or 1.
template <typename Visit>
inline void for_each_run(const uint8_t *mask, int height, int width, Visit visit) noexcept {
    const uint8_t *at = mask, *begin = mask;  // of the row that `at` is in
    const uint8_t *const stop = mask + static_cast<size_t>(height) * static_cast<size_t>(width);
    for (int row = 0; at < stop;) {
        const void *const start = std::memchr(at, 1, static_cast<size_t>(stop - at));
        if (start == nullptr) return;
        at = static_cast<const uint8_t *>(start);
        if (at - begin >= width) {
            const std::ptrdiff_t rows = (at - begin) / width;
            row += static_cast<int>(rows);
            begin += rows * width;
        }
        const void *const end = std::memchr(at, 0, static_cast<size_t>(begin + width - at));
        const uint8_t *const after =
            end == nullptr ? begin + width : static_cast<const uint8_t *>(end);
        visit(row, static_cast<int>(at - begin), static_cast<int>(after - begin));
        at = after;
    }
}

}  // namespace pkecho
