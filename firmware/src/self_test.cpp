#include "self_test.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "failure.h"
#include "golden.h"

namespace pkecho {

namespace {

// Compares a frame's logits with the golden ones, and notes the worst.
void compare_frame(const Golden &golden, size_t frame, const float *logits,
                   SelfTestResult &result) noexcept {
    size_t differ = 0, area = 0, golden_area = 0;
    for (size_t pixel = 0; pixel < golden.pixels; ++pixel) {
        const size_t at = frame * golden.pixels + pixel;
        const double apart = std::fabs(static_cast<double>(logits[pixel]) - golden.logit(at));
        // written so that NaN is not lost
        if (!(apart <= result.max_abs_logit_difference)) {
            result.max_abs_logit_difference = std::isfinite(apart) ? apart : INFINITY;
        }
        const bool inside = logits[pixel] > golden.threshold, was = golden.masks[at] != 0;
        differ += inside != was ? 1 : 0;
        area += inside ? 1 : 0;
        golden_area += was ? 1 : 0;
    }
    const auto pixels = static_cast<double>(golden.pixels);
    const double base = golden_area > 0 ? static_cast<double>(golden_area) : pixels;
    const double area_apart =
        std::fabs(static_cast<double>(area) - static_cast<double>(golden_area));
    result.pixels_differ_fraction =
        std::max(result.pixels_differ_fraction, static_cast<double>(differ) / pixels);
    result.area_difference_fraction = std::max(result.area_difference_fraction, area_apart / base);
}

[[noreturn]] void failed(pkecho_status status, const char *message) {
    throw Failure(status, message[0] != '\0' ? message : "the back-end failed on a golden frame");
}

void run_stream(const std::shared_ptr<const Engine> &engine, const Golden &golden,
                SelfTestResult &result) {
    Window window(engine);
    char message[PKECHO_MESSAGE_SIZE] = "";
    for (size_t frame = 0; frame < static_cast<size_t>(golden.frames_count); ++frame) {
        std::memcpy(window.frame(), golden.frames + frame * golden.pixels, golden.pixels);
        const pkecho_status status = window.advance(false, message, sizeof message);
        if (status != PKECHO_OK && window.finite()) failed(status, message);
        compare_frame(golden, frame, window.logits(), result);
        if (status != PKECHO_OK) return;  // logits that are not finite: the result says so
    }
}

}  // namespace

SelfTestResult self_test(const std::shared_ptr<const Engine> &engine) {
    const Golden golden = read_golden(engine->bundle(), engine->entry().mode);
    SelfTestResult result;
    run_stream(engine, golden, result);
    const Manifest &manifest = engine->manifest();
    result.frames = static_cast<uint32_t>(golden.frames_count);
    result.passed = std::isfinite(result.max_abs_logit_difference) &&
                    result.pixels_differ_fraction <= manifest.golden_pixels_fraction &&
                    result.area_difference_fraction <= manifest.golden_area_fraction;
    return result;
}

}  // namespace pkecho
