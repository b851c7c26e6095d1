// The C boundary: structs of any version in and out, exceptions to statuses.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>

#include "bundle.h"
#include "engine.h"
#include "failure.h"
#include "pkecho.h"
#include "self_test.h"
#include "stream.h"

// Where a struct ends after one of its fields.
#define PKECHO_END(type, field) (offsetof(type, field) + sizeof(type::field))

struct pkecho_bundle {
    std::shared_ptr<const pkecho::Bundle> bundle;
};

struct pkecho_engine {
    std::shared_ptr<const pkecho::Engine> engine;
    std::string float_precision;
};

struct pkecho_stream {
    explicit pkecho_stream(std::shared_ptr<const pkecho::Engine> engine,
                           const pkecho::StreamChoice &choice)
        : stream(std::move(engine), choice) {}

    pkecho::Stream stream;
};

namespace {

using pkecho::Failure;

// Where version 1.0 of each struct ended: no caller has a shorter one.
template <typename T>
constexpr size_t first_size = 0;
template <>
constexpr size_t first_size<pkecho_error> = PKECHO_END(pkecho_error, message);
template <>
constexpr size_t first_size<pkecho_bundle_options> = PKECHO_END(pkecho_bundle_options, log_user);
template <>
constexpr size_t first_size<pkecho_bundle_info> = PKECHO_END(pkecho_bundle_info, trusted_comment);
template <>
constexpr size_t first_size<pkecho_engine_options> = PKECHO_END(pkecho_engine_options, self_test);
template <>
constexpr size_t first_size<pkecho_engine_info> = PKECHO_END(pkecho_engine_info, load_ms);
template <>
constexpr size_t first_size<pkecho_self_test_report> = PKECHO_END(pkecho_self_test_report,
                                                                  area_limit);
template <>
constexpr size_t first_size<pkecho_stream_options> = PKECHO_END(pkecho_stream_options,
                                                                measure_beats);
template <>
constexpr size_t first_size<pkecho_frame> = PKECHO_END(pkecho_frame, spacing_column_mm);
template <>
constexpr size_t first_size<pkecho_result> = PKECHO_END(pkecho_result, beat);

constexpr size_t longest_struct = size_t{1} << 12;  // a longer one is not initialised

template <typename T>
bool is_struct(const T &given) noexcept {
    return given.struct_size >= first_size<T> && given.struct_size <= longest_struct;
}

// `from` into `to`, as far as both go; the receiver's size stays its own.
template <typename T>
void copy_known(const T &from, size_t from_size, T &to, size_t to_size) noexcept {
    const size_t own = to.struct_size;
    std::memcpy(static_cast<void *>(&to), &from, std::min({from_size, to_size, sizeof(T)}));
    to.struct_size = own;
}

// The caller's struct as this version has it; what the caller does not know is as in `defaults`.
template <typename T>
T taken(const T &given, const char *name, const T &defaults) {
    if (!is_struct(given)) {
        throw Failure(PKECHO_STRUCT_SIZE, std::string(name) +
                                              ".struct_size is none that this library knows. Set "
                                              "it to the sizeof of the struct");
    }
    T own = defaults;
    own.struct_size = sizeof(T);
    copy_known(given, given.struct_size, own, sizeof(T));
    return own;
}

// What a caller of a newer header asks for must not be passed over.
template <typename T>
T taken_options(const T &given, const char *name, const T &defaults) {
    const T own = taken(given, name, defaults);
    const auto *bytes = reinterpret_cast<const unsigned char *>(&given);
    for (size_t at = sizeof(T); at < given.struct_size; ++at) {
        if (bytes[at] != 0) {
            throw Failure(PKECHO_STRUCT_SIZE, std::string(name) +
                                                  " sets something that this library does not "
                                                  "know. Update the library");
        }
    }
    return own;
}

// `own` into the caller's struct, which may be shorter or longer.
template <typename T>
void give(const T &own, T &given) noexcept {
    copy_known(own, sizeof(T), given, given.struct_size);
}

// A caller's struct of this size with the defaults of this version.
template <typename T>
void initialise(T *given, size_t struct_size, const T &defaults) noexcept {
    if (given == nullptr || struct_size < first_size<T> || struct_size > longest_struct) return;
    std::memset(static_cast<void *>(given), 0, struct_size);
    given->struct_size = struct_size;
    copy_known(defaults, sizeof(T), *given, struct_size);
}

pkecho_bundle_options default_bundle_options() { return {}; }

pkecho_engine_options default_engine_options() { return {}; }

pkecho_stream_options default_stream_options() {
    pkecho_stream_options options{};
    options.max_gap_s = 0.5;
    options.measure_beats = 1;
    return options;
}

pkecho_frame default_frame() {
    pkecho_frame frame{};
    frame.timestamp_s = NAN;
    return frame;
}

pkecho_result default_result() {
    pkecho_result result{};
    result.timestamp_s = NAN;
    result.area_cm2 = NAN;
    result.beat = pkecho::BeatDetector::blank(0);
    return result;
}

template <typename T>
T &needed(T *pointer, const char *name) {
    if (pointer == nullptr) {
        throw Failure(PKECHO_NULL_ARGUMENT, std::string(name) + " is NULL. Pass one");
    }
    return *pointer;
}

pkecho_status say(pkecho_error *error, pkecho_status status, const char *message) noexcept {
    if (error != nullptr && is_struct(*error)) {
        error->status = status;
        std::snprintf(error->message, sizeof error->message, "%s", message);
    }
    return status;
}

// Run what may throw, and turn that into a status.
template <typename Work>
pkecho_status guarded(pkecho_error *error, const Work &work) noexcept {
    try {
        work();
        return PKECHO_OK;
    } catch (const Failure &failure) {
        return say(error, failure.status(), failure.what());
    } catch (const std::bad_alloc &) {
        return say(error, PKECHO_OUT_OF_MEMORY, "there is not enough memory. Free some");
    } catch (const std::exception &other) {
        return say(error, PKECHO_INTERNAL, other.what());
    } catch (...) {
        return say(error, PKECHO_INTERNAL, "an unknown exception. Please report it");
    }
}

std::string text(const char *given) { return given != nullptr ? given : ""; }

bool flag(int given, const char *name) {
    if (given != 0 && given != 1) {
        throw Failure(PKECHO_INVALID_ARGUMENT, std::string(name) + " is neither 0 nor 1. Pass one");
    }
    return given == 1;
}

pkecho::Trust trust_of(const pkecho_bundle_options &options) {
    pkecho::Trust trust;
    if (options.public_key_count > 0) needed(options.public_keys, "public_keys");
    if (options.public_key_count > 64) {
        throw Failure(PKECHO_INVALID_ARGUMENT, "public_key_count is above 64. Pass fewer keys");
    }
    for (size_t index = 0; index < options.public_key_count; ++index) {
        trust.public_keys.emplace_back(&needed(options.public_keys[index], "a public key"));
    }
    trust.minimum_security_version = options.minimum_security_version;
    trust.allow_unsigned = flag(options.allow_unsigned, "allow_unsigned");
    return trust;
}

pkecho::StreamChoice choice_of(const pkecho_stream_options &options) {
    if (!(options.max_gap_s > 0)) {  // also catches NaN
        throw Failure(PKECHO_INVALID_ARGUMENT, "max_gap_s is not above 0. Pass seconds");
    }
    if (!(options.deadline_ms >= 0)) {
        throw Failure(PKECHO_INVALID_ARGUMENT, "deadline_ms is below 0. Pass 0 for none");
    }
    pkecho::StreamChoice choice;
    choice.max_gap_s = options.max_gap_s;
    choice.deadline_ms = options.deadline_ms;
    choice.measure_beats = flag(options.measure_beats, "measure_beats");
    return choice;
}

std::string percent(double fraction) {
    char said[32];
    std::snprintf(said, sizeof said, "%.3f %%", 100 * fraction);
    return said;
}

// What a self-test found, as a line.
std::string described(const pkecho::SelfTestResult &result, const pkecho::Manifest &manifest) {
    return "at worst " + percent(result.pixels_differ_fraction) +
           " of a frame's pixels differ, at most " + percent(manifest.golden_pixels_fraction) +
           " may; areas differ by " + percent(result.area_difference_fraction) + ", at most " +
           percent(manifest.golden_area_fraction) + " may";
}

pkecho::SelfTestResult tested(const std::shared_ptr<const pkecho::Engine> &engine) {
    const pkecho::SelfTestResult result = pkecho::self_test(engine);
    engine->bundle().log(result.passed ? PKECHO_LOG_INFO : PKECHO_LOG_ERROR,
                         "the self-test: " + described(result, engine->manifest()));
    return result;
}

[[noreturn]] void test_failed(const pkecho::SelfTestResult &result,
                              const pkecho::Manifest &manifest) {
    throw Failure(PKECHO_SELF_TEST_FAILED,
                  "the engine does not give here what it gave when the bundle was built: " +
                      described(result, manifest) + ". Compile for this device");
}

void pushed(pkecho_stream *stream, const pkecho_frame *frame, pkecho_result *result) {
    pkecho_stream &handle = needed(stream, "stream");
    const pkecho_frame own_frame = taken(needed(frame, "frame"), "frame", default_frame());
    pkecho_result own = taken(needed(result, "result"), "result", default_result());
    const pkecho::StreamGuard guard(handle.stream);
    handle.stream.push(own_frame, own);
    give(own, *result);
}

}  // namespace

