// Golden vectors: frames, and the results that they gave when the bundle was built. The format is
// that of pkecho_edge/bundle/golden.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "bundle.h"

namespace pkecho {

// The element of f32 data that need not be aligned.
inline float f32_at(const uint8_t *data, size_t index) noexcept {
    float value;
    std::memcpy(&value, data + index * sizeof value, sizeof value);
    return value;
}

// Views of a bundle's verified bytes, not aligned; they live as long as the bundle.
struct Golden {
    int frames_count = 0;             // T
    size_t pixels = 0;                // of a frame, H * W
    float threshold = 0;              // on logits
    const uint8_t *frames = nullptr;  // u8 [T, 1, H, W]
    const uint8_t *logits = nullptr;  // f32 [T, 1, H, W], little endian
    const uint8_t *masks = nullptr;   // bool [T, H, W]

    float logit(size_t at) const noexcept { return f32_at(logits, at); }
};

// The vectors of a mode, checked as Python's GoldenVectors checks them: shapes that fit the
// manifest, masks and areas that follow from the logits. Throws Failure, PKECHO_NO_GOLDEN.
Golden read_golden(const Bundle &bundle, const std::string &mode);

}  // namespace pkecho
