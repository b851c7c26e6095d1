// Live use: one frame in, one mask out. The twin of pkecho_edge/runtime/stream.py, with beats.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "beats.h"
#include "engine.h"
#include "mask.h"
#include "resize.h"

namespace pkecho {

struct StreamChoice {
    double max_gap_s = 0.5;
    double deadline_ms = 0;  // 0: none
    bool measure_beats = true;
};

class Stream {
public:
    // Throws Failure where the engine cannot be bound.
    Stream(std::shared_ptr<const Engine> engine, const StreamChoice &choice);

    // See pkecho_stream_push. `frame` and `result` are whole structs of this version. Throws
    // Failure or std::bad_alloc; the stream and `result` are then as they were.
    void push(const pkecho_frame &frame, pkecho_result &result);
    void reset();

private:
    // What depends on the frames' geometry; made anew when that changes.
    struct Geometry {
        Geometry(int height, int width, int engine_height, int engine_width);

        int height, width;
        std::optional<FrameResizer> shrink;  // none where the geometry is the engine's
        std::optional<MaskResizer> grow;
        ComponentFinder finder;     // in the frame's geometry
        std::vector<uint8_t> mask;  // 0 or 1, [height, width]
    };

    Geometry &geometry_of(const pkecho_frame &frame);
    void check_order(double timestamp_s) const;
    pkecho_restart reason(const pkecho_frame &frame) const noexcept;
    void take_in(const pkecho_frame &frame, Geometry &geometry) noexcept;
    void to_mask(Geometry &geometry) noexcept;
    void accept(const pkecho_frame &frame, pkecho_restart restarted) noexcept;
    void describe(const pkecho_frame &frame, Geometry &geometry, pkecho_result &result) noexcept;
    void measure(const pkecho_frame &frame, const Geometry &geometry,
                 pkecho_result &result) noexcept;

    std::shared_ptr<const Engine> engine_;
    StreamChoice choice_;
    Window window_;
    ComponentFinder engine_finder_;       // for the manifest's component rule
    std::vector<uint8_t> engine_mask_;    // [H, W]
    std::unique_ptr<Geometry> geometry_;  // of the last frame that was looked at
    BeatDetector beats_;

    uint64_t index_ = 0;                           // of the next push
    pkecho_restart start_ = PKECHO_RESTART_FIRST;  // why the window begins, where it is empty
    bool follows_ = false;                         // a frame came before, since the last reset
    int last_height_ = 0, last_width_ = 0;         // of it
    double last_s_ = 0, last_row_mm_ = 0, last_column_mm_ = 0;
    std::atomic_flag busy_ = ATOMIC_FLAG_INIT;

    friend class StreamGuard;
};

// Lets one thread into a stream. Throws Failure, PKECHO_BUSY, for a second one.
class StreamGuard {
public:
    explicit StreamGuard(Stream &stream);
    ~StreamGuard() { stream_.busy_.clear(std::memory_order_release); }
    StreamGuard(const StreamGuard &) = delete;
    StreamGuard &operator=(const StreamGuard &) = delete;

private:
    Stream &stream_;
};

}  // namespace pkecho
