// pkecho-exercise: use the library as no sane program would, and see that it bears it. Run plain
// and under sanitizers; exits 0 when everything was as pkecho.h says, else 1 with a line on stderr.
//
//     pkecho-exercise random BUNDLE BACKENDS FRAMES SEED   any frames, any mistakes
//     pkecho-exercise threads BUNDLE BACKENDS FRAMES       streams side by side, and one shared
//     pkecho-exercise starve BUNDLE BACKENDS               every allocation fails once
//     pkecho-exercise allocations BUNDLE BACKENDS FRAMES   prints how many a frame costs
//     pkecho-exercise soak BUNDLE BACKENDS FRAMES          prints memory and latency on the way
//     pkecho-exercise self-test BUNDLE BACKENDS [CACHE]    prints the golden self-test's report
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "pkecho.h"

namespace {

std::atomic<long> allocations{0};
std::atomic<long> fail_at{-1};  // the allocation of this number fails; -1: none does

void *allocate(size_t size, size_t alignment) {
    if (allocations++ == fail_at) return nullptr;
    return alignment > alignof(std::max_align_t)
               ? std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment)
               : std::malloc(size != 0 ? size : 1);
}

void *allocate_or_throw(size_t size, size_t alignment) {
    void *memory = allocate(size, alignment);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

}  // namespace

