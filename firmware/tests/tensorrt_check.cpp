// The TensorRT back-end, through its C interface, against the stand-in beside this file.
//
//     tensorrt_check SCENARIO FOLDER
//
// 0 where all held. The folder is the scenario's own. tests/firmware/test_tensorrt_backend.py
// builds and runs it, and says what each scenario is about.

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "../backends/common/files.h"
#include "../backends/tensorrt/compat.h"
#include "../backends/tensorrt/onnx.h"
#include "../backends/tensorrt/values.h"
#include "pkecho_backend.h"
#include "tensorrt_stand_in/stand_in.h"

#define HOLDS(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                                \
        }                                                                                \
    } while (false)

namespace {

using pkecho::tensorrt::text_at;
using pkecho::tensorrt::Value;

constexpr bool kStrong = pkecho::tensorrt::kStronglyTyped;
const std::string kGraph = kStrong ? "stream.int8-typed.onnx" : "stream.int8.onnx";
const std::string kBundle = "pkb-0123456789abcdef0123456789abcdef";

bool contains(const std::string &text, const std::string &part) {
    return text.find(part) != std::string::npos;
}

std::string read(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::string &path, const std::string &text) {
    std::ofstream(path, std::ios::binary) << text;
}

// ---- An ONNX file, written by hand
// ---------------------------------------------------------------

std::string varint(size_t value) {
    std::string out;
    for (; value > 127; value >>= 7) out += static_cast<char>(value | 128);
    return out + static_cast<char>(value);
}
std::string number(unsigned field, size_t value) { return varint(field << 3) + varint(value); }
std::string bytes(unsigned field, const std::string &content) {
    return varint(field << 3 | 2) + varint(content.size()) + content;
}
std::string node(const std::string &name, const std::string &kind) {
    return bytes(1, bytes(3, name) + bytes(4, kind));
}
std::string outside(const std::string &file, const std::string &offset, const std::string &length) {
    const auto pair = [](const std::string &key, const std::string &value) {
        return bytes(13, bytes(1, key) + bytes(2, value));
    };
    return bytes(5, number(1, 4) + number(2, 1) + bytes(8, "w") + pair("location", file) +
                        pair("offset", offset) + pair("length", length) + number(14, 1));
}
std::string model(const std::string &initializer) {
    const std::string inside =
        bytes(5, number(1, 1) + number(2, 1) + bytes(8, "b") + bytes(9, "BIAS"));
    const std::string graph = node("conv1", "Conv") + node("/head/twist", "Twist");
    return number(1, 8) + bytes(7, graph + initializer + inside + bytes(2, "graph")) +
           bytes(8, number(2, 17));
}

// ---- An engine, as libpkecho describes it
// --------------------------------------------------------

struct Spec {
    std::string name;
    pkecho_element element;
    std::vector<int64_t> shape;
};

struct Case {
    std::map<std::string, std::string> files;
    std::vector<Spec> inputs{{"frame", PKECHO_U8, {1, 1, 4, 4}},
                             {"history", PKECHO_F32, {2, 3, 1, 1}}};
    std::vector<Spec> outputs{{"logits", PKECHO_F32, {1, 1, 4, 4}},
                              {"history_out", PKECHO_F32, {2, 3, 1, 1}}};
    std::string cache, kit = "feed";
    std::string cuda_graph = "on";
    std::string profile_tensorrt = pkecho::tensorrt::header_version(), compute_capability = "8.7";
    std::vector<std::pair<pkecho_log_level, std::string>> log;

    void *session = nullptr;
    std::string message;
    int built = 0;
};

std::string recipe(const Case &self) {
    return R"({"schema": "pkecho-edge/recipe/1", "half_flags": true, "weights": ["weights.bin"],
        "profile": {"name": "board", "workspace_mb": 64, "tensorrt": ")" +
           self.profile_tensorrt + R"(", "compute_capability": ")" + self.compute_capability +
           R"("},
        "modes": {"stream": {"float32_nodes": ["/head/twist", "kept"], "graphs": {
        "int8": {"weak": "stream.int8.onnx", "strong": "stream.int8-typed.onnx"}}}}})";
}

