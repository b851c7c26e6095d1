#include "mask.h"

#include <cstring>

#include "runs.h"

namespace pkecho {

namespace {

// Pixels of a mask, 0 beyond its edges.
struct Pixels {
    const uint8_t *mask;
    int height, width;

    bool at(int x, int y) const noexcept {
        if (static_cast<unsigned>(x) >= static_cast<unsigned>(width)) return false;
        if (static_cast<unsigned>(y) >= static_cast<unsigned>(height)) return false;
        const uint8_t *const row = mask + static_cast<size_t>(y) * static_cast<size_t>(width);
        return row[x] != 0;
    }
};

// Ways to go from corner to corner, clockwise: east, south, west, north. The pixels ahead are given
// relative to the corner's lower right one.
struct Way {
    int x, y, left_x, left_y, right_x, right_y;
};
constexpr Way ways[4] = {
    {1, 0, 0, -1, 0, 0}, {0, 1, 0, 0, -1, 0}, {-1, 0, -1, 0, -1, -1}, {0, -1, -1, -1, 0, -1}};

}  // namespace

void threshold(const float *logits, size_t count, float threshold, uint8_t *mask) noexcept {
    constexpr size_t block = 16;  // a fixed length becomes vector code at -O2, too
    size_t i = 0;
    for (; i + block <= count; i += block) {
        uint8_t above[block];
        for (size_t j = 0; j < block; ++j) above[j] = logits[i + j] > threshold;
        std::memcpy(mask + i, above, block);
    }
    for (; i < count; ++i) mask[i] = logits[i] > threshold;
}

ComponentFinder::ComponentFinder(int height, int width)
    : height_(height),
      width_(width),
      most_runs_(static_cast<size_t>(height) * ((static_cast<size_t>(width) + 1) / 2)),
      runs_(most_runs_),
      rows_(static_cast<size_t>(height) + 1),
      parents_(most_runs_) {}

ComponentFinder::Found ComponentFinder::find(const uint8_t *mask, uint8_t *component) noexcept {
    Found found = list(mask);
    for (int row = 1; row < height_; ++row) link(row);
    int size = 0;
    largest_ = -1;
    for (int row = 0; row < height_; ++row)
        for (int run = rows_[row]; run < rows_[row + 1]; ++run)
            if (-parents_[run] > size) {  // the earlier one of equals stays
                largest_ = run;
                largest_row_ = row;
                size = -parents_[run];
            }
    found.largest = static_cast<size_t>(size);
    if (component == mask) {
        if (found.largest != found.area) erase_others(component);
    } else if (component != nullptr) {
        paint(component);
    }
    return found;
}

// Note the runs, each a component of its own.
ComponentFinder::Found ComponentFinder::list(const uint8_t *mask) noexcept {
    Found found;
    int count = 0, begun = -1;  // the last row whose first run is known
    for_each_run(mask, height_, width_, [&](int row, int start, int end) {
        while (begun < row) rows_[++begun] = count;
        runs_[count] = {static_cast<uint16_t>(start), static_cast<uint16_t>(end)};
        parents_[count++] = start - end;
        found.area += static_cast<size_t>(end - start);
        if (row == 0 || row == height_ - 1 || start == 0 || end == width_)
            found.touches_border = true;
    });
    while (begun < height_) rows_[++begun] = count;
    return found;
}

// Join the runs of a row with those of the row above that they touch, corners included.
void ComponentFinder::link(int row) noexcept {
    int above = rows_[row - 1], here = rows_[row];
    const int above_end = here, here_end = rows_[row + 1];
    while (above < above_end && here < here_end) {
        if (runs_[above].start <= runs_[here].end && runs_[here].start <= runs_[above].end)
            join(above, here);
        if (runs_[above].end < runs_[here].end)
            ++above;
        else
            ++here;
    }
}

// The first run of a run's component; makes the way there shorter.
int ComponentFinder::root(int run) noexcept {
    while (parents_[run] >= 0) {
        const int parent = parents_[run];
        if (parents_[parent] >= 0) parents_[run] = parents_[parent];
        run = parent;
    }
    return run;
}

void ComponentFinder::join(int a, int b) noexcept {
    a = root(a);
    b = root(b);
    if (a == b) return;
    const int first = a < b ? a : b, other = a < b ? b : a;
    parents_[first] += parents_[other];
    parents_[other] = first;
}

void ComponentFinder::paint(uint8_t *component) noexcept {
    const size_t width = static_cast<size_t>(width_);
    for (int row = 0; row < height_; ++row, component += width) {
        std::memset(component, 0, width);
        for (int run = rows_[row]; run < rows_[row + 1]; ++run)
            if (root(run) == largest_)
                std::memset(component + runs_[run].start, 1,
                            static_cast<size_t>(runs_[run].end - runs_[run].start));
    }
}

void ComponentFinder::erase_others(uint8_t *component) noexcept {
    const size_t width = static_cast<size_t>(width_);
    for (int row = 0; row < height_; ++row, component += width)
        for (int run = rows_[row]; run < rows_[row + 1]; ++run)
            if (root(run) != largest_)
                std::memset(component + runs_[run].start, 0,
                            static_cast<size_t>(runs_[run].end - runs_[run].start));
}

// The boundary is followed with the component on the right hand. The first pixel's upper left
// corner is passed only once: nothing lies above it or to its left. Only pixels that touch the
// component are looked at, so that other components need not be gone.
size_t ComponentFinder::outline(const uint8_t *mask, pkecho_point *points,
                                size_t capacity) const noexcept {
    if (largest_ < 0) return 0;
    const Pixels pixels{mask, height_, width_};
    const int start_x = runs_[largest_].start, start_y = largest_row_;
    size_t count = 0;
    const auto add = [&](int x, int y) {
        if (count < capacity)
            points[count] = {static_cast<float>(x) - 0.5f, static_cast<float>(y) - 0.5f};
        ++count;
    };
    add(start_x, start_y);
    unsigned heading = 0;
    for (int x = start_x + 1, y = start_y; x != start_x || y != start_y;) {
        const Way &ahead = ways[heading];
        if (pixels.at(x + ahead.left_x, y + ahead.left_y)) {
            add(x, y);  // a left turn also where only corners touch: 8-connected
            heading = (heading + 3) % 4;
        } else if (!pixels.at(x + ahead.right_x, y + ahead.right_y)) {
            add(x, y);
            heading = (heading + 1) % 4;
        }
        x += ways[heading].x;
        y += ways[heading].y;
    }
    return count;
}

}  // namespace pkecho
