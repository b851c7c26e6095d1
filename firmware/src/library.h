// A back-end: a shared library that was loaded by the manifest's target, and its sessions.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "manifest.h"
#include "pkecho_backend.h"

namespace pkecho {

class Session;

// A back-end that speaks our ABI. It stays loaded for the life of the process: runtimes leave
// threads and exit handlers behind that a dlclose would pull the code from under.
class Library {
public:
    // Load libpkecho-backend-TARGET.so from `folder`, "" for "pkecho" beside libpkecho.so.
    // Throws Failure: PKECHO_BACKEND_MISSING, PKECHO_BACKEND_VERSION.
    static Library open(const std::string &folder, const std::string &target);

    const pkecho_backend &functions() const noexcept { return *functions_; }
    const std::string &path() const noexcept { return path_; }

private:
    Library(const pkecho_backend *functions, std::string path)
        : functions_(functions), path_(std::move(path)) {}

    const pkecho_backend *functions_;
    std::string path_;
};

// Memory for tensors, where the back-end reads it best: aligned to 64 bytes, zeros.
class TensorMemory {
public:
    TensorMemory(std::shared_ptr<const Session> session, size_t bytes);
    ~TensorMemory();
    TensorMemory(const TensorMemory &) = delete;
    TensorMemory &operator=(const TensorMemory &) = delete;

    void *data() const noexcept { return data_; }
    size_t bytes() const noexcept { return bytes_; }
    template <typename T>
    T *as() const noexcept {
        return static_cast<T *>(data_);
    }

private:
    std::shared_ptr<const Session> session_;
    void *data_;
    size_t bytes_;
};

// A tensor's description, and where its elements lie.
struct BoundTensor {
    const TensorSpec &spec;
    void *data;
};

// An inference tied to memory. One thread at a time.
class Request {
public:
    Request(std::shared_ptr<const Session> session, const std::vector<BoundTensor> &inputs,
            const std::vector<BoundTensor> &outputs);
    ~Request();
    Request(const Request &) = delete;
    Request &operator=(const Request &) = delete;

    // PKECHO_OK, or the back-end's status with its line in `message`; allocates nothing.
    pkecho_status run(char *message, size_t message_size) noexcept;

private:
    std::shared_ptr<const Session> session_;
    void *request_ = nullptr;
};

// A loaded engine.
class Session {
public:
    // Throws Failure with the back-end's status and message.
    Session(Library library, const pkecho_backend_engine &engine);
    ~Session();
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;

    const Library &library() const noexcept { return library_; }
    void *handle() const noexcept { return handle_; }
    // Whether something was built or imported on this device.
    bool built() const noexcept { return built_; }

private:
    Library library_;
    void *handle_ = nullptr;
    bool built_ = false;
};

size_t element_count(const TensorSpec &spec) noexcept;
size_t byte_count(const TensorSpec &spec) noexcept;
pkecho_backend_tensor described(const TensorSpec &spec, void *data);

}  // namespace pkecho
