// An engine of a bundle, loaded; and the window of a stream on it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bundle.h"
#include "library.h"

namespace pkecho {

struct EngineChoice {
    std::string backend_dir, cache_dir;  // "" for the default, and for none
    uint32_t threads = 0;                // 0: as the manifest says
};

class Engine {
public:
    // Load the engine of a mode. Throws Failure, as pkecho.h lists it.
    static std::shared_ptr<const Engine> load(std::shared_ptr<const Bundle> bundle,
                                              const std::string &mode, const EngineChoice &choice);

    const Bundle &bundle() const noexcept { return *bundle_; }
    const Manifest &manifest() const noexcept { return bundle_->manifest; }
    const EngineEntry &entry() const noexcept { return *entry_; }
    const std::shared_ptr<const Session> &session() const noexcept { return session_; }
    // What a manifest's option says, "" where it says nothing.
    std::string option(const std::string &name) const;
    double load_ms() const noexcept { return load_ms_; }

private:
    std::shared_ptr<const Bundle> bundle_;  // its bytes are the session's, too
    const EngineEntry *entry_ = nullptr;
    std::shared_ptr<const Session> session_;
    double load_ms_ = 0;
};

// The T newest frames of a stream, as features in the history that the engine reads and writes. Two
// histories swap roles at every frame, so nothing is copied.
class Window {
public:
    explicit Window(const std::shared_ptr<const Engine> &engine);

    uint8_t *frame() const noexcept { return frame_.as<uint8_t>(); }      // [H, W], write here
    const float *logits() const noexcept { return logits_.as<float>(); }  // [H, W], of the newest
    int pushed() const noexcept { return pushed_; }

    // Take `frame` into the window and segment it into `logits`. `anew`: forget every earlier frame
    // first, so that the window holds copies of this one. What fails leaves the window as it was,
    // or empty where it began anew.
    pkecho_status advance(bool anew, char *message, size_t message_size) noexcept;
    void restart() noexcept { pushed_ = 0; }
    // Whether the logits are; `advance` fails where they are not.
    bool finite() const noexcept;

private:
    pkecho_status step(char *message, size_t message_size) noexcept;

    std::shared_ptr<const Engine> engine_;
    size_t pixels_, slots_, slot_;  // of the logits; T - 1; floats of one frame's features
    TensorMemory frame_, logits_;
    TensorMemory histories_[2];
    std::unique_ptr<Request> steps_[2];  // which reads histories_[i] and writes the other
    int reads_ = 0;
    int pushed_ = 0;
};

}  // namespace pkecho
