#include "volume.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "runs.h"

namespace pkecho {

namespace {

constexpr double pi = 3.14159265358979323846;
constexpr int discs = 20;
constexpr double pixels_per_sample = 0.25;
constexpr double rounding = 1e-9;  // moments closer than this, relative to their sum, are equal
// Pixels a thousand times as high as wide, which no scanner has, ask for endless samples.
constexpr double most_samples = 1 << 20;

struct Vector {
    double row, column;

    double dot(Vector other) const noexcept { return row * other.row + column * other.column; }
};

struct Mask {
    const uint8_t *pixels;
    int height, width;

    const uint8_t *row(int index) const noexcept {
        return pixels + static_cast<size_t>(index) * static_cast<size_t>(width);
    }
    int at(int y, int x) const noexcept {
        return y >= 0 && y < height && x >= 0 && x < width ? row(y)[x] : 0;
    }
    bool has_four_around(Vector point) const noexcept {
        return point.row >= 0 && point.row < height - 1 && point.column >= 0 &&
               point.column < width - 1;
    }
};

// Sums over a mask's pixels, in whole numbers: exact for sides up to 4096. The box that holds them,
// ends inclusive.
struct Moments {
    int64_t count = 0, row = 0, column = 0, row_row = 0, row_column = 0, column_column = 0;
    int top = 0, bottom = -1, left = 0, right = -1;
};

// Sum of the squares of 0 ... end - 1.
constexpr int64_t squares_below(int64_t end) noexcept {
    return (end - 1) * end * (2 * end - 1) / 6;
}

Moments moments_of(const Mask &mask) noexcept {
    Moments sums;
    sums.left = mask.width;
    for_each_run(mask.pixels, mask.height, mask.width, [&](int row, int start, int end) {
        const int64_t count = end - start, column = count * (start + end - 1) / 2;
        if (sums.count == 0) sums.top = row;
        sums.bottom = row;
        sums.left = std::min(sums.left, start);
        sums.right = std::max(sums.right, end - 1);
        sums.count += count;
        sums.row += row * count;
        sums.column += column;
        sums.row_row += row * (row * count);
        sums.row_column += row * column;
        sums.column_column += squares_below(end) - squares_below(start);
    });
    return sums;
}

// Sum of (a - mean a) (b - mean b) over all pixels. Both are first moved to whole numbers near
// their means: a difference of large numbers would lose what is small about a thin mask.
double central(int64_t count, int64_t a, int64_t b, int64_t ab) noexcept {
    const int64_t near_a = a / count, near_b = b / count;
    const int64_t moved = ab - near_a * b - near_b * a + count * near_a * near_b;
    const double rest_a = static_cast<double>(a - count * near_a);
    const double rest_b = static_cast<double>(b - count * near_b);
    return static_cast<double>(moved) - rest_a * rest_b / static_cast<double>(count);
}

// Unit vector of the largest second moment, towards larger rows.
Vector principal_direction(const Moments &sums, Vector pixel) noexcept {
    const double row =
        central(sums.count, sums.row, sums.row, sums.row_row) * pixel.row * pixel.row;
    const double column = central(sums.count, sums.column, sums.column, sums.column_column) *
                          pixel.column * pixel.column;
    const double mixed =
        central(sums.count, sums.row, sums.column, sums.row_column) * pixel.row * pixel.column;
    const double noise = rounding * (row + column);
    const double twice_mixed = std::abs(mixed) <= noise ? 0 : 2 * mixed;
    const double excess = std::abs(row - column) <= noise ? 0 : row - column;
    const double angle = 0.5 * std::atan2(twice_mixed, excess);
    return {std::cos(angle), std::sin(angle)};
}

// How far a mask reaches along and across its axis, between pixel centres.
struct Extent {
    double start, end, low, high;
};

Extent extent_of(const Mask &mask, const Moments &sums, Vector pixel, Vector centre,
                 Vector direction) noexcept {
    const Vector across{-direction.column, direction.row};
    Extent extent{HUGE_VAL, -HUGE_VAL, HUGE_VAL, -HUGE_VAL};
    const auto include = [&](int row, int column) {
        const Vector offset{row * pixel.row - centre.row, column * pixel.column - centre.column};
        const double along = offset.dot(direction), aside = offset.dot(across);
        extent.start = std::min(extent.start, along);
        extent.end = std::max(extent.end, along);
        extent.low = std::min(extent.low, aside);
        extent.high = std::max(extent.high, aside);
    };
    const int rows = sums.bottom - sums.top + 1;
    for_each_run(mask.row(sums.top), rows, mask.width, [&](int row, int start, int end) {
        include(sums.top + row, start);
        include(sums.top + row, end - 1);
    });
    return extent;
}

// The bilinear value of a mask at a fractional pixel; 0 beyond the image.
double interpolate(const Mask &mask, double row, double column) noexcept {
    const bool reached = row > -1 && row < mask.height && column > -1 && column < mask.width;
    if (!reached) return 0;  // before a cast that a point far away would overflow
    const int top = static_cast<int>(std::floor(row)), left = static_cast<int>(std::floor(column));
    const double down = row - top, right = column - left;
    const double upper = (1 - right) * mask.at(top, left) + right * mask.at(top, left + 1);
    const double lower = (1 - right) * mask.at(top + 1, left) + right * mask.at(top + 1, left + 1);
    return (1 - down) * upper + down * lower;
}

// Points on a line, evenly spaced, in pixels.
struct Line {
    Vector first, step;

