// The manifest's resize rule "bilinear-half-pixel", bit for bit as pkecho_edge/data/resize.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pkecho {

// Frames of one geometry to the engine's: the taps are computed once.
class FrameResizer {
public:
    // Allocates; apply does not.
    FrameResizer(int height_in, int width_in, int height_out, int width_out);

    // u8 [height_in, width_in], rows `stride` bytes apart -> u8 [height_out, width_out], dense.
    void apply(const uint8_t *in, size_t stride, uint8_t *out) noexcept;

private:
    struct Tap {
        int low, high;
        float weight;
    };
    static std::vector<Tap> taps(int count_in, int count_out);
    void gather(const uint8_t *above, const uint8_t *below) noexcept;
    void blend(float down) noexcept;

    int height_in_, width_in_, height_out_, width_out_;
    std::vector<Tap> rows_;
    std::vector<int> columns_;  // left neighbours
    int pairs_;                 // columns before those at the right edge, without a right neighbour
    // Of one row, filled up to whole blocks: weights of the right neighbours, the four neighbours
    // of each pixel as bytes of one number, and what they become.
    std::vector<float> across_;
    std::vector<uint32_t> neighbours_;
    std::vector<uint8_t> line_;
};

// Masks of the engine's geometry to a frame's, by the nearest pixel centre.
class MaskResizer {
public:
    MaskResizer(int height_in, int width_in, int height_out, int width_out);

    // u8 [height_in, width_in], dense, 0 or 1 -> u8 [height_out, width_out], dense, 0 or 1.
    void apply(const uint8_t *in, uint8_t *out) const noexcept;

private:
    int width_in_, width_out_;
    std::vector<int> rows_;   // the nearest one of each row
    std::vector<int> edges_;  // where the columns that read column i begin; one more for the end
};

}  // namespace pkecho