Case a_case(const std::string &folder) {
    Case self;
    self.cache = folder + "/cache";
    self.files[kGraph] = model(outside("weights.bin", "4", "16"));
    self.files["weights.bin"] = "----SIXTEEN WEIGHTS.----";
    stand_in().tensors = {{"frame", true, true, {1, 1, 4, 4}},
                          {"history", true, false, {2, 3, 1, 1}},
                          {"logits", false, false, {1, 1, 4, 4}},
                          {"history_out", false, false, {2, 3, 1, 1}}};
    stand_in().layers = {{"conv1"},
                         {"/head/twist"},
                         {"/head/twist_7"},
                         {"kept [shape]", true},
                         {"kept", false, true},
                         {"conv2_3"}};
    return self;
}

size_t size_of(const Spec &spec) {
    size_t count = spec.element == PKECHO_U8 ? 1 : 4;
    for (const int64_t side : spec.shape) count *= static_cast<size_t>(side);
    return count;
}

std::vector<pkecho_backend_tensor> tensors_of(const std::vector<Spec> &specs) {
    std::vector<pkecho_backend_tensor> tensors;
    for (const Spec &spec : specs) {
        pkecho_backend_tensor tensor{};
        tensor.name = spec.name.c_str();
        tensor.element = spec.element;
        tensor.rank = static_cast<uint32_t>(spec.shape.size());
        std::copy(spec.shape.begin(), spec.shape.end(), tensor.shape);
        tensor.bytes = size_of(spec);
        tensors.push_back(tensor);
    }
    return tensors;
}

void hear(void *user, pkecho_log_level level, const char *text) {
    HOLDS(!contains(text, "\n"));
    static_cast<Case *>(user)->log.emplace_back(level, text);
}

const pkecho_backend &backend() { return *pkecho_backend_entry(); }

pkecho_status load(Case &self) {
    if (self.files.count("recipe.json") == 0) self.files["recipe.json"] = recipe(self);
    std::vector<std::string> hashes;
    for (const auto &[name, data] : self.files) hashes.push_back(pkecho::sha256(data));
    std::vector<pkecho_backend_file> files;
    for (const auto &[name, data] : self.files) {
        files.push_back({name.c_str(), reinterpret_cast<const uint8_t *>(data.data()), data.size(),
                         hashes[files.size()].c_str()});
    }
    const std::vector<pkecho_backend_tensor> inputs = tensors_of(self.inputs),
                                             outputs = tensors_of(self.outputs);
    const pkecho_backend_pair option{"cuda_graph", self.cuda_graph.c_str()};
    const pkecho_backend_pair tool{"device_kit", self.kit.c_str()};
    pkecho_backend_engine engine{};
    engine.struct_size = sizeof engine;
    engine.bundle_id = kBundle.c_str();
    engine.target = "jetson", engine.profile = "board", engine.mode = "stream";
    engine.files = files.data(), engine.file_count = files.size();
    engine.inputs = inputs.data(), engine.input_count = inputs.size();
    engine.outputs = outputs.data(), engine.output_count = outputs.size();
    engine.options = &option, engine.option_count = 1;
    engine.toolchain = &tool, engine.toolchain_count = self.kit.empty() ? 0 : 1;
    engine.cache_dir = self.cache.c_str();
    engine.log = hear, engine.log_user = &self;
    char message[PKECHO_MESSAGE_SIZE] = "";
    self.log.clear();
    self.session = nullptr;
    self.built = 0;
    const pkecho_status status =
        backend().load(&engine, &self.session, &self.built, message, sizeof message);
    self.message = message;
    HOLDS((status == PKECHO_OK) == (self.session != nullptr));
    HOLDS((status == PKECHO_OK) == self.message.empty());
    HOLDS(status != PKECHO_OK || self.built == 1);
    return status;
}

void unload(Case &self) {
    backend().unload(self.session);
    self.session = nullptr;
}

bool is_said(const Case &self, pkecho_log_level level, const std::string &part) {
    for (const auto &[at, line] : self.log) {
        if (at == level && contains(line, part)) return true;
    }
    return false;
}

bool warns(const Case &self, const std::string &part) {
    return is_said(self, PKECHO_LOG_WARNING, part);
}

