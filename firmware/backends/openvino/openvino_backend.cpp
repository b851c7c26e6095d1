// Back-end for target "cpu": OpenVINO IR on x86-64 and Arm processors, over OpenVINO's C interface.
// Settings are those of pkecho_edge/targets/openvino_cpu.py, so that both give the same bits.
#include <openvino/c/openvino.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "blob_cache.h"
#include "failure.h"
#include "pkecho_backend.h"

namespace {

using pkecho::Failure;
using pkecho::openvino::BlobCache;

constexpr int64_t fused_window = 10;  // T that OpenVINO fuses the attention of as it should

template <auto Free>
struct Freed {
    template <typename T>
    void operator()(T *handle) const noexcept {
        Free(handle);
    }
};
template <typename T, auto Free>
using Owned = std::unique_ptr<T, Freed<Free>>;

using Core = Owned<ov_core_t, ov_core_free>;
using Model = Owned<ov_model_t, ov_model_free>;
using Compiled = Owned<ov_compiled_model_t, ov_compiled_model_free>;
using InferRequest = Owned<ov_infer_request_t, ov_infer_request_free>;
using Tensor = Owned<ov_tensor_t, ov_tensor_free>;
using Port = Owned<ov_output_const_port_t, ov_output_const_port_free>;

// What a status means, and what OpenVINO said last (on any thread: it keeps one text for all).
std::string said(ov_status_e status) {
    const std::unique_ptr<const char, Freed<ov_free>> text(ov_get_last_err_msg());
    std::string line = ov_get_error_info(status);
    if (text && *text != '\0') line += std::string(": ") + text.get();
    for (char &c : line) {
        if (static_cast<unsigned char>(c) < ' ') c = ' ';
    }
    line.erase(line.find_last_not_of(' ') + 1);
    return line;
}

void check(ov_status_e status, pkecho_status otherwise, const char *what) {
    if (status != OK) {
        throw Failure(otherwise, std::string("OpenVINO ") + what + " (" + said(status) +
                                     "). Install the whole folder of back-ends again, or compile "
                                     "the bundle with this OpenVINO");
    }
}

// A version's first three numbers; what follows them is ignored.
std::array<int, 3> release(const char *version) noexcept {
    std::array<int, 3> numbers{};
    std::sscanf(version, "%9d.%9d.%9d", &numbers[0], &numbers[1], &numbers[2]);
    return numbers;
}

// The release and the commit that it was built from; "?" where it does not say.
const std::string &build() {
    static const std::string number = [] {
        ov_version_t found{};
        if (ov_get_openvino_version(&found) != OK) return std::string("?");
        std::string text = found.buildNumber;
        ov_version_free(&found);
        return text;
    }();
    return number;
}

const std::string &own_version() {
    static const std::string version = [] {
        if (build() == "?") return build();
        const std::array<int, 3> numbers = release(build().c_str());
        return std::to_string(numbers[0]) + "." + std::to_string(numbers[1]) + "." +
               std::to_string(numbers[2]);
    }();
    return version;
}

std::string found(const pkecho_backend_pair *pairs, size_t count, const char *key,
                  const char *otherwise) {
    for (size_t index = 0; index < count; ++index) {
        if (std::strcmp(pairs[index].key, key) == 0) return pairs[index].value;
    }
    return otherwise;
}

// IR is read by the release that wrote it and by later ones, not by earlier.
void check_release(const pkecho_backend_engine &engine) {
    const std::string built = found(engine.toolchain, engine.toolchain_count, "openvino", "0.0.0");
    if (release(own_version().c_str()) < release(built.c_str())) {
        throw Failure(PKECHO_BACKEND_VERSION, "the engine was built with OpenVINO " + built +
                                                  ", this is " + own_version() +
                                                  ". Install that release's back-end");
    }
}

// T of a clip or stream engine; 0 of any other.
int64_t window_length(const pkecho_backend_engine &engine) noexcept {
    for (size_t index = 0; index < engine.input_count; ++index) {
        const pkecho_backend_tensor &input = engine.inputs[index];
        if (std::strcmp(input.name, "history") == 0) return input.shape[0] + 1;
        if (std::strcmp(input.name, "frames") == 0) return input.shape[0];
    }
    return 0;
}

using Settings = std::vector<std::pair<std::string, std::string>>;

Settings settings_of(const pkecho_backend_engine &engine) {
    const auto option = [&](const char *key, const char *otherwise) {
        return found(engine.options, engine.option_count, key, otherwise);
    };
    Settings settings{{"PERFORMANCE_HINT", "LATENCY"},
                      {"NUM_STREAMS", "1"},
                      {"INFERENCE_PRECISION_HINT", option("float_precision", "f32")}};
    const std::string threads =
        engine.threads != 0 ? std::to_string(engine.threads) : option("threads", "0");
    if (threads != "0") settings.emplace_back("INFERENCE_NUM_THREADS", threads);
    // with other windows OpenVINO 2026.4 dies while it fuses the attention over them
    if (window_length(engine) != fused_window) settings.emplace_back("SNIPPETS_MODE", "DISABLE");
    return settings;
}

// What decides, beside the engine itself, whether what was compiled for it is right here.
std::string facts_of(const ov_core_t *core, const Settings &settings) {
    std::string text = build() + "\n";
    // the last is how many threads there are for those who ask for no number
    for (const char *key : {"FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES", "RANGE_FOR_STREAMS"}) {
        char *value = nullptr;
        const bool is_known = ov_core_get_property(core, "CPU", key, &value) == OK;
        text += std::string(key) + " " + (is_known ? value : "?") + "\n";
        if (is_known) ov_free(value);
    }
    for (const auto &[key, value] : settings) text += key + "=" + value + "\n";
    return text;
}

Tensor tensor_at(ov_element_type_e type, const std::vector<int64_t> &extents, const void *data) {
    ov_shape_t shape{};
    check(ov_shape_create(static_cast<int64_t>(extents.size()), extents.data(), &shape),
          PKECHO_BACKEND_FAILED, "cannot make a shape");
    ov_tensor_t *tensor = nullptr;
    // only inputs are const, and those are only read
    const ov_status_e status =
        ov_tensor_create_from_host_ptr(type, shape, const_cast<void *>(data), &tensor);
    ov_shape_free(&shape);
    check(status, PKECHO_BACKEND_FAILED, "cannot use memory as a tensor");
    return Tensor(tensor);
}

Tensor tensor_of(const pkecho_backend_tensor &described) {
    return tensor_at(described.element == PKECHO_U8 ? U8 : F32,
                     {described.shape, described.shape + described.rank}, described.data);
}

// Whether a port is what is described.
bool fits(const Port &port, const pkecho_backend_tensor &described) {
    char *name = nullptr;
    ov_element_type_e type = DYNAMIC;
    ov_shape_t shape{};
    if (ov_port_get_any_name(port.get(), &name) != OK) return false;
    bool same = std::strcmp(name, described.name) == 0;
    ov_free(name);
    same = same && ov_port_get_element_type(port.get(), &type) == OK &&
           type == (described.element == PKECHO_U8 ? U8 : F32);
    if (!same || ov_const_port_get_shape(port.get(), &shape) != OK) return false;
    same = shape.rank == static_cast<int64_t>(described.rank);
    for (uint32_t axis = 0; same && axis < described.rank; ++axis) {
        same = shape.dims[axis] == described.shape[axis];
    }
    ov_shape_free(&shape);
    return same;
}

using CountPorts = ov_status_e (*)(const ov_compiled_model_t *, size_t *);
using PortAt = ov_status_e (*)(const ov_compiled_model_t *, size_t, ov_output_const_port_t **);

// The ports on one side of a model must be those described, in any order.
void check_ports(const ov_compiled_model_t *model, CountPorts count_ports, PortAt port_at,
                 const pkecho_backend_tensor *described, size_t count) {
    size_t ports = 0;
    bool same = count_ports(model, &ports) == OK && ports == count;
    for (size_t index = 0; same && index < ports; ++index) {
        ov_output_const_port_t *handle = nullptr;
        if (port_at(model, index, &handle) != OK) handle = nullptr;
        const Port port(handle);
        bool known = false;
        for (size_t at = 0; port && !known && at < count; ++at) known = fits(port, described[at]);
        same = known;
    }
    if (!same) {
        throw Failure(PKECHO_ENGINE_INTERFACE,
                      "the engine has other inputs or outputs than its "
                      "manifest says. Build the bundle again");
    }
}

struct Session {
    explicit Session(const pkecho_backend_engine &engine) {
        check_release(engine);
        if (engine.file_count != 2) {
            throw Failure(PKECHO_BACKEND_FAILED,
                          "an engine of OpenVINO has a topology and weights. Build it again");
        }
        ov_core_t *core_handle = nullptr;
        check(ov_core_create(&core_handle), PKECHO_BACKEND_FAILED, "cannot start");
        core.reset(core_handle);
        const Settings settings = settings_of(engine);
        set(settings);  // an import goes by them, too
        BlobCache cache(engine, facts_of(core.get(), settings));
        const bool is_imported = import_from(cache);
        if (!is_imported) compile(engine);
        check_ports(compiled.get(), ov_compiled_model_inputs_size, ov_compiled_model_input_by_index,
                    engine.inputs, engine.input_count);
        check_ports(compiled.get(), ov_compiled_model_outputs_size,
                    ov_compiled_model_output_by_index, engine.outputs, engine.output_count);
        if (is_imported) return;
        cache.keep([&](const char *path) {
            check(ov_compiled_model_export_model(compiled.get(), path), PKECHO_BACKEND_FAILED,
                  "cannot export the engine");
        });
    }

