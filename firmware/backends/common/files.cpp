#include "files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>

#include "failure.h"
#include "sha256.h"

namespace pkecho {

namespace {

struct CloseFolder {
    void operator()(DIR *folder) const noexcept { ::closedir(folder); }
};

// strerror is not for threads; this is.
std::string reason() { return std::generic_category().message(errno); }

bool write_all(int file, const uint8_t *data, size_t size) {
    for (size_t done = 0; done < size;) {
        const ssize_t put = ::write(file, data + done, size - done);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return false;
        done += static_cast<size_t>(put);
    }
    return ::fsync(file) == 0;
}

}  // namespace

Bytes sha256_raw(const void *data, size_t size) {
    Bytes digest(crypto_hash_sha256_BYTES);
    crypto_hash_sha256(digest.data(), static_cast<const unsigned char *>(data), size);
    return digest;
}

std::string sha256(std::string_view data) {
    Sha256 hash;
    hash.update(data.data(), data.size());
    return hash.hex();
}

std::optional<Bytes> read_file(const std::string &path, size_t limit) {
    const std::filesystem::path whole(path);
    try {
        SafeFile file = SafeFolder(whole.parent_path().string()).open(whole.filename().string());
        if (file.size() > limit) return {};
        Bytes data(static_cast<size_t>(file.size()));
        file.read(data.data(), data.size());
        return data;
    } catch (const Failure &) {
        return {};
    }
}

std::string write_whole(const std::string &path, const void *data, size_t size) {
    const std::string partial = path + ".partial";
    ::unlink(partial.c_str());  // of a process that was killed; or a link
    {
        const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
        const Descriptor file(::open(partial.c_str(), flags, 0644));
        if (file.get() < 0) return reason();
        if (!write_all(file.get(), static_cast<const uint8_t *>(data), size)) {
            std::string why = reason();
            ::unlink(partial.c_str());
            return why;
        }
    }
    if (::rename(partial.c_str(), path.c_str()) != 0) {
        std::string why = reason();
        ::unlink(partial.c_str());
        return why;
    }
    const std::string parent = std::filesystem::path(path).parent_path().string();
    const Descriptor folder(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (folder.get() >= 0) ::fsync(folder.get());  // the name survives a power cut, too
    return "";
}

std::string make_folder(const std::string &path) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (!error && !std::filesystem::is_directory(path, error) && !error) return "it is no folder";
    return error ? error.message() : "";
}

std::vector<std::string> names_in(const std::string &folder, std::string_view begin,
                                  std::string_view end) {
    std::vector<std::string> names;
    const std::unique_ptr<DIR, CloseFolder> open(::opendir(folder.c_str()));
    while (const dirent *entry = open ? ::readdir(open.get()) : nullptr) {
        const std::string_view name = entry->d_name;
        if (name.size() >= begin.size() + end.size() && name.substr(0, begin.size()) == begin &&
            name.substr(name.size() - end.size()) == end) {
            names.emplace_back(name);
        }
    }
    return names;
}

std::optional<std::string> first_line(const char *path) {
    const Descriptor file(::open(path, O_RDONLY | O_CLOEXEC));
    char data[4096];
    const ssize_t size = file.get() < 0 ? -1 : ::read(file.get(), data, sizeof data);
    if (size <= 0) return {};
    std::string text(data, static_cast<size_t>(size));
    static const std::string kSpace("\0\n ", 3);  // a device tree's texts end with a zero
    const size_t start = text.find_first_not_of(kSpace);
    if (start == std::string::npos) return {};
    text = text.substr(start, text.find_last_not_of(kSpace) - start + 1);
    return text.substr(0, text.find_first_of("\r\n"));
}

FolderLock::FolderLock(const std::string &folder)
    : file_(::open((folder + "/lock").c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644)) {
    if (file_.get() < 0) trouble_ = reason();
}

bool FolderLock::try_take() { return ::flock(file_.get(), LOCK_EX | LOCK_NB) == 0; }

}  // namespace pkecho