bool warns_at_all(const Case &self) { return warns(self, ""); }

// Memory and a request, as a stream has them.
struct Bound {
    explicit Bound(Case &owner, bool is_locked = true) : self(owner), is_locked(is_locked) {
        inputs = tensors_of(self.inputs), outputs = tensors_of(self.outputs);
        for (auto *each : {&inputs, &outputs}) {
            for (auto &tensor : *each) tensor.data = memory(tensor.bytes);
        }
        std::swap(outputs[0], outputs[1]);  // names decide, not places
        char text[PKECHO_MESSAGE_SIZE] = "";
        status = backend().bind(self.session, inputs.data(), inputs.size(), outputs.data(),
                                outputs.size(), &request, text, sizeof text);
        message = text;
    }
    ~Bound() {
        if (request != nullptr) backend().unbind(request);
        for (auto *each : {&inputs, &outputs}) {
            for (auto &tensor : *each) {
                is_locked ? backend().release(self.session, tensor.data) : std::free(tensor.data);
            }
        }
    }
    void *memory(size_t size) const {
        void *found = is_locked ? backend().allocate(self.session, size) : std::calloc(1, size);
        if (found != nullptr && is_locked) {
            HOLDS(reinterpret_cast<uintptr_t>(found) % 64 == 0);
            for (size_t i = 0; i < size; ++i) HOLDS(static_cast<char *>(found)[i] == 0);
        }
        return found;
    }
    pkecho_status run() {
        char text[PKECHO_MESSAGE_SIZE] = "";
        status = backend().run(request, text, sizeof text);
        message = text;
        return status;
    }
    uint8_t *frame() { return static_cast<uint8_t *>(inputs[0].data); }
    float *history() { return static_cast<float *>(inputs[1].data); }
    float *history_out() { return static_cast<float *>(outputs[0].data); }
    float *logits() { return static_cast<float *>(outputs[1].data); }

    // Another frame in, and what the stand-in's rule gives out.
    void runs_right(uint8_t grey) {
        for (int i = 0; i < 16; ++i) frame()[i] = static_cast<uint8_t>(grey + i);
        for (int i = 0; i < 6; ++i) history()[i] = grey + 0.5f;
        HOLDS(run() == PKECHO_OK);
        for (int i = 0; i < 16; ++i) HOLDS(logits()[i] == 2.0f * (grey + i) + grey + 0.5f);
        for (int i = 0; i < 6; ++i) HOLDS(history_out()[i] == grey + 1.5f);
    }

    Case &self;
    bool is_locked;
    std::vector<pkecho_backend_tensor> inputs, outputs;
    void *request = nullptr;
    pkecho_status status = PKECHO_OK;
    std::string message;
};

// Nothing is left.
void is_clean() {
    const StandIn &here = stand_in();
    HOLDS(here.objects == 0 && here.device_blocks == 0 && here.host_blocks == 0);
    HOLDS(here.streams == 0 && here.graphs == 0);
}

std::string home(const Case &self) { return self.cache + "/" + kBundle; }
std::string record_path(const Case &self) {
    return home(self) + (self.kit.empty() ? "/libpkecho-stream-int8.json" : "/stream-int8.json");
}
Value parsed(const std::string &text) {
    return pkecho::json::parse(text, {PKECHO_INTERNAL, "a test"});
}
Value record(const Case &self) { return parsed(read(record_path(self))); }
std::string plan_path(const Case &self) { return home(self) + "/" + text_at(record(self), "plan"); }

void loads_and_runs(Case &self) {
    HOLDS(load(self) == PKECHO_OK);
    {
        Bound bound(self);
        HOLDS(bound.status == PKECHO_OK);
        for (uint8_t grey = 1; grey < 5; ++grey) bound.runs_right(grey);
    }
    unload(self);
    is_clean();
}

// ---- Scenarios
// -----------------------------------------------------------------------------------