    void set(const Settings &settings) {
        std::vector<ov_property_t> properties;
        for (const auto &[key, value] : settings) {
            properties.push_back({key.c_str(), value.c_str()});
        }
        check(ov_core_set_properties(core.get(), "CPU", properties.size(), properties.data()),
              PKECHO_BACKEND_FAILED, "refused a setting");
    }

    // Whether there was something in the cache to start from.
    bool import_from(BlobCache &cache) {
        const std::string_view blob = cache.find(imported);
        if (blob.empty()) return false;
        ov_compiled_model_t *handle = nullptr;
        const ov_status_e status =
            ov_core_import_model(core.get(), blob.data(), blob.size(), "CPU", &handle);
        if (status != OK) cache.stale("OpenVINO refuses it (" + said(status) + ")");
        compiled.reset(status == OK ? handle : nullptr);
        return status == OK;
    }

    void compile(const pkecho_backend_engine &engine) {
        const pkecho_backend_file &topology = engine.files[0], &weights = engine.files[1];
        weights_tensor = tensor_at(U8, {static_cast<int64_t>(weights.size)}, weights.data);
        ov_model_t *model_handle = nullptr;
        check(ov_core_read_model_from_memory_buffer(
                  core.get(), reinterpret_cast<const char *>(topology.data), topology.size,
                  weights_tensor.get(), &model_handle),
              PKECHO_BACKEND_FAILED, "cannot read the engine");
        const Model model(model_handle);
        ov_compiled_model_t *handle = nullptr;
        check(ov_core_compile_model(core.get(), model.get(), "CPU", 0, &handle),
              PKECHO_BACKEND_FAILED, "cannot compile the engine");
        compiled.reset(handle);
    }

