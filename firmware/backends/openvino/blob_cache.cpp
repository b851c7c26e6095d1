#include "blob_cache.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "failure.h"
#include "sha256.h"

namespace pkecho::openvino {

namespace {

constexpr char kSchema[] = "pkecho-edge/openvino-blob/1";
constexpr size_t kDigestBytes = 64, kFileBytes = size_t{1} << 30;
constexpr std::chrono::seconds kPatience{2};  // writing takes far less

std::string reason() { return std::generic_category().message(errno); }

// The processor's own words, because virtual machines hide instructions behind a name that says
// nothing of them; and how oneDNN is told to do without some.
std::string instructions() {
    std::string text;
    const auto add = [&](unsigned long word) { text += " " + std::to_string(word); };
#if defined(__x86_64__)
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid(1, &a, &b, &c, &d)) add(a), add(c), add(d);  // b: the core that was asked
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) add(b), add(c), add(d);
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) add(a), add(d);
#elif defined(__aarch64__)
    add(getauxval(AT_HWCAP)), add(getauxval(AT_HWCAP2));
#endif
    for (const char *name : {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"}) {
        const char *limit = std::getenv(name);
        text += std::string(" ") + (limit != nullptr ? limit : "-");
    }
    return text;
}

std::string key_of(const pkecho_backend_engine &engine, const std::string &facts) {
    std::string text = std::string(kSchema) + "\n";
    for (size_t index = 0; index < engine.file_count; ++index) {
        text += std::string(engine.files[index].sha256) + "\n";
    }
    return sha256(text + "processor" + instructions() + "\n" + facts);
}

// What `write_to` writes, with room for its digest before it. OpenVINO does not tell where a disk
// is full, and would follow a link: so it writes to memory that has no other name.
Bytes caught(const std::function<void(const char *path)> &write_to) {
    const Descriptor memory(::memfd_create("blob", MFD_CLOEXEC));
    if (memory.get() < 0) throw Failure(PKECHO_BACKEND_FAILED, "no memory for it: " + reason());
    write_to(("/proc/self/fd/" + std::to_string(memory.get())).c_str());
    struct stat found {};
    if (::fstat(memory.get(), &found) != 0 || found.st_size == 0) {
        throw Failure(PKECHO_BACKEND_FAILED, "OpenVINO wrote nothing");
    }
    Bytes file(kDigestBytes + static_cast<size_t>(found.st_size));
    for (size_t done = kDigestBytes; done < file.size();) {
        const ssize_t got = ::pread(memory.get(), file.data() + done, file.size() - done,
                                    static_cast<off_t>(done - kDigestBytes));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) throw Failure(PKECHO_BACKEND_FAILED, "it cannot be read back: " + reason());
        done += static_cast<size_t>(got);
    }
    return file;
}

bool take(FolderLock &lock) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (!lock.try_take()) {
        if (std::chrono::steady_clock::now() >= end) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
}

}  // namespace

BlobCache::BlobCache(const pkecho_backend_engine &engine, const std::string &facts)
    : engine_(engine), directory_(engine.cache_dir), is_usable_(!directory_.empty()) {
    if (!is_usable_) return;
    struct stat found {};
    if (::stat(directory_.c_str(), &found) != 0 || !S_ISDIR(found.st_mode) ||
        ::access(directory_.c_str(), R_OK | X_OK) != 0) {
        not_used("it is no folder that can be read");
        return;
    }
    key_ = key_of(engine, facts);
    name_ = "openvino-" + key_ + ".blob";
}

std::string_view BlobCache::find(Bytes &file) const {
    const std::string path = directory_ + "/" + name_;
    struct stat found {};
    if (!is_usable_ || ::lstat(path.c_str(), &found) != 0) return {};  // nothing was kept yet
    try {
        std::optional<Bytes> whole = read_file(path, kFileBytes);
        if (!whole) throw Failure(PKECHO_UNREADABLE, "it is no plain file that can be read");
        file = std::move(*whole);
        const size_t start = std::min(kDigestBytes, file.size());
        const std::string_view digest = as_text(file).substr(0, start);
        const std::string_view blob = as_text(file).substr(start);
        if (digest == digest_of(blob)) return blob;
        stale("it is damaged");
    } catch (const std::exception &error) {
        stale(error.what());
    }
    return {};
}

void BlobCache::stale(const std::string &why) const {
    const std::string line =
        "cache_dir " + directory_ + ": " + name_ + ": " + why + ": the engine is compiled again";
    engine_.log(engine_.log_user, PKECHO_LOG_WARNING, line.c_str());
}

void BlobCache::not_used(const std::string &why) {
    const std::string line = "cache_dir " + directory_ + " is not used: " + why +
                             ". Give a folder of the service's own user";
    engine_.log(engine_.log_user, PKECHO_LOG_WARNING, line.c_str());
    is_usable_ = false;
}

void BlobCache::keep(const std::function<void(const char *path)> &write_to) {
    if (!is_usable_) return;
    try {
        Bytes file = caught(write_to);
        const std::string digest = digest_of(as_text(file).substr(kDigestBytes));
        std::copy(digest.begin(), digest.end(), file.begin());
        if (const std::string why = write(file); !why.empty()) {
            not_used(name_ + " cannot be written (" + why + ")");
        }
    } catch (const std::exception &error) {
        not_used(error.what());
    }
}

// With the key, so that a file under another's name is damaged, too.
std::string BlobCache::digest_of(std::string_view blob) const {
    Sha256 hash;
    hash.update(key_.data(), key_.size());
    hash.update(blob.data(), blob.size());
    return hash.hex();
}

// Returns why it cannot be, "" where it was.
std::string BlobCache::write(const Bytes &file) const {
    FolderLock lock(directory_);
    if (!lock.trouble().empty()) return lock.trouble();
    if (!take(lock)) return "another process writes there";
    return write_whole(directory_ + "/" + name_, file.data(), file.size());
}

}  // namespace pkecho::openvino