void build(const std::string &folder) {
    Case self = a_case(folder);
    loads_and_runs(self);
    const StandIn &here = stand_in();
    HOLDS(here.builds == 1 && here.workspace == 64u << 20);
    HOLDS(here.is_strong == kStrong && here.is_explicit != kStrong);
    const std::set<std::string> flags{"FP16", "INT8", "OBEY"}, kept{"/head/twist", "/head/twist_7"};
    HOLDS(here.flags == (kStrong ? std::set<std::string>{} : flags));
    HOLDS(here.in_fp32 == (kStrong ? std::set<std::string>{} : kept));
    HOLDS(is_said(self, PKECHO_LOG_INFO, "building stream-int8 from " + kGraph));
    HOLDS(is_said(self, PKECHO_LOG_INFO, "TensorRT: said by another thread in two lines"));
    HOLDS(!warns_at_all(self));
    // the plan was made of the bytes that were given
    const std::string given(here.model.begin(), here.model.end());
    const std::string whole =
        bytes(5, number(1, 4) + number(2, 1) + bytes(8, "w") + bytes(9, "SIXTEEN WEIGHTS."));
    HOLDS(given == model(whole));
    const std::string plan = read(plan_path(self));
    HOLDS(text_at(record(self), "sha256") == pkecho::sha256(plan));
    HOLDS(text_at(record(self), "schema") == "pkecho-edge/plan/1");
    HOLDS(contains(backend().runtime(), "TensorRT "));
    HOLDS(backend().abi == PKECHO_BACKEND_ABI && std::string(backend().name) == "tensorrt");
}

void cache_hit(const std::string &folder) {
    Case self = a_case(folder);
    loads_and_runs(self);
    for (int i = 0; i < 2; ++i) {
        loads_and_runs(self);
        HOLDS(stand_in().builds == 1 && !warns_at_all(self));
    }
}

void stale(const std::string &folder) {
    Case self = a_case(folder);
    loads_and_runs(self);
    const std::string first = plan_path(self);
    int builds = 1;
    const auto is_rebuilt = [&](const std::string &why) {
        loads_and_runs(self);
        HOLDS(stand_in().builds == ++builds && warns(self, "PKECHO_STALE_PLAN") &&
              warns(self, why));
        loads_and_runs(self);
        HOLDS(stand_in().builds == builds && !warns_at_all(self));
    };
    self.files["weights.bin"] = "----sixteen weights.----";
    is_rebuilt("other graphs or options");
    HOLDS(::access(first.c_str(), F_OK) != 0);  // the old plan went
    self.files[kGraph] += bytes(6, "another domain");
    is_rebuilt("other graphs or options");
    self.files["recipe.json"].replace(self.files["recipe.json"].find("\"kept\""), 6, "\"skip\"");
    is_rebuilt("other graphs or options");
    self.kit = "another kit";
    is_rebuilt("other graphs or options");
    stand_in().driver = 13000;
    is_rebuilt("driver 12.6), this is");
    stand_in().gpu = "Another", stand_in().sms = 16;
    is_rebuilt("16 SMs");
    stand_in().version += 1;
    is_rebuilt("built for Another");
}

void tampered_plan(const std::string &folder) {
    Case self = a_case(folder);
    loads_and_runs(self);
    const std::string plan = read(plan_path(self));
    write(plan_path(self), plan + "x");
    loads_and_runs(self);
    HOLDS(stand_in().builds == 2 && warns(self, "PKECHO_STALE_PLAN") && warns(self, "other bytes"));
    ::unlink(plan_path(self).c_str());
    loads_and_runs(self);
    HOLDS(stand_in().builds == 3 && warns(self, "is gone"));
    // a link is not followed, wherever it leads
    const std::string path = plan_path(self), elsewhere = folder + "/elsewhere";
    HOLDS(std::rename(path.c_str(), elsewhere.c_str()) == 0);
    HOLDS(::symlink(elsewhere.c_str(), path.c_str()) == 0);
    loads_and_runs(self);
    HOLDS(stand_in().builds == 4 && warns(self, "PKECHO_STALE_PLAN"));
    HOLDS(::access(elsewhere.c_str(), F_OK) == 0);
}