void *operator new(size_t size) { return allocate_or_throw(size, 0); }
void *operator new[](size_t size) { return allocate_or_throw(size, 0); }
void *operator new(size_t size, std::align_val_t alignment) {
    return allocate_or_throw(size, static_cast<size_t>(alignment));
}
void *operator new[](size_t size, std::align_val_t alignment) {
    return allocate_or_throw(size, static_cast<size_t>(alignment));
}
void *operator new(size_t size, const std::nothrow_t &) noexcept { return allocate(size, 0); }
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete[](void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }
void operator delete[](void *memory, size_t) noexcept { std::free(memory); }
void operator delete(void *memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void *memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void *memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void *memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

[[noreturn]] void fail(const std::string &what) {
    std::fprintf(stderr, "pkecho-exercise: %s\n", what.c_str());
    std::exit(1);
}

void expect(bool so, const std::string &what) {
    if (!so) fail(what);
}

struct Handles {
    pkecho_bundle *bundle = nullptr;
    pkecho_engine *engine = nullptr;
    pkecho_stream *stream = nullptr;

    void close() {
        pkecho_bundle_close(bundle);  // in the order that a careless program might choose
        pkecho_engine_close(engine);
        pkecho_stream_close(stream);
        *this = Handles{};
    }
};

pkecho_status open(const char *path, const char *backends, Handles &handles, pkecho_error &error,
                   const char *cache = nullptr) {
    pkecho_bundle_options trust;
    pkecho_bundle_options_default(&trust);
    trust.allow_unsigned = 1;
    pkecho_engine_options choice;
    pkecho_engine_options_default(&choice);
    choice.backend_dir = backends;
    choice.cache_dir = cache;
    pkecho_status status = pkecho_bundle_open(path, &trust, &handles.bundle, &error);
    if (status == PKECHO_OK) {
        status = pkecho_engine_open(handles.bundle, &choice, &handles.engine, &error);
    }
    if (status == PKECHO_OK) {
        status = pkecho_stream_open(handles.engine, nullptr, &handles.stream, &error);
    }
    return status;
}

Handles opened(const char *path, const char *backends, const char *cache = nullptr) {
    Handles handles;
    pkecho_error error = PKECHO_ERROR_INIT;
    if (open(path, backends, handles, error, cache) != PKECHO_OK) fail(error.message);
    return handles;
}

// A dark ellipse that beats in noise.
void draw(std::vector<uint8_t> &pixels, uint32_t width, uint32_t height, size_t stride,
          unsigned number) {
    pixels.resize(stride * height);
    const double beat = 0.8 + 0.2 * std::cos(number * 0.2);
    for (uint32_t row = 0; row < height; ++row) {
        for (uint32_t column = 0; column < width; ++column) {
            const double y = (row / static_cast<double>(height) - 0.5) / (0.35 * beat);
            const double x = (column / static_cast<double>(width) - 0.5) / (0.22 * beat);
            const unsigned noise = (row * 31u + column * 17u + number * 7u) % 23u;
            pixels[row * stride + column] =
                static_cast<uint8_t>((x * x + y * y < 1 ? 150 : 40) + noise);
        }
    }
}

struct Pusher {
    std::vector<uint8_t> pixels, mask;
    std::vector<pkecho_point> contour = std::vector<pkecho_point>(2048);
    pkecho_frame frame{};
    pkecho_result result{};
    pkecho_error error = PKECHO_ERROR_INIT;

    Pusher(uint32_t width, uint32_t height) {
        pkecho_frame_default(&frame);
        pkecho_result_default(&result);
        shape(width, height, width);
    }

    void shape(uint32_t width, uint32_t height, size_t stride) {
        frame.width = width;
        frame.height = height;
        frame.stride = stride;
        mask.assign(static_cast<size_t>(width) * height, 7);
        result.mask = mask.data();
        result.mask_stride = 0;
        result.mask_bytes = mask.size();
        result.contour = contour.data();
        result.contour_capacity = contour.size();
    }

    pkecho_status push(pkecho_stream *stream, unsigned number) {
        draw(pixels, frame.width, frame.height, frame.stride, number);
        frame.data = pixels.data();
        return pkecho_stream_push(stream, &frame, &result, &error);
    }
};

// What every result must be, whatever came before.
void check_result(const Pusher &pusher) {
    size_t inside = 0;
    for (const uint8_t pixel : pusher.mask) {
        expect(pixel == 0 || pixel == 255, "a mask holds something else than 0 and 255");
        inside += pixel == 255 ? 1 : 0;
    }
    const pkecho_result &result = pusher.result;
    expect(inside == result.area_px, "the area is not the mask's");
    const uint32_t doubts = PKECHO_FRAME_WARMING_UP | PKECHO_FRAME_EMPTY |
                            PKECHO_FRAME_TOUCHES_BORDER | PKECHO_FRAME_FRAGMENTED;
    expect(((result.flags & PKECHO_FRAME_VALID) != 0) == ((result.flags & doubts) == 0),
           "valid and doubtful at once, or neither");
    for (size_t at = 0; at < std::min(result.contour_count, pusher.contour.size()); ++at) {
        const pkecho_point &point = pusher.contour[at];
        expect(point.x >= -0.5f && point.x <= static_cast<float>(pusher.frame.width) - 0.5f &&
                   point.y >= -0.5f && point.y <= static_cast<float>(pusher.frame.height) - 0.5f,
               "a point of the outline lies outside the frame");
    }
}

// One mistake in an otherwise good push; the status that it must bring.
pkecho_status spoil(Pusher &pusher, unsigned which) {
    const double infinity = std::numeric_limits<double>::infinity();
    switch (which) {
        case 0: pusher.frame.width = 15; return PKECHO_FRAME_SIZE;
        case 1: pusher.frame.height = 4097; return PKECHO_FRAME_SIZE;
        case 2: pusher.frame.width = 0; return PKECHO_FRAME_SIZE;
        case 3: pusher.frame.stride = pusher.frame.width - 1; return PKECHO_FRAME_STRIDE;
        case 4: pusher.frame.format = 9; return PKECHO_FRAME_FORMAT;
        case 5: pusher.frame.timestamp_s = infinity; return PKECHO_TIMESTAMP;
        case 6: pusher.frame.timestamp_s = -1e9; return PKECHO_TIMESTAMP;
        case 7: pusher.frame.spacing_row_mm = -1; return PKECHO_FRAME_SPACING;
        case 8:
            pusher.frame.spacing_row_mm = 1 - pusher.frame.spacing_column_mm;
            pusher.frame.spacing_column_mm = 0;
            return PKECHO_FRAME_SPACING;  // of one axis
        case 9: pusher.result.mask_bytes -= 1; return PKECHO_OUTPUT_TOO_SMALL;
        case 10: pusher.result.mask_stride = SIZE_MAX; return PKECHO_OUTPUT_TOO_SMALL;
        case 11: pusher.result.mask_stride = pusher.frame.width - 1; return PKECHO_OUTPUT_TOO_SMALL;
        case 12: pusher.frame.data = nullptr; return PKECHO_NULL_ARGUMENT;
        case 13: pusher.frame.struct_size = 0; return PKECHO_STRUCT_SIZE;
        case 14: pusher.result.struct_size = 3; return PKECHO_STRUCT_SIZE;
        case 15: pusher.frame.spacing_column_mm = infinity; return PKECHO_FRAME_SPACING;
        default: pusher.frame.timestamp_s = NAN; return PKECHO_TIMESTAMP;  // of a timed stream
    }
}
constexpr unsigned mistakes = 17;

void push_mistake(Pusher &pusher, pkecho_stream *stream, unsigned which) {
    const pkecho_frame frame = pusher.frame;
    const pkecho_result result = pusher.result;
    const std::vector<uint8_t> mask = pusher.mask;
    draw(pusher.pixels, frame.width, frame.height, frame.stride, which);
    pusher.frame.data = pusher.pixels.data();
    const pkecho_status wanted = spoil(pusher, which);
    const pkecho_status got =
        pkecho_stream_push(stream, &pusher.frame, &pusher.result, &pusher.error);
    expect(got == wanted, "mistake " + std::to_string(which) + " brought " +
                              pkecho_status_name(got) + ", not " + pkecho_status_name(wanted));
    expect(pusher.error.status == wanted && pusher.error.message[0] != '\0',
           "no word on a mistake");
    expect(pusher.mask == mask, "a push that failed wrote a mask");
    pusher.frame = frame;
    pusher.result = result;
}

void exercise_random(const char *path, const char *backends, unsigned frames, unsigned seed) {
    Handles handles = opened(path, backends);
    std::mt19937 random(seed);
    const auto below = [&](unsigned bound) { return static_cast<unsigned>(random() % bound); };
    Pusher pusher(96, 96);
    double time = 0;
    uint64_t index = 0;
    for (unsigned number = 0; number < frames; ++number) {
        if (below(20) == 0) {
            const uint32_t width = 16 + below(400), height = 16 + below(400);
            pusher.shape(width, height, width + below(3) * below(50));
        }
        if (below(30) == 0) {
            pusher.frame.spacing_row_mm = below(2) * 0.25;
            pusher.frame.spacing_column_mm = pusher.frame.spacing_row_mm * 1.5;
        }
        if (below(40) == 0) {
            expect(pkecho_stream_reset(handles.stream, &pusher.error) == PKECHO_OK, "reset failed");
            expect(pusher.push(handles.stream, number) == PKECHO_OK ||
                       pusher.error.status == PKECHO_TIMESTAMP,
                   pusher.error.message);
            if (pkecho_stream_reset(handles.stream, nullptr) != PKECHO_OK) fail("reset failed");
            index = pusher.result.index + 1;
        }
        time += below(25) == 0 ? 3.0 : 0.02;
        pusher.frame.timestamp_s = time;
        expect(pusher.push(handles.stream, number) == PKECHO_OK, pusher.error.message);
        expect(pusher.result.index >= index, "the index went back");
        index = pusher.result.index + 1;
        check_result(pusher);
        if (below(4) == 0) push_mistake(pusher, handles.stream, below(mistakes));
    }
    handles.close();
}

void exercise_threads(const char *path, const char *backends, unsigned frames) {
    Handles handles = opened(path, backends);
    const auto stream_work = [&](unsigned seed) {
        pkecho_stream *stream = nullptr;
        if (pkecho_stream_open(handles.engine, nullptr, &stream, nullptr)) fail("cannot open");
        Pusher pusher(96 + seed, 96);
        for (unsigned number = 0; number < frames; ++number) {
            expect(pusher.push(stream, number) == PKECHO_OK, pusher.error.message);
            check_result(pusher);
        }
        pkecho_stream_close(stream);
    };
    std::atomic<unsigned> refused{0}, taken{0};
    const auto shared_work = [&] {
        Pusher pusher(100, 100);
        for (unsigned number = 0; number < frames; ++number) {
            const pkecho_status status = pusher.push(handles.stream, number);
            expect(status == PKECHO_OK || status == PKECHO_BUSY, pusher.error.message);
            (status == PKECHO_OK ? taken : refused)++;
        }
    };
    const auto test_work = [&] {
        const pkecho_status status = pkecho_engine_self_test(handles.engine, nullptr, nullptr);
        expect(status == PKECHO_OK || status == PKECHO_SELF_TEST_FAILED, "the self-test broke");
    };
    std::vector<std::thread> threads;
    for (unsigned seed = 0; seed < 3; ++seed) threads.emplace_back(stream_work, seed);
    for (int sharer = 0; sharer < 2; ++sharer) threads.emplace_back(shared_work);
    threads.emplace_back(test_work);
    for (std::thread &thread : threads) thread.join();
    std::printf("shared stream: %u frames taken, %u refused as busy\n", taken.load(),
                refused.load());
    expect(taken > 0, "the shared stream took nothing");
    handles.close();
}

void exercise_starving(const char *path, const char *backends) {
    opened(path, backends).close();  // what is allocated once in a process's life
    long failed = 0;
    for (long number = 0;; ++number) {
        Handles handles;
        Pusher pusher(120, 80);
        draw(pusher.pixels, 120, 80, 120, 0);
        pusher.frame.data = pusher.pixels.data();
        allocations = 0;
        fail_at = number;
        pkecho_status status = open(path, backends, handles, pusher.error);
        if (status == PKECHO_OK) {
            status =
                pkecho_stream_push(handles.stream, &pusher.frame, &pusher.result, &pusher.error);
        }
        const bool reached = allocations > number;
        fail_at = -1;
        if (status != PKECHO_OK) {
            expect(status == PKECHO_OUT_OF_MEMORY,
                   "allocation " + std::to_string(number) + " failed, and brought " +
                       pkecho_status_name(status) + ": " + pusher.error.message);
            ++failed;
            if (handles.stream != nullptr) {  // the stream goes on once there is memory again
                expect(pusher.push(handles.stream, 0) == PKECHO_OK, pusher.error.message);
                check_result(pusher);
            }
        }
        handles.close();
        if (!reached) break;
    }
    std::printf("%ld allocations failed one by one, each with PKECHO_OUT_OF_MEMORY\n", failed);
    expect(failed > 50, "hardly anything was allocated");
}

void count_allocations(const char *path, const char *backends, unsigned frames) {
    Handles handles = opened(path, backends);
    Pusher pusher(800, 600);
    pusher.frame.spacing_row_mm = pusher.frame.spacing_column_mm = 0.3;
    expect(pusher.push(handles.stream, 0) == PKECHO_OK, pusher.error.message);
    const long before = allocations;
    for (unsigned number = 1; number <= frames; ++number) {
        pusher.frame.timestamp_s = NAN;
        expect(pusher.push(handles.stream, number) == PKECHO_OK, pusher.error.message);
    }
    std::printf("%ld allocations in %u frames\n", allocations - before, frames);
    handles.close();
}

long resident_kib() {
    std::ifstream file("/proc/self/statm");
    long pages = 0, resident = 0;
    file >> pages >> resident;
    return resident * sysconf(_SC_PAGESIZE) / 1024;
}

void soak(const char *path, const char *backends, unsigned frames) {
    Handles handles = opened(path, backends);
    pkecho_bundle_info info{};
    info.struct_size = sizeof info;
    expect(pkecho_bundle_get_info(handles.bundle, &info) == PKECHO_OK, "no info");
    Pusher pusher(info.width, info.height);
    std::vector<std::vector<uint8_t>> pictures(64);
    for (unsigned number = 0; number < pictures.size(); ++number) {
        draw(pictures[number], info.width, info.height, info.width, number);
    }
    // written beforehand, so that all of it is resident: zeros would be pages not there yet
    std::vector<float> latencies(frames, -1.0f);
    const unsigned every = std::max(1u, frames / 10);
    for (unsigned number = 0; number < frames; ++number) {
        pusher.frame.data = pictures[number % pictures.size()].data();
        pusher.frame.timestamp_s = number * 0.02;
        expect(pkecho_stream_push(handles.stream, &pusher.frame, &pusher.result, &pusher.error) ==
                   PKECHO_OK,
               pusher.error.message);
        latencies[number] = static_cast<float>(pusher.result.latency_ms);
        if (number == 999 || (number + 1) % every == 0) {
            std::printf("%u frames  %ld KiB  %llu beats\n", number + 1, resident_kib(),
                        static_cast<unsigned long long>(pusher.result.beat.number));
            std::fflush(stdout);
        }
    }
    std::sort(latencies.begin(), latencies.end());
    const auto at = [&](double share) {
        const auto rank = static_cast<size_t>(share * static_cast<double>(latencies.size() - 1));
        return static_cast<double>(latencies[rank]);
    };
    std::printf("latency ms: p50 %.3f  p99 %.3f  p99.9 %.3f  max %.3f\n", at(0.5), at(0.99),
                at(0.999), at(1));
    handles.close();
}

void self_test(const char *path, const char *backends, const char *cache) {
    Handles handles = opened(path, backends, cache);
    pkecho_self_test_report report{};
    report.struct_size = sizeof report;
    pkecho_error error = PKECHO_ERROR_INIT;
    const pkecho_status status = pkecho_engine_self_test(handles.engine, &report, &error);
    std::printf(
        "%s: %u frames, logits differ by up to %.3g, pixels by %.4f %% (%.4f %% may), "
        "areas by %.4f %% (%.4f %% may)\n",
        pkecho_status_name(status), report.frames, report.max_abs_logit_difference,
        100 * report.pixels_differ_fraction, 100 * report.pixels_limit,
        100 * report.area_difference_fraction, 100 * report.area_limit);
    handles.close();
    if (status != PKECHO_OK) fail(error.message);
}

unsigned number_of(const char *text) {
    return static_cast<unsigned>(std::strtoul(text, nullptr, 10));
}

}  // namespace

int main(int argc, char **argv) {
    const std::string what = argc > 3 ? argv[1] : "";
    if (what == "random" && argc == 6) {
        exercise_random(argv[2], argv[3], number_of(argv[4]), number_of(argv[5]));
    } else if (what == "threads" && argc == 5) {
        exercise_threads(argv[2], argv[3], number_of(argv[4]));
    } else if (what == "starve" && argc == 4) {
        exercise_starving(argv[2], argv[3]);
    } else if (what == "allocations" && argc == 5) {
        count_allocations(argv[2], argv[3], number_of(argv[4]));
    } else if (what == "self-test" && (argc == 4 || argc == 5)) {
        self_test(argv[2], argv[3], argc == 5 ? argv[4] : nullptr);
    } else if (what == "soak" && argc == 5) {
        soak(argv[2], argv[3], number_of(argv[4]));
    } else {
        fail("see the first lines of exercise.cpp for what it takes");
    }
    return 0;
}
