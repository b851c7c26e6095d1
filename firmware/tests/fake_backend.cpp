// A back-end of the tests: a network small enough to compute by hand, and every way to fail.
//
//     features[c, y, x] = mean of the 32x32 pixels under (y, x), times (c + 1) / 256
//     logits[p]         = frame[p] - 100 + mean of all features of the window, times 8
//
// The engine's first file is a text of commands, one per line: "fail-load", "fail-bind",
// "fail-run N" (the N-th run of a request, from 0), "nan-run N", "interface", "built", "wait MS".
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>
#include <string>
#include <thread>

#include "pkecho_backend.h"

namespace {

constexpr size_t block = 32;

struct Session {
    std::map<std::string, int> commands;

    // The number behind a command, -1 where it is not given.
    int of(const char *name) const {
        const auto found = commands.find(name);
        return found == commands.end() ? -1 : found->second;
    }
};

struct Request {
    const Session *session;
    const uint8_t *frame = nullptr;
    const float *history = nullptr;
    float *logits = nullptr, *history_out = nullptr;
    size_t slots = 0, channels = 0, height = 0, width = 0;
    int runs = 0;
};

pkecho_status say(pkecho_status status, const char *text, char *message, size_t size) {
    std::snprintf(message, size, "%s; it was told to", text);
    return status;
}

const char *runtime() { return "fake 1.0"; }

Session commands_of(const pkecho_backend_file &file) {
    Session session;
    const char *text = reinterpret_cast<const char *>(file.data), *end = text + file.size;
    while (text < end) {
        const char *line_end = std::find(text, end, '\n');
        const std::string line(text, line_end);
        const size_t blank = line.find(' ');
        const bool has_number = blank != std::string::npos;
        session.commands[line.substr(0, blank)] =
            has_number ? std::atoi(line.c_str() + blank + 1) : 1;
        text = line_end + 1;
    }
    return session;
}

pkecho_status load(const pkecho_backend_engine *engine, void **session, int *built, char *message,
                   size_t size) {
    Session *own = nullptr;
    try {
        own = new Session(commands_of(engine->files[0]));
    } catch (const std::bad_alloc &) {
        return PKECHO_OUT_OF_MEMORY;
    }
    pkecho_status status = PKECHO_OK;
    if (own->of("fail-load") >= 0) status = PKECHO_BACKEND_FAILED;
    if (own->of("interface") >= 0) status = PKECHO_ENGINE_INTERFACE;
    if (status != PKECHO_OK) {
        delete own;
        return say(status, "refused the engine", message, size);
    }
    engine->log(engine->log_user, PKECHO_LOG_INFO, "the fake back-end loaded an engine");
    *built = own->of("built") >= 0 ? 1 : 0;
    *session = own;
    return PKECHO_OK;
}

void unload(void *session) { delete static_cast<Session *>(session); }

pkecho_status bind(void *session, const pkecho_backend_tensor *inputs, size_t input_count,
                   const pkecho_backend_tensor *outputs, size_t output_count, void **request,
                   char *message, size_t size) {
    const auto *own = static_cast<const Session *>(session);
    if (own->of("fail-bind") >= 0) {
        return say(PKECHO_BACKEND_FAILED, "cannot bind", message, size);
    }
    auto *made = new (std::nothrow) Request{own};
    if (made == nullptr) return PKECHO_OUT_OF_MEMORY;
    for (size_t at = 0; at < input_count; ++at) {
        const pkecho_backend_tensor &tensor = inputs[at];
        if (std::strcmp(tensor.name, "frame") == 0) {
            made->frame = static_cast<const uint8_t *>(tensor.data);
            made->height = static_cast<size_t>(tensor.shape[2]);
            made->width = static_cast<size_t>(tensor.shape[3]);
        } else {
            made->history = static_cast<const float *>(tensor.data);
            made->slots = static_cast<size_t>(tensor.shape[0]);
            made->channels = static_cast<size_t>(tensor.shape[1]);
        }
    }
    for (size_t at = 0; at < output_count; ++at) {
        auto *data = static_cast<float *>(outputs[at].data);
        (std::strcmp(outputs[at].name, "logits") == 0 ? made->logits : made->history_out) = data;
    }
    *request = made;
    return PKECHO_OK;
}

void fill_features(const Request &own, float *features) {
    const size_t rows = own.height / block, columns = own.width / block;
    for (size_t y = 0; y < rows; ++y) {
        for (size_t x = 0; x < columns; ++x) {
            unsigned sum = 0;
            for (size_t pixel = 0; pixel < block * block; ++pixel) {
                const size_t row = y * block + pixel / block, column = x * block + pixel % block;
                sum += own.frame[row * own.width + column];
            }
            const float mean = static_cast<float>(sum) / (block * block);
            for (size_t c = 0; c < own.channels; ++c) {
                features[(c * rows + y) * columns + x] = mean * static_cast<float>(c + 1) / 256;
            }
        }
    }
}

pkecho_status run(void *request, char *message, size_t size) {
    Request &own = *static_cast<Request *>(request);
    const int number = own.runs++;
    if (own.session->of("wait") > 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(own.session->of("wait")));
    }
    if (number == own.session->of("fail-run")) {
        return say(PKECHO_INFERENCE_FAILED, "failed on a frame", message, size);
    }
    const size_t slot = own.channels * (own.height / block) * (own.width / block);
    std::memcpy(own.history_out, own.history + slot, (own.slots - 1) * slot * sizeof(float));
    fill_features(own, own.history_out + (own.slots - 1) * slot);
    double sum = 0;
    for (size_t at = 0; at < slot; ++at) sum += own.history[at];
    for (size_t at = 0; at < own.slots * slot; ++at) sum += own.history_out[at];
    const auto shift = static_cast<float>(sum / static_cast<double>((own.slots + 1) * slot) * 8);
    for (size_t pixel = 0; pixel < own.height * own.width; ++pixel) {
        own.logits[pixel] = static_cast<float>(own.frame[pixel]) - 100 + shift;
    }
    if (number == own.session->of("nan-run")) own.logits[7] = NAN;
    return PKECHO_OK;
}

void unbind(void *request) { delete static_cast<Request *>(request); }

const pkecho_backend backend = {
    PKECHO_BACKEND_ABI, "fake", runtime, load, unload, nullptr, nullptr, bind, run, unbind};

}  // namespace

extern "C" const pkecho_backend *pkecho_backend_entry(void) { return &backend; }
