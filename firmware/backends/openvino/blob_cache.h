// What OpenVINO compiled, kept in the caller's folder for the next start. OpenVINO's own cache
// reads and hashes the whole model before it looks; here the hashes that libpkecho verified are the
// key.
//
// Nothing here is signed. A blob is used where its name is the key of this engine, this OpenVINO,
// these settings and this processor, and its bytes are those that were written under that name.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "files.h"
#include "pkecho_backend.h"

namespace pkecho::openvino {

// A cache is only there to start sooner: whatever is wrong with it is said to the engine's log, and
// done without.
class BlobCache {
public:
    // `facts`: what decides beside the engine's files whether a blob fits, a line each. `engine`
    // must outlive this.
    BlobCache(const pkecho_backend_engine &engine, const std::string &facts);

    // The blob, which lies in `file`; empty where there is none that can be used. OpenVINO may die
    // of a damaged one, so it sees none: a file begins with a hash of its key and of what follows.
    std::string_view find(Bytes &file) const;

    // Say that what `find` gave is of no use, or that nothing can be kept.
    void stale(const std::string &why) const;
    void not_used(const std::string &why);

    // Keep what `write_to` writes to the path that it is given, in the place of what was there.
    void keep(const std::function<void(const char *path)> &write_to);

private:
    std::string digest_of(std::string_view blob) const;
    std::string write(const Bytes &file) const;

    const pkecho_backend_engine &engine_;
    std::string directory_, key_, name_;
    bool is_usable_;
};

}  // namespace pkecho::openvino
