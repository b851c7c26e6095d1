// The golden self-test.
#pragma once

#include <memory>

#include "engine.h"

namespace pkecho {

struct SelfTestResult {
    uint32_t frames = 0;
    double max_abs_logit_difference = 0;
    double pixels_differ_fraction = 0;    // of a frame's pixels, in the worst frame
    double area_difference_fraction = 0;  // of the golden area, in the worst frame
    bool passed = false;
};

// Run the golden vectors of the engine's mode and compare, by the rules of golden.py's `compare`.
// Throws Failure: PKECHO_NO_GOLDEN, PKECHO_INFERENCE_FAILED.
SelfTestResult self_test(const std::shared_ptr<const Engine> &engine);

}  // namespace pkecho
