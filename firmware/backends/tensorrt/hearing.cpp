#include "hearing.h"

#include <cstdint>

namespace pkecho::tensorrt {

namespace {

constexpr size_t kLineBytes = 300, kErrors = 3, kWaiting = 1000;

thread_local Hearing *mine = nullptr;

std::mutex &others_mutex() {
    static auto *mutex = new std::mutex;  // never gone: threads may talk at the process's end
    return *mutex;
}

Hearing *others = nullptr;  // guarded by others_mutex

}  // namespace

std::string one_line(std::string_view text) {
    std::string line;
    for (const char c : text) {
        const auto byte = static_cast<uint8_t>(c);
        const bool is_space = c == '\n' || c == '\r' || c == '\t' || c == ' ';
        if (is_space && (line.empty() || line.back() == ' ')) continue;
        line += is_space ? ' ' : byte < 0x20 || byte == 0x7F ? '?' : c;
        if (line.size() > kLineBytes) break;
    }
    if (line.size() > kLineBytes) {
        line.resize(kLineBytes - 3);
        // not in the middle of a character
        while (!line.empty() && (static_cast<uint8_t>(line.back()) & 0xC0) == 0x80) line.pop_back();
        if (!line.empty() && static_cast<uint8_t>(line.back()) >= 0xC0) line.pop_back();
        return line + "...";
    }
    while (!line.empty() && line.back() == ' ') line.pop_back();
    return line;
}

Hearing::Hearing(pkecho_log log, void *user, bool hears_others)
    : log_(log), user_(user), hears_others_(hears_others), before_(mine) {
    mine = this;
    if (!hears_others_) return;
    const std::lock_guard<std::mutex> lock(others_mutex());
    others = this;
}

Hearing::~Hearing() {
    mine = before_;
    if (hears_others_) {
        const std::lock_guard<std::mutex> lock(others_mutex());
        others = nullptr;
    }
    pass_on();
}

void Hearing::say(pkecho_log_level level, const std::string &line) const noexcept {
    if (log_ != nullptr) log_(user_, level, line.c_str());
}

void Hearing::pass_on() noexcept {
    decltype(waiting_) lines;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        lines.swap(waiting_);
    }
    for (const auto &[level, line] : lines) say(level, line);
}

std::string Hearing::errors(const char *otherwise) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::string text;
    for (const std::string &line : errors_) text += (text.empty() ? "" : "; ") + line;
    errors_.clear();
    return text.empty() ? otherwise : text;
}

void Hearing::hear(pkecho_log_level level, std::string line, bool on_own_thread) {
    if (on_own_thread) say(level, line);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (level == PKECHO_LOG_ERROR) {
        errors_.push_back(line);
        if (errors_.size() > kErrors) errors_.pop_front();
    }
    if (!on_own_thread && waiting_.size() < kWaiting) waiting_.emplace_back(level, std::move(line));
}

class Ear final : public nvinfer1::ILogger {
public:
    void log(Severity severity, const nvinfer1::AsciiChar *message) noexcept override {
        if (severity > Severity::kINFO || message == nullptr) return;
        const pkecho_log_level level = severity <= Severity::kERROR     ? PKECHO_LOG_ERROR
                                       : severity == Severity::kWARNING ? PKECHO_LOG_WARNING
                                                                        : PKECHO_LOG_INFO;
        try {
            std::string line = one_line(message);
            if (mine != nullptr) return mine->hear(level, "TensorRT: " + line, true);
            const std::lock_guard<std::mutex> lock(others_mutex());
            if (others != nullptr) others->hear(level, "TensorRT: " + line, false);
        } catch (...) {  // no memory for a line: TensorRT must not hear of it
        }
    }
};

nvinfer1::ILogger &logger() noexcept {
    static auto *ear = new Ear;
    return *ear;
}

}  // namespace pkecho::tensorrt
