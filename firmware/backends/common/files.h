// Files of a back-end's cache: read once, whole, and never through a link; written whole or not at
// all. Every back-end compiles this in: a plug-in imports nothing of libpkecho, nor of another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "safe_file.h"

namespace pkecho {

using Bytes = std::vector<uint8_t>;

// Lower-case hexadecimal.
std::string sha256(std::string_view data);

// The raw 32 bytes.
Bytes sha256_raw(const void *data, size_t size);

// A regular file of at most `limit` bytes; nothing where there is none that can be read.
std::optional<Bytes> read_file(const std::string &path, size_t limit);

inline std::string_view as_text(const Bytes &data) {
    return {reinterpret_cast<const char *>(data.data()), data.size()};
}

// On the disk before it has its name. Returns why it cannot be written, "" where it was. One caller
// at a time: see FolderLock.
std::string write_whole(const std::string &path, const void *data, size_t size);

// With its parents. Returns why there can be none, "" where it is there.
std::string make_folder(const std::string &path);

// Names of a folder's files that begin and end so.
std::vector<std::string> names_in(const std::string &folder, std::string_view begin,
                                  std::string_view end);

// The first line of what the system says of itself; nothing where there is no such file.
std::optional<std::string> first_line(const char *path);

// Only one process at a time works in a cache; the kit of the bundle takes the same lock.
class FolderLock {
public:
    explicit FolderLock(const std::string &folder);

    // Why it can be no lock at all, "" otherwise.
    const std::string &trouble() const noexcept { return trouble_; }
    bool try_take();

private:
    Descriptor file_;
    std::string trouble_;
};

}  // namespace pkecho