void damaged_record(const std::string &folder) {
    Case self = a_case(folder);
    loads_and_runs(self);
    const std::string whole = read(record_path(self));
    int builds = 1;
    const auto is_rebuilt = [&](const std::string &text) {
        write(record_path(self), text);
        HOLDS(load(self) == PKECHO_OK);
        unload(self);
        HOLDS(stand_in().builds == ++builds && warns(self, "PKECHO_STALE_PLAN"));
    };
    for (size_t size = 0; size < whole.size() - 2; size += 41) is_rebuilt(whole.substr(0, size));
    for (const char *text :
         {"[]", "{}", "null", "{\"schema\": 1}", "{\"schema\": \"pkecho-edge/plan/2\"}",
          "{\"a\": 1, \"a\": 2}", "{\"schema\": \"\\ud800\"}", "01", "{\"a\": -}"}) {
        is_rebuilt(text);
    }
    is_rebuilt(std::string(100000, '['));
    std::string escape = whole;
    const size_t at = escape.find("\"stream-int8-");
    escape.replace(at, 13, "\"../stream-int8-");
    is_rebuilt(escape);
    is_clean();
}

void refused_plan(const std::string &folder) {
    Case self = a_case(folder);
    loads_and_runs(self);
    stand_in().load_fails = true;  // TensorRT's own check, after ours have passed
    loads_and_runs(self);
    HOLDS(stand_in().builds == 2 && warns(self, "PKECHO_STALE_PLAN") &&
          warns(self, "not compatible"));
}

void no_cache(const std::string &folder) {
    Case self = a_case(folder);
    self.cache.clear();
    loads_and_runs(self);
    loads_and_runs(self);
    HOLDS(stand_in().builds == 2 && warns(self, "no cache_dir"));
}

void unwritable_cache(const std::string &folder) {
    Case self = a_case(folder);
    write(folder + "/file", "");
    self.cache = folder + "/file/cache";  // root may write to every folder, but not below a file
    loads_and_runs(self);
    HOLDS(stand_in().builds == 1 && warns(self, "cannot be kept"));
    self.cache = folder + "/cache";
    ::mkdir(self.cache.c_str(), 0755);
    ::mkdir(home(self).c_str(), 0755);
    ::mkdir((record_path(self) + ".partial").c_str(), 0755);
    loads_and_runs(self);
    HOLDS(stand_in().builds == 2 && warns(self, "cannot be kept"));
    ::rmdir((record_path(self) + ".partial").c_str());
    loads_and_runs(self);
    HOLDS(stand_in().builds == 3 && !warns_at_all(self));
}

void interface_differs(const std::string &folder) {
    Case self = a_case(folder);
    const auto is_refused = [&](const std::string &part) {
        HOLDS(load(self) == PKECHO_ENGINE_INTERFACE);
        HOLDS(contains(self.message, part));
        is_clean();
    };
    stand_in().tensors[2].shape[3] = 5;
    is_refused("output logits f32 [1, 1, 4, 5]");
    stand_in().tensors[2].shape[3] = 4;
    stand_in().tensors[0].is_u8 = false;
    is_refused("input frame f32 [1, 1, 4, 4]");
    stand_in().tensors[0].is_u8 = true;
    stand_in().tensors.push_back({"more", false, false, {1}});
    is_refused("output more");
    stand_in().tensors.pop_back();
    stand_in().tensors[3].name = "memory";
    is_refused("output memory");
    HOLDS(::access(record_path(self).c_str(), F_OK) != 0);  // such a plan is not kept
    stand_in().tensors[3].name = "history_out";
    loads_and_runs(self);
    const int builds = stand_in().builds;
    // a plan of the cache that has another interface is built once more
    std::string plan = read(plan_path(self));
    plan.replace(plan.find("logits 0"), 8, "logits 1");
    write(plan_path(self), plan);
    std::string text = read(record_path(self));
    const std::string hash = text_at(record(self), "sha256");
    text.replace(text.find("\"sha256\": \"") + 11, 64, pkecho::sha256(plan));
    write(record_path(self), text);
    loads_and_runs(self);
    HOLDS(stand_in().builds == builds + 1 && warns(self, "input logits"));
}

