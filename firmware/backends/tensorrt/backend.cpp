// The back-end's C interface; see pkecho_backend.h. Nothing that is thrown leaves it.

#include "pkecho_backend.h"

#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>

#include "build.h"
#include "cache.h"
#include "session.h"

namespace pkecho::tensorrt {

namespace {

void write_message(const char *text, char *message, size_t size) noexcept {
    if (message != nullptr && size != 0) std::snprintf(message, size, "%s", text);
}

template <typename Work>
pkecho_status guarded(char *message, size_t size, pkecho_status unknown, Work work) noexcept {
    try {
        work();
        return PKECHO_OK;
    } catch (const Failure &failure) {
        write_message(failure.what(), message, size);
        return failure.status();
    } catch (const std::bad_alloc &) {
        write_message("out of memory", message, size);
        return PKECHO_OUT_OF_MEMORY;
    } catch (const std::exception &error) {
        write_message(error.what(), message, size);
        return unknown;
    } catch (...) {
        write_message("something was thrown that is no exception", message, size);
        return PKECHO_INTERNAL;
    }
}

// A plug-in that was compiled for another major version would call functions that are not there.
void check_library() {
    const std::string here = library_version(), wanted = header_version();
    if (here.substr(0, here.find('.')) == wanted.substr(0, wanted.find('.'))) return;
    throw Failure(PKECHO_BACKEND_VERSION, "this back-end was compiled for TensorRT " + wanted +
                                              ", and TensorRT " + here +
                                              " is installed: compile it again on this device");
}

// From the cache where a plan there can be loaded, else built.
LoadedPlan obtain(const Order &order, const Device &device, const std::vector<Port> &ports,
                  const char *cache_dir, Hearing &heard) {
    PlanCache cache(cache_dir == nullptr ? "" : cache_dir, order, device, heard);
    Bytes refused;
    const auto from_cache = [&](bool tells) -> std::unique_ptr<LoadedPlan> {
        const std::optional<Bytes> plan = cache.find(tells);
        if (!plan || *plan == refused) return nullptr;
        try {
            return std::make_unique<LoadedPlan>(*plan, ports, heard);
        } catch (const Failure &failure) {
            cache.stale(failure.what());
            refused = *plan;
            return nullptr;
        }
    };
    if (auto found = from_cache(true)) return std::move(*found);
    cache.lock();
    // another process may have built it meanwhile
    if (auto found = from_cache(false)) return std::move(*found);
    const Bytes plan = build_plan(order, device, cache, heard);
    LoadedPlan loaded(plan, ports, heard);
    cache.keep(plan);
    return loaded;
}

pkecho_status load(const pkecho_backend_engine *engine, void **session, int *built, char *message,
                   size_t message_size) noexcept {
    return guarded(message, message_size, PKECHO_BACKEND_FAILED, [&] {
        check_library();
        // one at a time: builds time kernels, and two would disturb each other; and the second
        // one of two that want the same plan finds it in the cache
        static std::mutex mutex;
        const std::lock_guard<std::mutex> lock(mutex);
        Hearing heard(engine->log, engine->log_user, true);
        const OnDevice on_device;
        const Device device = this_device();
        const Order order = read_order(*engine, device, heard);
        std::vector<Port> ports = ports_of(*engine);
        LoadedPlan plan = obtain(order, device, ports, engine->cache_dir, heard);
        *session = new Session(std::move(plan), std::move(ports), device.is_integrated,
                               order.use_cuda_graph);
        *built = 1;  // no plan is signed: whether it computes what it should, only a test shows
    });
}

// Where the GPU cannot be chosen any more, what is owned goes without.
template <typename T>
void discard(void *handle) noexcept {
    std::unique_ptr<T> owned(static_cast<T *>(handle));
    try {
        const OnDevice device;
        owned.reset();
    } catch (const std::exception &) {
    }
}

void unload(void *session) noexcept { discard<Session>(session); }

void *allocate(void *session, size_t bytes) noexcept {
    return static_cast<Session *>(session)->allocate(bytes);
}

void release(void *session, void *memory) noexcept {
    static_cast<Session *>(session)->release(memory);
}

pkecho_status bind(void *session, const pkecho_backend_tensor *inputs, size_t input_count,
                   const pkecho_backend_tensor *outputs, size_t output_count, void **request,
                   char *message, size_t message_size) noexcept {
    return guarded(message, message_size, PKECHO_BACKEND_FAILED, [&] {
        *request = new Request(*static_cast<Session *>(session), inputs, input_count, outputs,
                               output_count);
    });
}

pkecho_status run(void *request, char *message, size_t message_size) noexcept {
    return guarded(message, message_size, PKECHO_INFERENCE_FAILED,
                   [&] { static_cast<Request *>(request)->run(); });
}

void unbind(void *request) noexcept { discard<Request>(request); }

const char *runtime() noexcept {
    static const std::string text = "TensorRT " + library_version();
    return text.c_str();
}

}  // namespace

}  // namespace pkecho::tensorrt

extern "C" const pkecho_backend *pkecho_backend_entry(void) {
    namespace own = pkecho::tensorrt;
    static const pkecho_backend backend = {
        PKECHO_BACKEND_ABI, "tensorrt",   own::runtime, own::load, own::unload,
        own::allocate,      own::release, own::bind,    own::run,  own::unbind};
    return &backend;
}