extern "C" {

const char *pkecho_version(void) { return PKECHO_VERSION_TEXT; }

void pkecho_bundle_options_init(pkecho_bundle_options *options, size_t struct_size) {
    initialise(options, struct_size, default_bundle_options());
}

void pkecho_engine_options_init(pkecho_engine_options *options, size_t struct_size) {
    initialise(options, struct_size, default_engine_options());
}

void pkecho_stream_options_init(pkecho_stream_options *options, size_t struct_size) {
    initialise(options, struct_size, default_stream_options());
}

void pkecho_frame_init(pkecho_frame *frame, size_t struct_size) {
    initialise(frame, struct_size, default_frame());
}

void pkecho_result_init(pkecho_result *result, size_t struct_size) {
    initialise(result, struct_size, default_result());
}

pkecho_status pkecho_bundle_open(const char *path, const pkecho_bundle_options *options,
                                 pkecho_bundle **bundle, pkecho_error *error) {
    return guarded(error, [&] {
        pkecho_bundle_options own = default_bundle_options();
        if (options != nullptr) own = taken_options(*options, "options", own);
        const std::string folder = &needed(path, "path");
        pkecho_bundle *&out = needed(bundle, "bundle");
        auto handle = std::make_unique<pkecho_bundle>();
        handle->bundle =
            pkecho::Bundle::open(folder, trust_of(own), pkecho::Log{own.log, own.log_user});
        out = handle.release();
    });
}

pkecho_status pkecho_bundle_get_info(const pkecho_bundle *bundle, pkecho_bundle_info *info) {
    return guarded(nullptr, [&] {
        const pkecho::Bundle &own = *needed(bundle, "bundle").bundle;
        pkecho_bundle_info found = taken(needed(info, "info"), "info", {});
        found.bundle_id = own.manifest.bundle_id.c_str();
        found.target = own.manifest.target.c_str();
        found.profile = own.manifest.profile.c_str();
        found.security_version = own.manifest.security_version;
        found.height = static_cast<uint32_t>(own.manifest.height);
        found.width = static_cast<uint32_t>(own.manifest.width);
        found.window = static_cast<uint32_t>(own.manifest.window);
        found.is_signed = own.is_signed ? 1 : 0;
        found.signed_by = own.signed_by.c_str();
        found.trusted_comment = own.trusted_comment.c_str();
        give(found, *info);
    });
}

void pkecho_bundle_close(pkecho_bundle *bundle) { delete bundle; }

pkecho_status pkecho_engine_open(const pkecho_bundle *bundle, const pkecho_engine_options *options,
                                 pkecho_engine **engine, pkecho_error *error) {
    return guarded(error, [&] {
        pkecho_engine_options own = default_engine_options();
        if (options != nullptr) own = taken_options(*options, "options", own);
        pkecho_engine *&out = needed(engine, "engine");
        if (own.threads > 256) {
            throw Failure(PKECHO_INVALID_ARGUMENT, "threads is above 256. Pass 0 to 256");
        }
        const bool asked = flag(own.self_test, "self_test");
        const pkecho::EngineChoice choice{text(own.backend_dir), text(own.cache_dir), own.threads};
        auto handle = std::make_unique<pkecho_engine>();
        handle->engine = pkecho::Engine::load(needed(bundle, "bundle").bundle, "stream", choice);
        handle->float_precision = handle->engine->option("float_precision");
        if (asked || handle->engine->session()->built()) {
            const pkecho::SelfTestResult result = tested(handle->engine);
            if (!result.passed) test_failed(result, handle->engine->manifest());
        }
        out = handle.release();
    });
}

pkecho_status pkecho_engine_get_info(const pkecho_engine *engine, pkecho_engine_info *info) {
    return guarded(nullptr, [&] {
        const pkecho_engine &handle = needed(engine, "engine");
        pkecho_engine_info found = taken(needed(info, "info"), "info", {});
        const pkecho::Library &library = handle.engine->session()->library();
        found.backend = library.path().c_str();
        found.runtime = library.functions().runtime();
        found.float_precision = handle.float_precision.c_str();
        found.load_ms = handle.engine->load_ms();
        give(found, *info);
    });
}

pkecho_status pkecho_engine_self_test(const pkecho_engine *engine, pkecho_self_test_report *report,
                                      pkecho_error *error) {
    return guarded(error, [&] {
        const pkecho_engine &handle = needed(engine, "engine");
        pkecho_self_test_report found{};
        if (report != nullptr) found = taken(*report, "report", {});
        const pkecho::SelfTestResult result = tested(handle.engine);
        if (report != nullptr) {
            found.frames = result.frames;
            found.max_abs_logit_difference = result.max_abs_logit_difference;
            found.pixels_differ_fraction = result.pixels_differ_fraction;
            found.pixels_limit = handle.engine->manifest().golden_pixels_fraction;
            found.area_difference_fraction = result.area_difference_fraction;
            found.area_limit = handle.engine->manifest().golden_area_fraction;
            give(found, *report);
        }
        if (!result.passed) test_failed(result, handle.engine->manifest());
    });
}

void pkecho_engine_close(pkecho_engine *engine) { delete engine; }

pkecho_status pkecho_stream_open(const pkecho_engine *engine, const pkecho_stream_options *options,
                                 pkecho_stream **stream, pkecho_error *error) {
    return guarded(error, [&] {
        pkecho_stream_options own = default_stream_options();
        if (options != nullptr) own = taken_options(*options, "options", own);
        pkecho_stream *&out = needed(stream, "stream");
        out = new pkecho_stream(needed(engine, "engine").engine, choice_of(own));
    });
}

pkecho_status pkecho_stream_push(pkecho_stream *stream, const pkecho_frame *frame,
                                 pkecho_result *result, pkecho_error *error) {
    return guarded(error, [&] { pushed(stream, frame, result); });
}

pkecho_status pkecho_stream_reset(pkecho_stream *stream, pkecho_error *error) {
    return guarded(error, [&] {
        pkecho_stream &handle = needed(stream, "stream");
        const pkecho::StreamGuard guard(handle.stream);
        handle.stream.reset();
    });
}

void pkecho_stream_close(pkecho_stream *stream) { delete stream; }

}  // extern "C"
