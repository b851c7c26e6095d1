// From logits to a mask, its components and its outline: as pkecho_edge/runtime/masks.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "pkecho.h"

namespace pkecho {

// f32 [count] -> u8 [count], 1 where a logit is above the threshold; NaN is background.
void threshold(const float *logits, size_t count, float threshold, uint8_t *mask) noexcept;

// Finds the largest 8-connected component of masks of one geometry. Allocates when it is made.
class ComponentFinder {
public:
    ComponentFinder(int height, int width);

    struct Found {
        size_t area = 0;              // pixels of the mask, 0 or 1 each
        size_t largest = 0;           // pixels of its largest component
        bool touches_border = false;  // the mask, not only its largest component
    };

    // mask: u8 [height, width], dense, 0 or 1. component: gets the largest component alone, may be
    // `mask` itself, nullptr: not wanted. Of several equally large ones the one whose first pixel
    // comes first in row order counts.
    Found find(const uint8_t *mask, uint8_t *component) noexcept;

    // The outline of the largest component that `find` last found: corners of pixels, clockwise as
    // seen on a screen, the first not repeated. Writes at most `capacity` points; returns how many
    // there are in all, 0 for an empty one. mask: what `find` was given, or the component it left.
    size_t outline(const uint8_t *mask, pkecho_point *points, size_t capacity) const noexcept;

private:
    struct Run {
        uint16_t start, end;  // columns, the end exclusive
    };
    // Uninitialised: a system that hands out memory when it is first touched then hands out only
    // what real masks need, some kB.
    template <typename T>
    struct Array {
        explicit Array(size_t size) : items(new T[size]) {}
        T &operator[](int index) noexcept { return items.get()[index]; }
        const T &operator[](int index) const noexcept { return items.get()[index]; }
        std::unique_ptr<T[]> items;
    };
    Found list(const uint8_t *mask) noexcept;
    void link(int row) noexcept;
    int root(int run) noexcept;
    void join(int a, int b) noexcept;
    void paint(uint8_t *component) noexcept;
    void erase_others(uint8_t *component) noexcept;

    int height_, width_;
    size_t most_runs_;     // that a mask can have
    Array<Run> runs_;      // in row order
    Array<int> rows_;      // [height + 1], the first run of each row
    Array<int> parents_;   // of a run, an earlier one; of a component's first run, minus its pixels
    int largest_ = -1;     // the first run of the largest component; -1: the mask is empty
    int largest_row_ = 0;  // that run's row
};

}  // namespace pkecho
