#include "stream.h"

#include <cmath>
#include <cstring>
#include <string>

#include "failure.h"
#include "volume.h"

namespace pkecho {

namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t least_side = 16, most_side = 4096;
constexpr double whole_share = 0.95;  // of a mask that its largest component has

double ms_between(Clock::time_point from, Clock::time_point to) noexcept {
    return std::chrono::duration<double, std::milli>(to - from).count();
}

std::string sides(const pkecho_frame &frame) {
    return std::to_string(frame.width) + " wide and " + std::to_string(frame.height) + " high";
}

bool same(double a, double b) noexcept { return a == b; }

void check_frame(const pkecho_frame &frame) {
    if (frame.data == nullptr) {
        throw Failure(PKECHO_NULL_ARGUMENT, "frame.data is NULL. Pass the frame's first pixel");
    }
    if (frame.format != PKECHO_GREY8) {
        throw Failure(PKECHO_FRAME_FORMAT, "frame.format is none that there is. Use PKECHO_GREY8");
    }
    for (const uint32_t side : {frame.width, frame.height}) {
        if (side < least_side || side > most_side) {
            throw Failure(PKECHO_FRAME_SIZE, "the frame is " + sides(frame) +
                                                 ". Pass frames with sides from 16 to 4096");
        }
    }
    if (frame.stride < frame.width) {
        throw Failure(PKECHO_FRAME_STRIDE, "frame.stride is " + std::to_string(frame.stride) +
                                               " for a width of " + std::to_string(frame.width) +
                                               ". Pass the bytes from a row to the next");
    }
    // no frame in memory has rows so far apart that its last one lies beyond any address
    if (frame.stride > (static_cast<size_t>(PTRDIFF_MAX) - frame.width) / frame.height) {
        throw Failure(PKECHO_FRAME_STRIDE,
                      "frame.stride is too large. Pass the bytes from a row to the next");
    }
    const double row = frame.spacing_row_mm, column = frame.spacing_column_mm;
    const bool none = same(row, 0) && same(column, 0);
    if (!none && !(row > 0 && column > 0 && std::isfinite(row) && std::isfinite(column))) {
        throw Failure(PKECHO_FRAME_SPACING,
                      "the spacing is not above 0 in both axes. Pass mm, or 0 and 0 for unknown");
    }
    if (std::isinf(frame.timestamp_s)) {
        throw Failure(PKECHO_TIMESTAMP, "the timestamp is infinite. Pass seconds, or NaN for none");
    }
}

void check_mask_room(const pkecho_frame &frame, const pkecho_result &result) {
    if (result.mask == nullptr) return;
    const size_t stride = result.mask_stride != 0 ? result.mask_stride : frame.width;
    const size_t rows = frame.height - 1u;
    // divided, not multiplied: a hostile stride must not wrap around
    const bool fits = stride >= frame.width && result.mask_bytes >= frame.width &&
                      (rows == 0 || stride <= (result.mask_bytes - frame.width) / rows);
    if (!fits) {
        throw Failure(PKECHO_OUTPUT_TOO_SMALL, "the mask of a frame " + sides(frame) +
                                                   " does not fit " +
                                                   std::to_string(result.mask_bytes) +
                                                   " bytes with its stride. Pass a "
                                                   "larger buffer");
    }
}

void write_mask(const std::vector<uint8_t> &mask, const pkecho_frame &frame,
                const pkecho_result &result) noexcept {
    // bytes may alias anything: sides that are not locals would be read again for every pixel
    const size_t width = frame.width, height = frame.height;
    const size_t stride = result.mask_stride != 0 ? result.mask_stride : width;
    const uint8_t *from = mask.data();
    uint8_t *to = result.mask;
    for (size_t row = 0; row < height; ++row, from += width, to += stride) {
        for (size_t column = 0; column < width; ++column) {
            to[column] = static_cast<uint8_t>(-from[column]);  // 1 becomes 255
        }
    }
}

}  // namespace

StreamGuard::StreamGuard(Stream &stream) : stream_(stream) {
    if (stream.busy_.test_and_set(std::memory_order_acquire)) {
        throw Failure(PKECHO_BUSY, "another thread is in this stream. Open one per thread");
    }
}

