// What each stage between frame and result takes: medians and 99th percentiles in microseconds, one
// JSON object a line. Geometries are rows x columns. Pass a number of repetitions, or none for
// 2000.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "beats.h"
#include "mask.h"
#include "resize.h"
#include "volume.h"

namespace {

using Clock = std::chrono::steady_clock;
using Bytes = std::vector<uint8_t>;

// Times of one stage.
struct Stage {
    const char *name;
    std::vector<double> microseconds;

    void add(Clock::time_point began) {
        microseconds.push_back(
            std::chrono::duration<double, std::micro>(Clock::now() - began).count());
    }
    double percentile(double share) {
        const size_t last = microseconds.size() - 1;
        const auto at = static_cast<std::ptrdiff_t>(share * static_cast<double>(last));
        std::nth_element(microseconds.begin(), microseconds.begin() + at, microseconds.end());
        return microseconds[static_cast<size_t>(at)];
    }
};

struct Geometry {
    int height, width, engine_height, engine_width;
};

Bytes speckle(int height, int width) {
    std::mt19937 random(1);
    Bytes frame(static_cast<size_t>(height) * static_cast<size_t>(width));
    for (uint8_t &pixel : frame) pixel = static_cast<uint8_t>(random());
    return frame;
}

// A leaning ventricle over an eighth of the image, its border ragged, with a few stray pixels. A
// share of `noise` of all pixels is above the threshold by chance.
std::vector<float> ventricle(int height, int width, double noise) {
    std::mt19937 random(2);
    std::normal_distribution<double> ragged(0, 0.02);
    std::uniform_real_distribution<double> chance(0, 1);
    std::vector<float> logits;
    for (int row = 0; row < height; ++row)
        for (int column = 0; column < width; ++column) {
            const double y = (row + 0.5) / height - 0.45, x = (column + 0.5) / width - 0.5;
            const double along = (0.94 * y + 0.34 * x) / 0.3, across = (0.94 * x - 0.34 * y) / 0.13;
            const double inside = 1 - std::hypot(along, across) + ragged(random);
            logits.push_back(static_cast<float>(chance(random) < noise ? 1 : inside));
        }
    return logits;
}

void measure(const Geometry &geometry, int repetitions, double noise) {
    const int height = geometry.height, width = geometry.width;
    const int engine_height = geometry.engine_height, engine_width = geometry.engine_width;
    const Bytes frame = speckle(height, width);
    const std::vector<float> logits = ventricle(engine_height, engine_width, noise);
    Bytes input(logits.size()), small(logits.size()), mask(frame.size());
    std::vector<pkecho_point> contour(2048);
    pkecho::FrameResizer frames(height, width, engine_height, engine_width);
    pkecho::ComponentFinder small_finder(engine_height, engine_width), finder(height, width);
    const pkecho::MaskResizer masks(engine_height, engine_width, height, width);
    const auto beats = std::make_unique<pkecho::BeatDetector>();

    Stage stages[] = {{"resize", {}}, {"threshold", {}},       {"component", {}},
                      {"mask", {}},   {"frame_component", {}}, {"outline", {}},
                      {"volume", {}}, {"beats", {}},           {"all", {}}};
    size_t area = 0, points = 0;
    for (int i = 0; i < repetitions; ++i) {
        Stage *stage = stages;
        const auto all = Clock::now();
        const auto time = [&](auto &&run) {
            const auto began = Clock::now();
            run();
            (stage++)->add(began);
        };
        double volume = 0;
        time([&] { frames.apply(frame.data(), static_cast<size_t>(width), input.data()); });
        time([&] { pkecho::threshold(logits.data(), logits.size(), 0, small.data()); });
        time([&] { small_finder.find(small.data(), small.data()); });
        time([&] { masks.apply(small.data(), mask.data()); });
        time([&] { area = finder.find(mask.data(), nullptr).area; });
        time([&] { points = finder.outline(mask.data(), contour.data(), contour.size()); });
        time([&] { volume = pkecho::disc_volume(mask.data(), height, width, 0.3, 0.3); });
        const double second = i / 60.0;
        const pkecho::BeatFrame beat{static_cast<uint64_t>(i), second,
                                     static_cast<double>(area) * (2 + std::sin(7 * second)), volume,
                                     true};
        time([&] { beats->push(beat, true); });
        stage->add(all);
    }
    for (Stage &stage : stages)
        std::printf(
            "{\"frame\": \"%dx%d\", \"engine\": \"%dx%d\", \"noise\": %.2f, "
            "\"mask_px\": %zu, \"contour_points\": %zu, \"stage\": \"%s\", "
            "\"us_p50\": %.1f, \"us_p99\": %.1f}\n",
            height, width, engine_height, engine_width, noise, area, points, stage.name,
            stage.percentile(0.5), stage.percentile(0.99));
}

}  // namespace

int main(int argc, char **argv) {
    const int repetitions = argc > 1 ? std::max(std::atoi(argv[1]), 1) : 2000;
    for (const Geometry &geometry : {Geometry{600, 800, 320, 320}, Geometry{1024, 1280, 320, 320},
                                     Geometry{600, 800, 224, 224}, Geometry{112, 112, 320, 320}})
        measure(geometry, repetitions, 0);
    measure({600, 800, 320, 320}, repetitions / 4 + 1, 0.05);  // a network gone wrong
}
