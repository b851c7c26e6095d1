#include "library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "failure.h"

namespace pkecho {

namespace {

constexpr size_t alignment = 64;

// The folder of the file that this very function is in, "" where the loader does not know.
std::string own_folder() {
    Dl_info found{};
    if (dladdr(reinterpret_cast<const void *>(&own_folder), &found) == 0 || !found.dli_fname) {
        return "";
    }
    // the loader's path may be relative or a link, and the program may yet change its folder
    char *real = realpath(found.dli_fname, nullptr);
    const std::string file = real != nullptr ? real : "";
    std::free(real);
    return file.substr(0, file.rfind('/') == std::string::npos ? 0 : file.rfind('/'));
}

// Found when the library is loaded, while a relative path still leads to it.
const std::string folder_when_loaded = own_folder();

// A target becomes part of a file's name, so it may not lead anywhere else.
bool names_a_file(const std::string &target) {
    if (target.empty() || target.size() > 32) return false;
    for (const char c : target) {
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-')) return false;
    }
    return true;
}

[[noreturn]] void refuse(pkecho_status status, const char *said, const std::string &otherwise) {
    throw Failure(status, said[0] != '\0' ? std::string(said) : otherwise);
}

}  // namespace

Library Library::open(const std::string &folder, const std::string &target) {
    if (!names_a_file(target)) {
        throw Failure(PKECHO_BACKEND_MISSING,
                      "the manifest's target cannot name a back-end. Build the bundle again");
    }
    if (folder.empty() && folder_when_loaded.empty()) {
        throw Failure(PKECHO_BACKEND_MISSING,
                      "it is not known where libpkecho lies. Set backend_dir");
    }
    const std::string where = folder.empty() ? folder_when_loaded + "/pkecho" : folder;
    const std::string path = where + "/libpkecho-backend-" + target + ".so";
    // RTLD_LOCAL: what a back-end links must not answer for the host's own symbols
    void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library == nullptr) {
        const char *why = dlerror();
        throw Failure(PKECHO_BACKEND_MISSING, "the back-end for target " + target +
                                                  " cannot be loaded (" + (why ? why : path) +
                                                  "). Install the whole folder " + where +
                                                  ", or set backend_dir");
    }
    const auto entry =
        reinterpret_cast<pkecho_backend_entry_function>(dlsym(library, "pkecho_backend_entry"));
    const pkecho_backend *functions = entry ? entry() : nullptr;
    if (functions == nullptr || functions->abi != PKECHO_BACKEND_ABI) {
        throw Failure(PKECHO_BACKEND_VERSION, path +
                                                  " is of another version of this library. "
                                                  "Install both from one build");
    }
    return Library(functions, path);
}

size_t element_count(const TensorSpec &spec) noexcept {
    size_t count = 1;
    for (const int64_t extent : spec.shape) count *= static_cast<size_t>(extent);
    return count;
}

size_t byte_count(const TensorSpec &spec) noexcept {
    return element_count(spec) * (spec.element == Element::u8 ? 1 : sizeof(float));
}

pkecho_backend_tensor described(const TensorSpec &spec, void *data) {
    pkecho_backend_tensor tensor{};
    tensor.name = spec.name.c_str();
    tensor.element = spec.element == Element::u8 ? PKECHO_U8 : PKECHO_F32;
    tensor.rank = static_cast<uint32_t>(spec.shape.size());
    for (size_t axis = 0; axis < spec.shape.size(); ++axis) tensor.shape[axis] = spec.shape[axis];
    tensor.data = data;
    tensor.bytes = byte_count(spec);
    return tensor;
}

Session::Session(Library library, const pkecho_backend_engine &engine)
    : library_(std::move(library)) {
    char message[PKECHO_MESSAGE_SIZE] = "";
    int built = 0;
    const pkecho_status status =
        library_.functions().load(&engine, &handle_, &built, message, sizeof message);
    if (status != PKECHO_OK) refuse(status, message, "the back-end refused the engine");
    built_ = built != 0;
}

Session::~Session() { library_.functions().unload(handle_); }

TensorMemory::TensorMemory(std::shared_ptr<const Session> session, size_t bytes)
    : session_(std::move(session)), bytes_(bytes) {
    const pkecho_backend &functions = session_->library().functions();
    if (functions.allocate != nullptr) {
        data_ = functions.allocate(session_->handle(), bytes);
        if (data_ == nullptr) throw std::bad_alloc();
        return;
    }
    data_ = ::operator new(bytes, std::align_val_t(alignment));
    std::memset(data_, 0, bytes);
}

TensorMemory::~TensorMemory() {
    const pkecho_backend &functions = session_->library().functions();
    if (functions.allocate != nullptr) {
        functions.release(session_->handle(), data_);
    } else {
        ::operator delete(data_, std::align_val_t(alignment));
    }
}

Request::Request(std::shared_ptr<const Session> session, const std::vector<BoundTensor> &inputs,
                 const std::vector<BoundTensor> &outputs)
    : session_(std::move(session)) {
    std::vector<pkecho_backend_tensor> in, out;
    for (const BoundTensor &each : inputs) in.push_back(described(each.spec, each.data));
    for (const BoundTensor &each : outputs) out.push_back(described(each.spec, each.data));
    char message[PKECHO_MESSAGE_SIZE] = "";
    const pkecho_status status =
        session_->library().functions().bind(session_->handle(), in.data(), in.size(), out.data(),
                                             out.size(), &request_, message, sizeof message);
    if (status != PKECHO_OK) refuse(status, message, "the back-end cannot bind the tensors");
}

Request::~Request() { session_->library().functions().unbind(request_); }

pkecho_status Request::run(char *message, size_t message_size) noexcept {
    return session_->library().functions().run(request_, message, message_size);
}

}  // namespace pkecho
