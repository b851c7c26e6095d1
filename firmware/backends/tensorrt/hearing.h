// What TensorRT says, on its way to the log callback of the call that made it say so.
#pragma once

#include <NvInferRuntime.h>

#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pkecho.h"

namespace pkecho::tensorrt {

// One line, printable and of bearable length, whatever a library said.
std::string one_line(std::string_view text);

// While it lives, what TensorRT says on this thread goes to a log, and errors are kept for the
// message of a failure. One that `hears_others` also gets what TensorRT's own threads say; there
// is at most one of those at a time, and it passes such lines on at `pass_on` and at its end: a
// callback is only ever called on the thread of its call.
class Hearing {
public:
    explicit Hearing(pkecho_log log = nullptr, void *user = nullptr, bool hears_others = false);
    ~Hearing();
    Hearing(const Hearing &) = delete;
    Hearing &operator=(const Hearing &) = delete;

    void say(pkecho_log_level level, const std::string &line) const noexcept;
    void pass_on() noexcept;

    // The last errors, or `otherwise`; they are forgotten then.
    std::string errors(const char *otherwise);

private:
    friend class Ear;
    void hear(pkecho_log_level level, std::string line, bool on_own_thread);

    pkecho_log log_;
    void *user_;
    bool hears_others_;
    Hearing *before_;
    std::mutex mutex_;
    std::deque<std::string> errors_;
    std::vector<std::pair<pkecho_log_level, std::string>> waiting_;
};

// The logger to give to TensorRT. It keeps a pointer to the first one that a process names, so this
// one never goes, and the library is linked so that it is never unloaded.
nvinfer1::ILogger &logger() noexcept;

}  // namespace pkecho::tensorrt