Stream::Geometry::Geometry(int frame_height, int frame_width, int engine_height, int engine_width)
    : height(frame_height),
      width(frame_width),
      finder(frame_height, frame_width),
      mask(static_cast<size_t>(frame_height) * static_cast<size_t>(frame_width)) {
    if (height != engine_height || width != engine_width) {
        shrink.emplace(height, width, engine_height, engine_width);
        grow.emplace(engine_height, engine_width, height, width);
    }
}

Stream::Stream(std::shared_ptr<const Engine> engine, const StreamChoice &choice)
    : engine_(std::move(engine)),
      choice_(choice),
      window_(engine_),
      engine_finder_(engine_->manifest().height, engine_->manifest().width),
      engine_mask_(static_cast<size_t>(engine_->manifest().height) *
                   static_cast<size_t>(engine_->manifest().width)) {}

void Stream::push(const pkecho_frame &frame, pkecho_result &result) {
    const auto began = Clock::now();
    check_frame(frame);
    check_mask_room(frame, result);
    check_order(frame.timestamp_s);
    Geometry &geometry = geometry_of(frame);
    const pkecho_restart restarted = reason(frame);
    take_in(frame, geometry);
    const auto taken_in = Clock::now();

    char message[PKECHO_MESSAGE_SIZE] = "";
    if (restarted != PKECHO_RESTART_NONE) start_ = restarted;  // kept in case this fails half-way
    const pkecho_status status =
        window_.advance(restarted != PKECHO_RESTART_NONE, message, sizeof message);
    if (status != PKECHO_OK) {
        throw Failure(status, message[0] != '\0' ? message : "the back-end failed on this frame");
    }
    const auto inferred = Clock::now();

    accept(frame, restarted);
    result.restart = restarted;
    to_mask(geometry);
    describe(frame, geometry, result);
    if (choice_.measure_beats) measure(frame, geometry, result);
    result.beat = beats_.beat();
    if (result.mask != nullptr) write_mask(geometry.mask, frame, result);
    const auto ended = Clock::now();
    result.preprocess_ms = ms_between(began, taken_in);
    result.inference_ms = ms_between(taken_in, inferred);
    result.postprocess_ms = ms_between(inferred, ended);
    result.latency_ms = ms_between(began, ended);
    if (choice_.deadline_ms > 0 && result.latency_ms > choice_.deadline_ms) {
        result.flags |= PKECHO_FRAME_LATE;
    }
}

void Stream::reset() {
    window_.restart();
    beats_.restart();
    start_ = index_ == 0 ? PKECHO_RESTART_FIRST : PKECHO_RESTART_RESET;
    follows_ = false;
}

Stream::Geometry &Stream::geometry_of(const pkecho_frame &frame) {
    const int height = static_cast<int>(frame.height), width = static_cast<int>(frame.width);
    if (geometry_ == nullptr || geometry_->height != height || geometry_->width != width) {
        const Manifest &manifest = engine_->manifest();
        geometry_ = std::make_unique<Geometry>(height, width, manifest.height, manifest.width);
    }
    return *geometry_;
}

void Stream::check_order(double timestamp_s) const {
    if (!follows_) return;
    if (std::isnan(timestamp_s) != std::isnan(last_s_)) {
        throw Failure(PKECHO_TIMESTAMP,
                      "some frames have a timestamp and some have none. Pass one "
                      "with every frame or with none, or reset the stream");
    }
    if (timestamp_s <= last_s_) {  // false for NaN
        throw Failure(PKECHO_TIMESTAMP, "timestamp " + std::to_string(timestamp_s) +
                                            " s does not come after " + std::to_string(last_s_) +
                                            " s. Push frames in time order, or reset the "
                                            "stream");
    }
}