void build_fails(const std::string &folder) {
    Case self = a_case(folder);
    stand_in().build_fails = true;
    HOLDS(load(self) == PKECHO_BACKEND_FAILED);
    HOLDS(contains(self.message, "Could not find any implementation for node conv1"));
    HOLDS(is_said(self, PKECHO_LOG_ERROR, "TensorRT: Could not find"));
    stand_in().build_fails = false;
    stand_in().parse_error_node = 1;
    HOLDS(load(self) == PKECHO_BACKEND_FAILED);
    HOLDS(contains(self.message, "cannot parse " + kGraph));
    HOLDS(contains(self.message, "/head/twist (Twist): No importer"));
    stand_in().parse_error_node = -1;
    stand_in().free_mb = 63;
    HOLDS(load(self) == PKECHO_OUT_OF_MEMORY && contains(self.message, "63 MB"));
    is_clean();
    stand_in().free_mb = 64;
    loads_and_runs(self);
}

void damaged_files(const std::string &folder) {
    const Case whole = a_case(folder);
    const auto is_refused = [&](const std::function<void(Case &)> &damage,
                                const std::string &part) {
        Case self = whole;
        damage(self);
        HOLDS(load(self) == PKECHO_BACKEND_FAILED);
        if (!contains(self.message, part)) std::fprintf(stderr, "%s\n", self.message.c_str());
        HOLDS(contains(self.message, part));
        is_clean();
    };
    const auto with = [&](const std::string &initializer) {
        return [=](Case &self) { self.files[kGraph] = model(initializer); };
    };
    is_refused(with(outside("other.bin", "0", "4")),
               "\"other.bin\", which the engine does not have");
    is_refused(with(outside("../weights.bin", "0", "4")), "does not have");
    is_refused(with(outside("weights.bin", "20", "5")), "behind its file's end");
    is_refused(with(outside("weights.bin", "25", "0")), "behind its file's end");
    is_refused(with(outside("weights.bin", "4", "18446744073709551615")), "behind its file's end");
    is_refused(with(outside("weights.bin", "99999999999999999999999", "1")), "no number");
    is_refused(with(outside("weights.bin", "-1", "1")), "no number");
    for (size_t size = 0; size < whole.files.at(kGraph).size() - 12; size += 3) {
        is_refused([&](Case &self) { self.files[kGraph].resize(size); },
                   kGraph + " cannot be used");
    }
    is_refused([](Case &self) { self.files[kGraph] = std::string(40, '\xff'); }, "no ONNX");
    is_refused([](Case &self) { self.files.erase("weights.bin"); }, "weights.bin is missing");
    is_refused([](Case &self) { self.files.erase(kGraph); }, kGraph + " is missing");
    is_refused([](Case &self) { self.files["recipe.json"] = "{"; }, "recipe.json: is not JSON");
    is_refused(
        [](Case &self) { self.files["recipe.json"] = "{\"schema\": \"pkecho-edge/recipe/1\"}"; },
        "\"profile\" is missing");
}

void wrong_device(const std::string &folder) {
    Case self = a_case(folder);
    self.compute_capability = "7.2";
    HOLDS(load(self) == PKECHO_BACKEND_FAILED && contains(self.message, "7.2, this is 8.7"));
    self = a_case(folder);
    self.profile_tensorrt = "12.0.1";
    HOLDS(load(self) == PKECHO_BACKEND_VERSION &&
          contains(self.message, "TensorRT 12.0.1, this is"));
    self = a_case(folder);
    self.profile_tensorrt = "8.4.1";
    HOLDS(load(self) == PKECHO_OK && warns(self, "newer than the profile's 8.4.1"));
    unload(self);
    self = a_case(folder);
    stand_in().version += NV_TENSORRT_MAJOR >= 10 ? 10000 : 1000;
    HOLDS(load(self) == PKECHO_BACKEND_VERSION && contains(self.message, "compiled for TensorRT"));
    is_clean();
}

void run_fails(const std::string &folder) {
    Case self = a_case(folder);
    HOLDS(load(self) == PKECHO_OK);
    {
        Bound bound(self);
        bound.runs_right(1);
        stand_in().capture_fails = true;  // the plain way stays
        stand_in().enqueue_fails = true;
        HOLDS(bound.run() == PKECHO_INFERENCE_FAILED);
        HOLDS(contains(bound.message, "Cuda failure in enqueueV3"));
        stand_in().enqueue_fails = false;
        bound.runs_right(2);
        stand_in().sync_fails = true;
        HOLDS(bound.run() == PKECHO_INFERENCE_FAILED);
        HOLDS(contains(bound.message, "launch failure"));
        stand_in().sync_fails = false;
        bound.runs_right(3);
    }
    unload(self);
    is_clean();
}

