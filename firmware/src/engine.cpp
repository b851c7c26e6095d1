#include "engine.h"

#include <chrono>
#include <cstdio>
#include <cstring>

#include "failure.h"

namespace pkecho {

namespace {

constexpr int counted = 1 << 20;  // frames that a window counts: streams run for weeks

// The manifest's rules say that each mode has its tensors, so one that is missing is our own
// defect.
const TensorSpec &named(const std::vector<TensorSpec> &specs, const char *name) {
    for (const TensorSpec &spec : specs) {
        if (spec.name == name) return spec;
    }
    throw Failure(PKECHO_INTERNAL, std::string("no tensor ") + name + ". Please report it");
}

std::vector<pkecho_backend_pair> pairs(const Pairs &from) {
    std::vector<pkecho_backend_pair> found;
    for (const auto &[key, value] : from) found.push_back({key.c_str(), value.c_str()});
    return found;
}

void no_log(void *, pkecho_log_level, const char *) {}

std::shared_ptr<const Session> load_session(const Bundle &bundle, const EngineEntry &entry,
                                            const EngineChoice &choice) {
    std::vector<pkecho_backend_file> files;
    std::vector<std::string> hashes;
    hashes.reserve(entry.files.size());  // their texts must not move
    for (const std::string &name : entry.files) {
        const std::string path = entry.directory + "/" + name;
        const std::vector<uint8_t> *content = bundle.content(path);
        if (content == nullptr) {
            throw Failure(PKECHO_MANIFEST, path + " is not among the files. Build it again");
        }
        hashes.push_back(bundle.sha256(path));
        files.push_back({name.c_str(), content->data(), content->size(), hashes.back().c_str()});
    }
    std::vector<pkecho_backend_tensor> inputs, outputs;
    for (const TensorSpec &spec : entry.inputs) inputs.push_back(described(spec, nullptr));
    for (const TensorSpec &spec : entry.outputs) outputs.push_back(described(spec, nullptr));
    const auto options = pairs(entry.options);
    auto toolchain = pairs(entry.toolchain);
    // plans that the device kit built are known by its hash, too
    const std::string kit = bundle.sha256("device/pkecho_device.py");
    if (!kit.empty()) toolchain.push_back({"device_kit", kit.c_str()});

    pkecho_backend_engine engine{};
    engine.struct_size = sizeof engine;
    engine.bundle_id = bundle.manifest.bundle_id.c_str();
    engine.target = bundle.manifest.target.c_str();
    engine.profile = bundle.manifest.profile.c_str();
    engine.mode = entry.mode.c_str();
    engine.files = files.data();
    engine.file_count = files.size();
    engine.inputs = inputs.data();
    engine.input_count = inputs.size();
    engine.outputs = outputs.data();
    engine.output_count = outputs.size();
    engine.options = options.data();
    engine.option_count = options.size();
    engine.toolchain = toolchain.data();
    engine.toolchain_count = toolchain.size();
    engine.cache_dir = choice.cache_dir.c_str();
    engine.threads = choice.threads;
    engine.log = bundle.log.function != nullptr ? bundle.log.function : no_log;
    engine.log_user = bundle.log.user;
    return std::make_shared<const Session>(
        Library::open(choice.backend_dir, bundle.manifest.target), engine);
}

}  // namespace

std::shared_ptr<const Engine> Engine::load(std::shared_ptr<const Bundle> bundle,
                                           const std::string &mode, const EngineChoice &choice) {
    const auto began = std::chrono::steady_clock::now();
    const EngineEntry *entry = bundle->manifest.engine(mode);
    if (entry == nullptr) {
        throw Failure(PKECHO_NO_ENGINE,
                      "the bundle has no " + mode + " engine. Compile one with --mode both");
    }
    auto engine = std::make_shared<Engine>();
    engine->session_ = load_session(*bundle, *entry, choice);
    engine->entry_ = entry;
    engine->bundle_ = std::move(bundle);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - began;
    engine->load_ms_ = took.count();
    return engine;
}

std::string Engine::option(const std::string &name) const {
    for (const auto &[key, value] : entry_->options) {
        if (key == name) return value;
    }
    return "";
}

Window::Window(const std::shared_ptr<const Engine> &engine)
    : engine_(engine),
      pixels_(element_count(named(engine->entry().outputs, "logits"))),
      slots_(static_cast<size_t>(named(engine->entry().inputs, "history").shape[0])),
      slot_(element_count(named(engine->entry().inputs, "history")) / slots_),
      frame_(engine->session(), pixels_),
      logits_(engine->session(), pixels_ * sizeof(float)),
      histories_{{engine->session(), byte_count(named(engine->entry().inputs, "history"))},
                 {engine->session(), byte_count(named(engine->entry().inputs, "history"))}} {
    const EngineEntry &entry = engine->entry();
    for (int reads = 0; reads < 2; ++reads) {
        const std::vector<BoundTensor> inputs{
            {named(entry.inputs, "frame"), frame_.data()},
            {named(entry.inputs, "history"), histories_[reads].data()}};
        const std::vector<BoundTensor> outputs{
            {named(entry.outputs, "logits"), logits_.data()},
            {named(entry.outputs, "history_out"), histories_[1 - reads].data()}};
        steps_[reads] = std::make_unique<Request>(engine->session(), inputs, outputs);
    }
}

pkecho_status Window::advance(bool anew, char *message, size_t message_size) noexcept {
    if (anew || pushed_ == 0) {
        // whatever the history holds, the newest features are the frame's; but zeros, so that
        // nothing of the frames before can spoil the numbers
        pushed_ = 0;
        std::memset(histories_[reads_].data(), 0, histories_[reads_].bytes());
        const pkecho_status status = step(message, message_size);
        if (status != PKECHO_OK) return status;
        const float *newest = histories_[1 - reads_].as<float>() + (slots_ - 1) * slot_;
        float *first = histories_[reads_].as<float>();
        for (size_t slot = 0; slot < slots_; ++slot) {
            std::memcpy(first + slot * slot_, newest, slot_ * sizeof(float));
        }
    }
    const pkecho_status status = step(message, message_size);
    if (status != PKECHO_OK) return status;
    reads_ = 1 - reads_;
    if (pushed_ < counted) ++pushed_;
    return PKECHO_OK;
}

pkecho_status Window::step(char *message, size_t message_size) noexcept {
    const pkecho_status status = steps_[reads_]->run(message, message_size);
    if (status == PKECHO_OK && !finite()) {
        std::snprintf(message, message_size,
                      "the engine gave logits that are not finite. Run the self-test");
        return PKECHO_INFERENCE_FAILED;
    }
    return status;
}

// Not one by one: what is not finite makes a sum of zeros NaN.
bool Window::finite() const noexcept {
    const float *values = logits();
    float lanes[16] = {};
    size_t at = 0;
    for (; at + 16 <= pixels_; at += 16) {
        for (size_t lane = 0; lane < 16; ++lane) lanes[lane] += values[at + lane] * 0.0f;
    }
    float sum = 0;
    for (; at < pixels_; ++at) sum += values[at] * 0.0f;
    for (const float lane : lanes) sum += lane;
    return sum == 0.0f;
}

}  // namespace pkecho