pkecho_restart Stream::reason(const pkecho_frame &frame) const noexcept {
    if (window_.pushed() == 0) return start_;
    if (static_cast<int>(frame.height) != last_height_ ||
        static_cast<int>(frame.width) != last_width_) {
        return PKECHO_RESTART_GEOMETRY;
    }
    if (!same(frame.spacing_row_mm, last_row_mm_) ||
        !same(frame.spacing_column_mm, last_column_mm_)) {
        return PKECHO_RESTART_SPACING;
    }
    return frame.timestamp_s - last_s_ > choice_.max_gap_s ? PKECHO_RESTART_GAP
                                                           : PKECHO_RESTART_NONE;
}

void Stream::take_in(const pkecho_frame &frame, Geometry &geometry) noexcept {
    if (geometry.shrink) {
        geometry.shrink->apply(frame.data, frame.stride, window_.frame());
        return;
    }
    for (uint32_t row = 0; row < frame.height; ++row) {
        std::memcpy(window_.frame() + static_cast<size_t>(row) * frame.width,
                    frame.data + row * frame.stride, frame.width);
    }
}

void Stream::to_mask(Geometry &geometry) noexcept {
    const Manifest &manifest = engine_->manifest();
    uint8_t *mask = geometry.grow ? engine_mask_.data() : geometry.mask.data();
    threshold(window_.logits(), engine_mask_.size(), manifest.threshold, mask);
    if (manifest.largest_component) engine_finder_.find(mask, mask);
    if (geometry.grow) geometry.grow->apply(mask, geometry.mask.data());
}

void Stream::accept(const pkecho_frame &frame, pkecho_restart restarted) noexcept {
    if (restarted != PKECHO_RESTART_NONE) beats_.restart();
    ++index_;
    follows_ = true;
    last_height_ = static_cast<int>(frame.height);
    last_width_ = static_cast<int>(frame.width);
    last_s_ = frame.timestamp_s;
    last_row_mm_ = frame.spacing_row_mm;
    last_column_mm_ = frame.spacing_column_mm;
}

void Stream::describe(const pkecho_frame &frame, Geometry &geometry,
                      pkecho_result &result) noexcept {
    const ComponentFinder::Found found = geometry.finder.find(geometry.mask.data(), nullptr);
    uint32_t flags = 0;
    if (window_.pushed() < engine_->manifest().window) flags |= PKECHO_FRAME_WARMING_UP;
    if (found.area == 0) flags |= PKECHO_FRAME_EMPTY;
    if (found.touches_border) flags |= PKECHO_FRAME_TOUCHES_BORDER;
    if (static_cast<double>(found.largest) < whole_share * static_cast<double>(found.area)) {
        flags |= PKECHO_FRAME_FRAGMENTED;
    }
    if (flags == 0) flags |= PKECHO_FRAME_VALID;
    result.contour_count = 0;
    if (result.contour != nullptr) {
        result.contour_count =
            geometry.finder.outline(geometry.mask.data(), result.contour, result.contour_capacity);
        if (result.contour_count > result.contour_capacity) flags |= PKECHO_FRAME_CONTOUR_CUT;
    }
    const double pixel_cm2 = frame.spacing_row_mm * frame.spacing_column_mm / 100;
    result.flags = flags;
    result.index = index_ - 1;
    result.timestamp_s = frame.timestamp_s;
    result.area_px = found.area;
    result.area_cm2 = pixel_cm2 > 0 ? static_cast<double>(found.area) * pixel_cm2 : NAN;
}

void Stream::measure(const pkecho_frame &frame, const Geometry &geometry,
                     pkecho_result &result) noexcept {
    const bool spaced = frame.spacing_row_mm > 0;
    const double row = spaced ? frame.spacing_row_mm : 1;
    const double column = spaced ? frame.spacing_column_mm : 1;
    const double volume =
        disc_volume(geometry.mask.data(), geometry.height, geometry.width, row, column);
    BeatFrame measured;
    measured.index = result.index;
    measured.timestamp_s = frame.timestamp_s;
    measured.area = static_cast<double>(result.area_px);
    measured.volume = spaced ? volume / 1000 : volume;  // mm^3 in a ml
    measured.valid = (result.flags & PKECHO_FRAME_VALID) != 0;
    if (beats_.push(measured, spaced)) result.flags |= PKECHO_FRAME_NEW_BEAT;
}

}  // namespace pkecho