void cuda_graph(const std::string &folder) {
    Case self = a_case(folder);
    HOLDS(load(self) == PKECHO_OK);
    {
        Bound one(self), two(self);
        for (uint8_t grey = 1; grey < 6; ++grey) one.runs_right(grey), two.runs_right(grey);
        HOLDS(stand_in().launches == 8);
        stand_in().capture_fails = true;
        Bound three(self);
        for (uint8_t grey = 1; grey < 6; ++grey) three.runs_right(grey);
        HOLDS(stand_in().launches == 8);
        stand_in().capture_fails = false;
    }
    unload(self);
    self.cuda_graph = "off";
    loads_and_runs(self);
    HOLDS(stand_in().launches == 8);
}

void integrated(const std::string &folder) {
    Case self = a_case(folder);
    stand_in().is_integrated = true;
    HOLDS(load(self) == PKECHO_OK);
    {
        Bound own(self);
        HOLDS(stand_in().device_blocks == 0);
        for (uint8_t grey = 1; grey < 4; ++grey) own.runs_right(grey);
        HOLDS(stand_in().copies == 0);
        Bound foreign(self, false);  // of malloc: the GPU does not see it
        HOLDS(stand_in().device_blocks == 4);
        for (uint8_t grey = 1; grey < 4; ++grey) foreign.runs_right(grey);
        HOLDS(stand_in().copies == 8);  // of the first run and of the capture
    }
    unload(self);
    is_clean();
    stand_in().is_integrated = false;
    self = a_case(folder);
    HOLDS(load(self) == PKECHO_OK);
    {
        Bound foreign(self, false);
        for (uint8_t grey = 1; grey < 4; ++grey) foreign.runs_right(grey);
        void *left = backend().allocate(self.session, 0);  // goes with the session
        HOLDS(left != nullptr);
        backend().release(self.session, nullptr);
    }
    unload(self);
    is_clean();
}

void bound_wrongly(const std::string &folder) {
    Case self = a_case(folder);
    HOLDS(load(self) == PKECHO_OK);
    const auto is_refused =
        [&](const std::function<void(std::vector<pkecho_backend_tensor> &)> &change) {
            Bound memory(self);
            std::vector<pkecho_backend_tensor> inputs = memory.inputs;
            change(inputs);
            void *request = nullptr;
            char text[16] = "";  // a short one is filled as far as it goes
            HOLDS(backend().bind(self.session, inputs.data(), inputs.size(), memory.outputs.data(),
                                 2, &request, text, sizeof text) == PKECHO_ENGINE_INTERFACE);
            HOLDS(request == nullptr && std::strlen(text) == 15);
        };
    is_refused([](auto &inputs) { inputs.pop_back(); });
    is_refused([](auto &inputs) { inputs[0].bytes -= 1; });
    is_refused([](auto &inputs) { inputs[0].name = "frames"; });
    is_refused([](auto &inputs) { inputs[0].data = nullptr; });
    unload(self);
    is_clean();
}

// Whichever call of CUDA fails: a status, a message, and nothing left.
void every_call_fails(const std::string &folder) {
    Case self = a_case(folder);
    loads_and_runs(self);
    const auto start = stand_in().calls;
    loads_and_runs(self);
    const int calls = stand_in().calls - start;
    HOLDS(calls > 40);
    int refused = 0;
    for (int call = 1; call <= calls; ++call) {
        stand_in().fail_call = call;
        if (load(self) != PKECHO_OK) {
            ++refused;
            is_clean();
            continue;
        }
        {
            Bound bound(self);
            if (bound.status != PKECHO_OK) {
                HOLDS(!bound.message.empty());
                ++refused;
            } else {
                for (int i = 0; i < 3; ++i) {
                    if (bound.run() == PKECHO_OK) continue;
                    HOLDS(bound.status == PKECHO_INFERENCE_FAILED && !bound.message.empty());
                    ++refused;
                }
                stand_in().fail_call = 0;
                bound.runs_right(7);
            }
        }
        unload(self);
        is_clean();
    }
    HOLDS(refused > 25);
}

