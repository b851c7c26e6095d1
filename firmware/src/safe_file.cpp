#include "safe_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>
#include <utility>

#include "failure.h"
#include "text.h"

namespace pkecho {
namespace {

constexpr int folder_flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
constexpr int file_flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
constexpr size_t max_read = size_t{1} << 30;  // Linux reads 2 GiB at a time, some systems less

[[noreturn]] void refuse(pkecho_status status, const std::string &path, const std::string &what) {
    throw Failure(status, quoted(path, 120) + ": " + what + ". Fetch or build the bundle again");
}

[[noreturn]] void unreadable(const std::string &path, int code) {
    throw Failure(PKECHO_UNREADABLE, quoted(path, 120) + ": cannot be read (" +
                                         std::generic_category().message(code) +
                                         "). Check the folder's permissions and the disk");
}

// openat, again where a signal came between.
Descriptor open_at(int folder, const char *name, int flags) noexcept {
    int number;
    do {
        number = ::openat(folder, name, flags);
    } while (number < 0 && errno == EINTR);
    return Descriptor(number);
}

bool is_absent(int code) noexcept { return code == ENOENT || code == ENOTDIR; }

FileKind kind_of(mode_t mode) noexcept {
    if (S_ISREG(mode)) return FileKind::regular;
    if (S_ISDIR(mode)) return FileKind::folder;
    return S_ISLNK(mode) ? FileKind::link : FileKind::other;
}

void require_regular(mode_t mode, const std::string &path) {
    const FileKind kind = kind_of(mode);
    if (kind == FileKind::link) refuse(PKECHO_FILE_UNLISTED, path, "is a symbolic link");
    if (kind != FileKind::regular) refuse(PKECHO_FILE_UNLISTED, path, "is not a regular file");
}

[[noreturn]] void not_opened(const std::string &path, int code) {
    if (is_absent(code)) refuse(PKECHO_FILE_MISSING, path, "is missing");
    if (code == ELOOP) refuse(PKECHO_FILE_UNLISTED, path, "is a symbolic link");
    unreadable(path, code);
}

std::string last_part(const std::string &path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

Descriptor::~Descriptor() {
    const int code = errno;
    if (number_ >= 0) ::close(number_);
    errno = code;
}

// ---- A file ------------------------------------------------------------------------------------

size_t SafeFile::read_some(uint8_t *data, size_t size) {
    ssize_t count;
    do {
        count = ::read(descriptor_.get(), data, std::min(size, max_read));
    } while (count < 0 && errno == EINTR);
    if (count < 0) unreadable(path_, errno);
    return static_cast<size_t>(count);
}

void SafeFile::read(uint8_t *data, size_t size) {
    while (size > 0) {
        const size_t count = read_some(data, size);
        if (count == 0) refuse(PKECHO_UNREADABLE, path_, "became shorter while it was read");
        data += count;
        size -= count;
    }
}

bool SafeFile::is_at_end() {
    uint8_t byte;
    return read_some(&byte, 1) == 0;
}

// ---- A folder ----------------------------------------------------------------------------------

SafeFolder::SafeFolder(const std::string &path)
    : descriptor_(open_at(AT_FDCWD, path.c_str(), folder_flags)) {
    if (descriptor_.get() >= 0) return;
    if (!is_absent(errno)) unreadable(path, errno);
    throw Failure(PKECHO_BUNDLE_NOT_FOUND,
                  quoted(path, 200) + ": there is no such folder. Check the path");
}

Descriptor SafeFolder::enclosing(const std::string &path) const {
    Descriptor folder = open_at(descriptor_.get(), ".", folder_flags);
    size_t start = 0;
    for (size_t slash; folder.get() >= 0 && (slash = path.find('/', start)) != path.npos;
         start = slash + 1) {
        const std::string part = path.substr(start, slash - start);
        folder = open_at(folder.get(), part.c_str(), folder_flags | O_NOFOLLOW);
    }
    return folder;
}

bool SafeFolder::contains(const std::string &name) const {
    struct stat status;
    if (::fstatat(descriptor_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) return true;
    if (!is_absent(errno)) unreadable(name, errno);
    return false;
}

SafeFile SafeFolder::open(const std::string &path) const {
    const Descriptor folder = enclosing(path);
    if (folder.get() < 0) not_opened(path, errno);
    const std::string name = last_part(path);
    struct stat status;
    // Looked at first: merely opening a device may set it going.
    if (::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
        not_opened(path, errno);
    require_regular(status.st_mode, path);
    Descriptor file = open_at(folder.get(), name.c_str(), file_flags);
    if (file.get() < 0 || ::fstat(file.get(), &status) != 0) not_opened(path, errno);
    require_regular(status.st_mode, path);
    return SafeFile(std::move(file), path, static_cast<uint64_t>(status.st_size));
}

void SafeFolder::list(const std::string &path,
                      const std::function<void(const std::string &, FileKind)> &visit) const {
    const std::string prefix = path.empty() ? "" : path + "/";
    Descriptor folder = enclosing(prefix);
    if (folder.get() < 0 && is_absent(errno)) return;
    const auto close = [](DIR *stream) { ::closedir(stream); };
    const std::unique_ptr<DIR, decltype(close)> stream(
        folder.get() < 0 ? nullptr : ::fdopendir(folder.get()), close);
    if (!stream) unreadable(path.empty() ? "." : path, errno);
    folder.release();  // closedir closes it
    for (;;) {
        errno = 0;
        const dirent *item = ::readdir(stream.get());
        if (item == nullptr) break;
        const std::string name = item->d_name;
        if (name == "." || name == "..") continue;
        struct stat status;
        if (::fstatat(::dirfd(stream.get()), item->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0)
            unreadable(prefix + name, errno);
        visit(prefix + name, kind_of(status.st_mode));
    }
    if (errno != 0) unreadable(path.empty() ? "." : path, errno);
}

}  // namespace pkecho
