// Frame entry: any bytes as the structs of a push, on an engine whose network is computed by hand.
//
//     frame_fuzzer [libFuzzer options] CORPUS   with PKECHO_FUZZ_BUNDLE and PKECHO_FUZZ_BACKENDS
//     set
//
// Sides, stride, format, spacing, timestamps and buffers come from the input; what is claimed of
// the buffers is kept true, because a pointer that lies is the caller's own doing.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "pkecho.h"

namespace {

pkecho_engine *open_engine() {
    pkecho_bundle_options trust;
    pkecho_engine_options choice;
    pkecho_bundle_options_default(&trust);
    pkecho_engine_options_default(&choice);
    trust.allow_unsigned = 1;
    choice.backend_dir = std::getenv("PKECHO_FUZZ_BACKENDS");
    pkecho_bundle *bundle = nullptr;
    pkecho_engine *engine = nullptr;
    const char *path = std::getenv("PKECHO_FUZZ_BUNDLE");
    if (path == nullptr || pkecho_bundle_open(path, &trust, &bundle, nullptr) != PKECHO_OK ||
        pkecho_engine_open(bundle, &choice, &engine, nullptr) != PKECHO_OK) {
        std::abort();
    }
    pkecho_bundle_close(bundle);
    return engine;
}

// Takes values off the input; zeros where it has ended.
struct Input {
    const uint8_t *data;
    size_t size;

    template <typename T>
    T take() {
        T value{};
        const size_t count = size < sizeof value ? size : sizeof value;
        std::memcpy(&value, data, count);
        data += count;
        size -= count;
        return value;
    }
};

// Mostly sides that a frame may have, so that pushes go through.
uint32_t side(Input &input) {
    const auto value = input.take<uint16_t>();
    return value < 0xF000 ? value % 200 : value * 65537u;
}

double number(Input &input) {
    const auto value = input.take<uint8_t>();
    return value < 200 ? value * 0.05 : input.take<double>();
}

void push(pkecho_stream *stream, Input &input) {
    pkecho_frame frame;
    pkecho_result result;
    pkecho_frame_default(&frame);
    pkecho_result_default(&result);
    frame.width = side(input);
    frame.height = side(input);
    const auto gap = input.take<uint8_t>();
    frame.stride = gap < 250 ? frame.width + gap : gap;
    frame.format = input.take<uint8_t>() < 250 ? 0 : input.take<uint32_t>();
    frame.timestamp_s = number(input);
    frame.spacing_row_mm = number(input);
    frame.spacing_column_mm = input.take<uint8_t>() < 200 ? frame.spacing_row_mm : number(input);
    if (input.take<uint8_t>() == 0) frame.struct_size = input.take<size_t>();

    const bool is_small = frame.width <= 4096 && frame.height <= 4096;
    std::vector<uint8_t> pixels(is_small ? frame.stride * frame.height + frame.width : 1);
    for (size_t index = 0; index < pixels.size(); ++index) {
        pixels[index] = input.size != 0 ? input.data[index % input.size] : 0;
    }
    frame.data = pixels.data();
    std::vector<uint8_t> mask(input.take<uint16_t>());
    std::vector<pkecho_point> contour(input.take<uint8_t>());
    result.mask = mask.data();
    result.mask_bytes = mask.size();
    result.mask_stride = input.take<uint8_t>() < 200 ? 0 : input.take<size_t>();
    result.contour = contour.data();
    result.contour_capacity = contour.size();
    pkecho_error error = PKECHO_ERROR_INIT;
    const pkecho_status status = pkecho_stream_push(stream, &frame, &result, &error);
    if ((status == PKECHO_OK) != (error.message[0] == '\0')) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static pkecho_engine *engine = open_engine();
    pkecho_stream *stream = nullptr;
    if (pkecho_stream_open(engine, nullptr, &stream, nullptr) != PKECHO_OK) std::abort();
    Input input{data, size};
    for (int frames = 0; frames < 8 && input.size > 0; ++frames) {
        push(stream, input);
        if (input.take<uint8_t>() > 250) pkecho_stream_reset(stream, nullptr);
    }
    pkecho_stream_close(stream);
    return 0;
}