void threads(const std::string &folder) {
    Case first = a_case(folder), second = first;
    stand_in().build_sleep_ms = 50;
    std::thread other([&] { HOLDS(load(second) == PKECHO_OK); });
    HOLDS(load(first) == PKECHO_OK);
    other.join();
    HOLDS(stand_in().builds == 1);
    unload(second);
    const auto work = [&] {
        Bound bound(first);
        for (uint8_t grey = 1; grey < 50; ++grey) bound.runs_right(grey);
    };
    std::thread worker(work);
    work();
    worker.join();
    unload(first);
    is_clean();
}

void timings(const std::string &folder) {
    Case self = a_case(folder);
    loads_and_runs(self);
    HOLDS(stand_in().given_timings.empty());
    const std::vector<std::string> names = pkecho::names_in(home(self), "timing-", ".cache");
    HOLDS(names.size() == 1);
    ::unlink(record_path(self).c_str());
    loads_and_runs(self);
    const auto given = [] {
        return std::string(stand_in().given_timings.begin(), stand_in().given_timings.end());
    };
    HOLDS(given() == "timings, grown");
    const std::string path = home(self) + "/" + names[0], whole = read(path);
    for (const std::string &text :
         {whole + "x", whole.substr(0, 40), std::string("timings"), std::string()}) {
        write(path, text);
        ::unlink(record_path(self).c_str());
        loads_and_runs(self);
        HOLDS(given().empty() && read(path) == whole);
    }
}

// Without the hash of the bundle's kit nobody can say what its records are worth.
void no_kit(const std::string &folder) {
    Case self = a_case(folder);
    loads_and_runs(self);
    const std::string kits = read(record_path(self));
    self.kit.clear();
    loads_and_runs(self);
    HOLDS(stand_in().builds == 2 && !warns_at_all(self));
    loads_and_runs(self);
    HOLDS(stand_in().builds == 2);
    self.kit = "feed";
    HOLDS(read(record_path(self)) == kits);
    loads_and_runs(self);
    HOLDS(stand_in().builds == 2);
}

// The kit's `--cache FOLDER` lies one level higher, and its Python knows a fourth number of the
// version. `FOLDER/kit.py` of the test writes the record; here it is used.
void import_prepare(const std::string &folder) {
    Case self = a_case(folder);
    loads_and_runs(self);
}

void import_use(const std::string &folder) {
    Case self = a_case(folder);
    loads_and_runs(self);
    for (const auto &[level, line] : self.log) std::fprintf(stderr, "%d %s\n", level, line.c_str());
    HOLDS(stand_in().builds == 0);
}

// Texts in which C and Python must agree to the byte.
void canonical(const std::string &folder) {
    const std::string text = read(folder + "/in.json");
    write(folder + "/out.json", pkecho::tensorrt::compact(parsed(text)));
}

const std::map<std::string, void (*)(const std::string &)> kScenarios = {
    {"build", build},
    {"cache_hit", cache_hit},
    {"stale", stale},
    {"tampered_plan", tampered_plan},
    {"damaged_record", damaged_record},
    {"refused_plan", refused_plan},
    {"no_cache", no_cache},
    {"unwritable_cache", unwritable_cache},
    {"interface_differs", interface_differs},
    {"build_fails", build_fails},
    {"damaged_files", damaged_files},
    {"wrong_device", wrong_device},
    {"run_fails", run_fails},
    {"cuda_graph", cuda_graph},
    {"integrated", integrated},
    {"bound_wrongly", bound_wrongly},
    {"every_call_fails", every_call_fails},
    {"threads", threads},
    {"timings", timings},
    {"no_kit", no_kit},
    {"import_prepare", import_prepare},
    {"import_use", import_use},
    {"canonical", canonical},
};

}  // namespace

int main(int count, char **words) {
    const auto found = count == 3 ? kScenarios.find(words[1]) : kScenarios.end();
    if (found == kScenarios.end()) {
        std::fprintf(stderr, "usage: tensorrt_check SCENARIO FOLDER\n");
        return 2;
    }
    found->second(words[2]);
    return 0;
}
