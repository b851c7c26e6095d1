#include "resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runs.h"

namespace pkecho {

namespace {

// Loops of this fixed length become vector code at -O2, too, and for every instruction set.
constexpr size_t block = 16;

size_t whole_blocks(int count) { return (static_cast<size_t>(count) + block - 1) / block * block; }

// Two neighbouring pixels as the bytes of a number; compilers make one load of it.
inline uint32_t pair(const uint8_t *pixel) noexcept {
    return static_cast<uint32_t>(pixel[0] | pixel[1] << 8);
}

// A byte of a number: the conversion from int is the fast one.
inline float byte(uint32_t number, int index) noexcept {
    return static_cast<float>(static_cast<int>(number >> (8 * index) & 255));
}

// Input index of output pixel `index`'s nearest centre.
int nearest(int index, int count_in, int count_out) noexcept {
    return static_cast<int>((2 * static_cast<int64_t>(index) + 1) * count_in / (2 * count_out));
}

}  // namespace

std::vector<FrameResizer::Tap> FrameResizer::taps(int count_in, int count_out) {
    std::vector<Tap> taps(static_cast<size_t>(count_out));
    const float scale = static_cast<float>(count_in) / static_cast<float>(count_out);
    for (int i = 0; i < count_out; ++i) {
        float position = (static_cast<float>(i) + 0.5f) * scale - 0.5f;
        position = std::clamp(position, 0.0f, static_cast<float>(count_in - 1));
        const int low = static_cast<int>(position);
        taps[static_cast<size_t>(i)] = {low, std::min(low + 1, count_in - 1),
                                        position - static_cast<float>(low)};
    }
    return taps;
}

FrameResizer::FrameResizer(int height_in, int width_in, int height_out, int width_out)
    : height_in_(height_in),
      width_in_(width_in),
      height_out_(height_out),
      width_out_(width_out),
      rows_(taps(height_in, height_out)),
      pairs_(0),
      across_(whole_blocks(width_out)),
      neighbours_(whole_blocks(width_out)),
      line_(whole_blocks(width_out)) {
    columns_.reserve(static_cast<size_t>(width_out));
    for (const Tap &tap : taps(width_in, width_out)) {
        across_[columns_.size()] = tap.weight;
        columns_.push_back(tap.low);
        if (tap.high > tap.low) ++pairs_;
    }
}

void FrameResizer::apply(const uint8_t *in, size_t stride, uint8_t *out) noexcept {
    const size_t width_out = static_cast<size_t>(width_out_);
    const bool fits = height_in_ == height_out_ && width_in_ == width_out_;
    for (int y = 0; y < height_out_; ++y, out += width_out) {
        const Tap &row = rows_[static_cast<size_t>(y)];
        const uint8_t *const above = in + static_cast<size_t>(row.low) * stride;
        if (fits) {
            std::memcpy(out, above, width_out);
            continue;
        }
        gather(above, in + static_cast<size_t>(row.high) * stride);
        blend(row.weight);
        std::memcpy(out, line_.data(), width_out);
    }
}

// Only what the output needs is read: a live frame is mostly larger than the engine's.
void FrameResizer::gather(const uint8_t *above, const uint8_t *below) noexcept {
    const int *const columns = columns_.data();
    const int pairs = pairs_, width = width_out_;
    uint32_t *const neighbours = neighbours_.data();
    for (int x = 0; x < pairs; ++x)
        neighbours[x] = pair(above + columns[x]) | pair(below + columns[x]) << 16;
    // At the edge the neighbour is the pixel itself, and its weight 0.
    const uint32_t edge = static_cast<uint32_t>(above[width_in_ - 1] | below[width_in_ - 1] << 16);
    for (int x = pairs; x < width; ++x) neighbours[x] = edge * 257;
}

// Rows first, then columns, then rounded half up: the order of operations is part of the rule.
void FrameResizer::blend(float down) noexcept {
    for (size_t start = 0; start < line_.size(); start += block) {
        const uint32_t *const neighbours = neighbours_.data() + start;
        const float *const across = across_.data() + start;
        uint8_t blended[block];
        for (size_t i = 0; i < block; ++i) {
            const uint32_t four = neighbours[i];
            const float left = byte(four, 0) + (byte(four, 2) - byte(four, 0)) * down;
            const float right = byte(four, 1) + (byte(four, 3) - byte(four, 1)) * down;
            const float value = left + (right - left) * across[i];
            blended[i] = static_cast<uint8_t>(static_cast<int>(value + 0.5f));  // not below 0
        }
        std::memcpy(line_.data() + start, blended, block);
    }
}

MaskResizer::MaskResizer(int height_in, int width_in, int height_out, int width_out)
    : width_in_(width_in),
      width_out_(width_out),
      rows_(static_cast<size_t>(height_out)),
      edges_(static_cast<size_t>(width_in) + 1) {
    for (int y = 0; y < height_out; ++y)
        rows_[static_cast<size_t>(y)] = nearest(y, height_in, height_out);
    for (int x = 0, column = 0; column <= width_in; ++column) {
        while (x < width_out && nearest(x, width_in, width_out) < column) ++x;
        edges_[static_cast<size_t>(column)] = x;
    }
}

void MaskResizer::apply(const uint8_t *in, uint8_t *out) const noexcept {
    const size_t width_in = static_cast<size_t>(width_in_);
    const size_t width_out = static_cast<size_t>(width_out_);
    int drawn = -1;  // the input row in the output row above
    for (const int row : rows_) {
        if (row == drawn) {
            std::memcpy(out, out - width_out, width_out);
        } else {
            std::memset(out, 0, width_out);
            const uint8_t *const pixels = in + static_cast<size_t>(row) * width_in;
            for_each_run(pixels, 1, width_in_, [&](int, int start, int end) {
                const int from = edges_[static_cast<size_t>(start)];
                const int to = edges_[static_cast<size_t>(end)];
                std::memset(out + from, 1, static_cast<size_t>(to - from));
            });
        }
        drawn = row;
        out += width_out;
    }
}

}  // namespace pkecho
