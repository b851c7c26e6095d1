// pkecho-overhead: what the library adds to OpenVINO's own C call, and how long a start takes.
//
//     pkecho-overhead BUNDLE BACKENDS FRAMES [THREADS]   unsigned bundles of target cpu, allowed
//
// Both sides run the same engine files with the same settings in one process and take turns, frame
// by frame. Prints JSON: latencies in ms of the bare call, of our push without pre- and
// post-processing (the push's time around its inference), and of these two apart.
#include <openvino/c/openvino.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "pkecho.h"

namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point began) {
    return std::chrono::duration<double, std::milli>(Clock::now() - began).count();
}

void must(bool so, const std::string &what) {
    if (so) return;
    std::fprintf(stderr, "pkecho-overhead: %s\n", what.c_str());
    std::exit(1);
}

std::string content_of(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

double at(std::vector<double> values, double share) {
    std::sort(values.begin(), values.end());
    return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

void print(const char *name, const std::vector<double> &values, const char *end = ",\n") {
    std::printf("  \"%s\": {\"p50\": %.4f, \"p99\": %.4f, \"p99.9\": %.4f, \"max\": %.4f}%s", name,
                at(values, 0.5), at(values, 0.99), at(values, 0.999), at(values, 1), end);
}

// The stream engine as one would run it by hand: two requests on two histories that swap roles.
class Bare {
public:
    Bare(const std::string &folder, const char *threads, int64_t height, int64_t width,
         int64_t window)
        : frame_(static_cast<size_t>(height * width)), logits_(frame_.size()) {
        must(ov_core_create(&core_) == OK, "no core");
        const std::string xml = content_of(folder + "/stream.xml");
        weights_ = content_of(folder + "/weights.bin");
        ov_tensor_t *weights = tensor(U8, {static_cast<int64_t>(weights_.size())}, weights_.data());
        ov_model_t *model = nullptr;
        must(ov_core_read_model_from_memory_buffer(core_, xml.data(), xml.size(), weights,
                                                   &model) == OK,
             "cannot read the engine");
        const ov_property_t settings[] = {{"PERFORMANCE_HINT", "LATENCY"},
                                          {"NUM_STREAMS", "1"},
                                          {"INFERENCE_PRECISION_HINT", "f32"},
                                          {"INFERENCE_NUM_THREADS", threads}};
        must(ov_core_set_properties(core_, "CPU", 4, settings) == OK, "a setting was refused");
        must(ov_core_compile_model(core_, model, "CPU", 0, &compiled_) == OK, "cannot compile");
        const std::vector<int64_t> history{window - 1, 32, height / 32, width / 32};
        const auto floats = static_cast<size_t>((window - 1) * 32 * (height / 32) * (width / 32));
        for (auto &each : histories_) each.resize(floats);
        for (int reads = 0; reads < 2; ++reads) {
            must(ov_compiled_model_create_infer_request(compiled_, &requests_[reads]) == OK,
                 "no request");
            tie(reads, "frame", tensor(U8, {1, 1, height, width}, frame_.data()));
            tie(reads, "logits", tensor(F32, {1, 1, height, width}, logits_.data()));
            tie(reads, "history", tensor(F32, history, histories_[reads].data()));
            tie(reads, "history_out", tensor(F32, history, histories_[1 - reads].data()));
        }
    }

    double run(const std::vector<uint8_t> &pixels) {
        std::copy(pixels.begin(), pixels.end(), frame_.begin());
        const auto began = Clock::now();
        must(ov_infer_request_infer(requests_[reads_]) == OK, "the bare call failed");
        reads_ = 1 - reads_;
        return ms_since(began);
    }

private:
    static ov_tensor_t *tensor(ov_element_type_e type, const std::vector<int64_t> &extents,
                               void *data) {
        ov_shape_t shape{};
        ov_tensor_t *made = nullptr;
        must(ov_shape_create(static_cast<int64_t>(extents.size()), extents.data(), &shape) == OK &&
                 ov_tensor_create_from_host_ptr(type, shape, data, &made) == OK,
             "no tensor");
        ov_shape_free(&shape);
        return made;
    }

    void tie(int reads, const char *name, ov_tensor_t *to) {
        must(ov_infer_request_set_tensor(requests_[reads], name, to) == OK, "cannot bind");
    }

    ov_core_t *core_ = nullptr;
    ov_compiled_model_t *compiled_ = nullptr;
    ov_infer_request_t *requests_[2] = {};
    std::string weights_;
    std::vector<uint8_t> frame_;
    std::vector<float> logits_, histories_[2];
    int reads_ = 0;
};

struct Ours {
    pkecho_bundle *bundle = nullptr;
    pkecho_engine *engine = nullptr;
    pkecho_stream *stream = nullptr;
    pkecho_error error = PKECHO_ERROR_INIT;

    Ours(const char *path, const char *backends, const char *cache, uint32_t threads) {
        pkecho_bundle_options trust;
        pkecho_engine_options choice;
        pkecho_bundle_options_default(&trust);
        pkecho_engine_options_default(&choice);
        trust.allow_unsigned = 1;
        choice.backend_dir = backends;
        choice.cache_dir = cache;
        choice.threads = threads;
        must(pkecho_bundle_open(path, &trust, &bundle, &error) == PKECHO_OK, error.message);
        must(pkecho_engine_open(bundle, &choice, &engine, &error) == PKECHO_OK, error.message);
        must(pkecho_stream_open(engine, nullptr, &stream, &error) == PKECHO_OK, error.message);
    }
    ~Ours() {
        pkecho_stream_close(stream);
        pkecho_engine_close(engine);
        pkecho_bundle_close(bundle);
    }
};

// A dark cavity in a bright wall that beats, in noise: what the network takes for a ventricle.
std::vector<uint8_t> picture(uint32_t height, uint32_t width, unsigned number) {
    std::vector<uint8_t> pixels(static_cast<size_t>(height) * width);
    const double beat = 0.85 + 0.15 * std::cos(number * 0.3);
    for (size_t index = 0; index < pixels.size(); ++index) {
        const double row = static_cast<double>(index / width) / height;
        const double column = static_cast<double>(index % width) / width;
        const double y = (row - 0.45) / (0.3 * beat), x = (column - 0.5) / (0.14 * beat);
        const double from_wall = std::abs(std::sqrt(x * x + y * y) - 1.15);
        const double noise = static_cast<double>((index * 2654435761u >> 13) % 24);
        pixels[index] = static_cast<uint8_t>(20 + noise + (from_wall < 0.15 ? 150 : 0));
    }
    return pixels;
}

// From nothing to the first mask, in ms.
double first_mask_ms(const char *path, const char *backends, const char *cache, uint32_t threads) {
    const auto began = Clock::now();
    const Ours ours(path, backends, cache, threads);
    pkecho_bundle_info info{};
    info.struct_size = sizeof info;
    must(pkecho_bundle_get_info(ours.bundle, &info) == PKECHO_OK, "no info");
    const std::vector<uint8_t> pixels = picture(info.height, info.width, 0);
    std::vector<uint8_t> mask(pixels.size());
    pkecho_frame frame;
    pkecho_result result;
    pkecho_error error = PKECHO_ERROR_INIT;
    pkecho_frame_default(&frame);
    pkecho_result_default(&result);
    frame.data = pixels.data();
    frame.width = info.width;
    frame.height = info.height;
    frame.stride = info.width;
    result.mask = mask.data();
    result.mask_bytes = mask.size();
    must(pkecho_stream_push(ours.stream, &frame, &result, &error) == PKECHO_OK, error.message);
    return ms_since(began);
}

}  // namespace

int main(int argc, char **argv) {
    must(argc >= 4, "BUNDLE BACKENDS FRAMES [THREADS]");
    const unsigned count = static_cast<unsigned>(std::atoi(argv[3]));
    const char *threads_text = argc > 4 ? argv[4] : "2";
    const auto threads = static_cast<uint32_t>(std::atoi(threads_text));
    const std::string cache = std::string(argv[1]) + ".cache";

    const double cold = first_mask_ms(argv[1], argv[2], nullptr, threads);
    std::vector<double> plain, cached;
    for (int round = 0; round < 5; ++round) {
        plain.push_back(first_mask_ms(argv[1], argv[2], nullptr, threads));
        cached.push_back(first_mask_ms(argv[1], argv[2], cache.c_str(), threads));
    }
    const double filled = cached.front();
    cached.erase(cached.begin());

    const Ours ours(argv[1], argv[2], nullptr, threads);
    pkecho_bundle_info info{};
    info.struct_size = sizeof info;
    must(pkecho_bundle_get_info(ours.bundle, &info) == PKECHO_OK, "no info");
    Bare bare(std::string(argv[1]) + "/engine", threads_text, info.height, info.width, info.window);
    pkecho_frame frame;
    pkecho_result result;
    pkecho_error error = PKECHO_ERROR_INIT;
    pkecho_frame_default(&frame);
    pkecho_result_default(&result);
    const uint32_t width = 800, height = 600;
    frame.width = width;
    frame.height = height;
    frame.stride = width;
    std::vector<uint8_t> mask(static_cast<size_t>(width) * height);
    std::vector<pkecho_point> contour(4096);
    result.mask = mask.data();
    result.mask_bytes = mask.size();
    result.contour = contour.data();
    result.contour_capacity = contour.size();

    std::vector<std::vector<uint8_t>> smalls, larges;
    for (unsigned number = 0; number < 42; ++number) {
        smalls.push_back(picture(info.height, info.width, number));
        larges.push_back(picture(height, width, number));
    }
    std::vector<double> bare_ms, push_ms, pre_ms, post_ms;
    uint64_t area = 0;
    for (unsigned number = 0; number < count + 20; ++number) {
        const std::vector<uint8_t> &small = smalls[number % 42], &large = larges[number % 42];
        frame.data = large.data();
        frame.timestamp_s = number * 0.02;
        double bare_took = 0;
        if (number % 2 == 0) bare_took = bare.run(small);  // neither is always the first
        must(pkecho_stream_push(ours.stream, &frame, &result, &error) == PKECHO_OK, error.message);
        if (number % 2 == 1) bare_took = bare.run(small);
        area += result.area_px;
        if (number < 20) continue;
        bare_ms.push_back(bare_took);
        push_ms.push_back(result.latency_ms - result.preprocess_ms - result.postprocess_ms);
        pre_ms.push_back(result.preprocess_ms);
        post_ms.push_back(result.postprocess_ms);
    }
    std::printf(
        "{\n  \"frames\": %u, \"size\": [%u, %u], \"frame\": [%u, %u], \"threads\": %u, "
        "\"mean_area_px\": %.0f,\n",
        count, info.height, info.width, height, width, threads,
        static_cast<double>(area) / (count + 20));
    print("bare_ms", bare_ms);
    print("push_ms", push_ms);
    std::printf("  \"ratio\": {\"p50\": %.4f, \"p99\": %.4f, \"p99.9\": %.4f},\n",
                at(push_ms, 0.5) / at(bare_ms, 0.5), at(push_ms, 0.99) / at(bare_ms, 0.99),
                at(push_ms, 0.999) / at(bare_ms, 0.999));
    print("preprocess_ms", pre_ms);
    print("postprocess_ms", post_ms);
    std::printf(
        "  \"first_mask_ms\": {\"first_in_process\": %.1f, \"without_cache\": %.1f, "
        "\"filling_the_cache\": %.1f, \"from_the_cache\": %.1f}\n}\n",
        cold, at(plain, 0.5), filled, at(cached, 0.5));
    return 0;
}
