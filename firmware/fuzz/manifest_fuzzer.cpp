// parse_manifest gets any bytes: it returns, or throws one of its two failures. What is JSON at all
// is also written out and read again, which must change nothing.
//
//     python fuzz/make_corpus.py corpus
//     build/manifest_fuzzer -dict=corpus/manifest.dict -max_len=65536 corpus/manifest
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "../src/failure.h"
#include "../src/json.h"
#include "../src/manifest.h"

namespace {

void require(bool holds) {
    if (!holds) std::abort();
}

bool is_line(const std::string &message) {
    for (const char c : message)
        if (c < 0x20 || c > 0x7E) return false;
    return !message.empty() && message.size() < PKECHO_MESSAGE_SIZE;
}

void round_trip(std::string_view text) {
    const pkecho::json::Origin origin{PKECHO_MANIFEST, "x"};
    std::string once;
    try {
        once = pkecho::json::canonical(pkecho::json::parse(text, origin));
    } catch (const pkecho::Failure &) {
        return;
    }
    if (once.size() > pkecho::json::max_bytes) return;
    require(pkecho::json::canonical(pkecho::json::parse(once, origin)) == once);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try {
        const pkecho::Manifest manifest = pkecho::parse_manifest(data, size);
        require(manifest.bundle_id.size() == 36 && !manifest.engines.empty());
        require(manifest.height >= 96 && manifest.width >= 96 && manifest.window >= 2);
    } catch (const pkecho::Failure &failure) {
        require(failure.status() == PKECHO_MANIFEST || failure.status() == PKECHO_SCHEMA_VERSION);
        require(is_line(failure.what()));
    }
    round_trip({reinterpret_cast<const char *>(data), size});
    return 0;
}
