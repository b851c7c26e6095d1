// Read the files of a folder that may come from an attacker: no link is followed in it, nothing is
// waited for, nothing but regular files is opened.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace pkecho {

// A file descriptor that is closed.
class Descriptor {
public:
    explicit Descriptor(int number = -1) noexcept : number_(number) {}
    Descriptor(Descriptor &&other) noexcept : number_(other.release()) {}
    Descriptor &operator=(Descriptor &&other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~Descriptor();  // leaves errno alone

    int get() const noexcept { return number_; }
    int release() noexcept {
        const int number = number_;
        number_ = -1;
        return number;
    }

private:
    int number_;
};

// A regular file, open for reading. Failures name `path`.
class SafeFile {
public:
    uint64_t size() const noexcept { return size_; }  // when it was opened

    // Read `size` bytes more. Throws Failure, PKECHO_UNREADABLE: an error, or fewer are left.
    void read(uint8_t *data, size_t size);
    // Whether all was read; the file may have grown since it was opened. Throws as `read`.
    bool is_at_end();

private:
    friend class SafeFolder;
    SafeFile(Descriptor descriptor, std::string path, uint64_t size)
        : descriptor_(std::move(descriptor)), path_(std::move(path)), size_(size) {}
    size_t read_some(uint8_t *data, size_t size);

    Descriptor descriptor_;
    std::string path_;
    uint64_t size_;
};

enum class FileKind { regular, folder, link, other };

// An open folder. Paths are relative to it, parts joined by "/"; the folder itself may be moved or
// replaced meanwhile, and what is read is still what it held.
class SafeFolder {
public:
    // `path` is the caller's own, so links in it are followed. Throws Failure:
    // PKECHO_BUNDLE_NOT_FOUND, PKECHO_UNREADABLE.
    explicit SafeFolder(const std::string &path);

    // Whether something has this name, be it a link that leads nowhere.
    bool contains(const std::string &name) const;

    // Throws Failure: PKECHO_FILE_MISSING; PKECHO_FILE_UNLISTED for a link, a folder, a pipe, a
    // socket or a device; PKECHO_UNREADABLE.
    SafeFile open(const std::string &path) const;

    // Call `visit` with the path and the kind of everything in the folder `path`, "" for this one,
    // in no particular order. Does nothing where there is no such folder. Throws Failure,
    // PKECHO_UNREADABLE, and what `visit` throws.
    void list(const std::string &path,
              const std::function<void(const std::string &, FileKind)> &visit) const;

private:
    // A descriptor of the folder that holds the last part of `path`; none where there is none.
    Descriptor enclosing(const std::string &path) const;

    Descriptor descriptor_;
};

}  // namespace pkecho