    Core core;
    Tensor weights_tensor;   // constants of the compiled model may lie in it,
    pkecho::Bytes imported;  // or here
    Compiled compiled;
};

struct Request {
    Request(const Session &session, const pkecho_backend_tensor *inputs, size_t input_count,
            const pkecho_backend_tensor *outputs, size_t output_count) {
        ov_infer_request_t *handle = nullptr;
        check(ov_compiled_model_create_infer_request(session.compiled.get(), &handle),
              PKECHO_BACKEND_FAILED, "cannot make a request");
        request.reset(handle);
        for (size_t index = 0; index < input_count; ++index) tie(inputs[index]);
        for (size_t index = 0; index < output_count; ++index) tie(outputs[index]);
    }

    void tie(const pkecho_backend_tensor &described) {
        tensors.push_back(tensor_of(described));
        check(ov_infer_request_set_tensor(request.get(), described.name, tensors.back().get()),
              PKECHO_ENGINE_INTERFACE, "refused a tensor");
    }

    std::vector<Tensor> tensors;
    InferRequest request;
};

pkecho_status say(pkecho_status status, const char *text, char *message, size_t size) noexcept {
    std::snprintf(message, size, "%s", text);
    return status;
}

template <typename Work>
pkecho_status guarded(char *message, size_t size, const Work &work) noexcept {
    try {
        work();
        return PKECHO_OK;
    } catch (const Failure &failure) {
        return say(failure.status(), failure.what(), message, size);
    } catch (const std::bad_alloc &) {
        return say(PKECHO_OUT_OF_MEMORY, "there is not enough memory. Free some", message, size);
    } catch (const std::exception &other) {
        return say(PKECHO_BACKEND_FAILED, other.what(), message, size);
    } catch (...) {
        return say(PKECHO_BACKEND_FAILED, "OpenVINO threw something", message, size);
    }
}

const char *runtime() {
    static const std::string name = "OpenVINO " + own_version();
    return name.c_str();
}

pkecho_status load(const pkecho_backend_engine *engine, void **session, int *built, char *message,
                   size_t message_size) {
    // Also where it was imported, unlike a plan of TensorRT: its name and its hash say that this
    // OpenVINO made it on such a processor of the bytes that were verified, and it holds the graph
    // alone: kernels are chosen anew at every start. A test would cost half of what the cache
    // saves.
    *built = 0;
    return guarded(message, message_size, [&] { *session = new Session(*engine); });
}

void unload(void *session) { delete static_cast<Session *>(session); }

pkecho_status bind(void *session, const pkecho_backend_tensor *inputs, size_t input_count,
                   const pkecho_backend_tensor *outputs, size_t output_count, void **request,
                   char *message, size_t message_size) {
    return guarded(message, message_size, [&] {
        *request = new Request(*static_cast<Session *>(session), inputs, input_count, outputs,
                               output_count);
    });
}

pkecho_status run(void *request, char *message, size_t message_size) {
    const ov_status_e status =
        ov_infer_request_infer(static_cast<Request *>(request)->request.get());
    if (status == OK) return PKECHO_OK;
    return guarded(message, message_size,
                   [&] { check(status, PKECHO_INFERENCE_FAILED, "failed on a frame"); });
}

void unbind(void *request) { delete static_cast<Request *>(request); }

const pkecho_backend backend = {PKECHO_BACKEND_ABI,
                                "openvino",
                                runtime,
                                load,
                                unload,
                                nullptr,  // any memory is as good
                                nullptr,
                                bind,
                                run,
                                unbind};

}  // namespace

extern "C" const pkecho_backend *pkecho_backend_entry(void) { return &backend; }