    Vector point(int index) const noexcept {
        return {first.row + index * step.row, first.column + index * step.column};
    }
};

// Narrow the range of points [*from, *to) to those between two places on one axis, and some more.
void narrow(double first, double step, double low, double high, int *from, int *to) noexcept {
    if (step == 0) return;
    const double a = (low - first) / step, b = (high - first) / step;
    const double begin = std::min(a, b), end = std::max(a, b) + 1;
    if (begin > *from) *from = begin < *to ? static_cast<int>(begin) : *to;
    if (end < *to) *to = end > *from ? static_cast<int>(end) : *from;
}

// Sum of the bilinear values of a mask at the points of a line.
double sum_along(const Mask &mask, const Moments &box, const Line &line, int count) noexcept {
    int from = 0, to = count;
    narrow(line.first.row, line.step.row, box.top - 1, box.bottom + 1, &from, &to);
    narrow(line.first.column, line.step.column, box.left - 1, box.right + 1, &from, &to);
    int whole = 0;  // points amidst four pixels of the mask: most of them, and quickly seen
    double partial = 0;
    for (int i = from; i < to; ++i) {
        const Vector point = line.point(i);
        if (mask.has_four_around(point)) {
            const size_t width = static_cast<size_t>(mask.width);
            const uint8_t *const corner = mask.pixels + static_cast<size_t>(point.row) * width +
                                          static_cast<size_t>(point.column);
            uint16_t upper, lower;
            std::memcpy(&upper, corner, sizeof upper);
            std::memcpy(&lower, corner + width, sizeof lower);
            if ((upper | lower) == 0) continue;
            if ((upper & lower) == 0x0101) {
                ++whole;
                continue;
            }
        }
        partial += interpolate(mask, point.row, point.column);
    }
    return whole + partial;
}

}  // namespace

double disc_volume(const uint8_t *pixels, int height, int width, double spacing_row,
                   double spacing_column) noexcept {
    const Mask mask{pixels, height, width};
    const Moments sums = moments_of(mask);
    if (sums.count == 0) return 0;
    // in heights of a pixel: the result's unit comes last, and no spacing overflows before
    const Vector pixel{1, spacing_column / spacing_row};
    const double count = static_cast<double>(sums.count);
    const Vector centre{static_cast<double>(sums.row) / count * pixel.row,
                        static_cast<double>(sums.column) / count * pixel.column};
    const Vector direction = principal_direction(sums, pixel);
    const Vector across{-direction.column, direction.row};
    const Extent extent = extent_of(mask, sums, pixel, centre, direction);

    const double half_pixel =
        0.5 * std::hypot(direction.row * pixel.row, direction.column * pixel.column);
    const double start = extent.start - half_pixel;
    const double length = extent.end + half_pixel - start;
    // interpolation spreads each pixel this far
    const double reach = std::abs(across.row) * pixel.row + std::abs(across.column) * pixel.column;
    const double low = extent.low - reach, high = extent.high + reach;
    const double finest = pixels_per_sample / std::max(std::abs(across.row) / pixel.row,
                                                       std::abs(across.column) / pixel.column);
    const double samples = std::ceil((high - low) / finest - rounding);
    const int places = samples >= 1 ? static_cast<int>(std::min(samples, most_samples)) : 1;
    const double step = (high - low) / places;

    double squares = 0;
    for (int disc = 0; disc < discs; ++disc) {
        const double along = start + (disc + 0.5) * (length / discs), aside = low + 0.5 * step;
        const Line line{
            {(centre.row + direction.row * along + across.row * aside) / pixel.row,
             (centre.column + direction.column * along + across.column * aside) / pixel.column},
            {across.row * step / pixel.row, across.column * step / pixel.column}};
        const double diameter = sum_along(mask, sums, line, places) * step;
        squares += diameter * diameter;
    }
    const double unit = spacing_row * spacing_row * spacing_row;
    return pi / 4 * length * (squares / discs) * unit;
}

}  // namespace pkecho
