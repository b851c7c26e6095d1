// A bundle whose every byte was checked.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "manifest.h"
#include "pkecho.h"

namespace pkecho {

struct Log {
    pkecho_log function = nullptr;
    void *user = nullptr;

    void operator()(pkecho_log_level level, const std::string &message) const noexcept {
        if (function != nullptr) function(user, level, message.c_str());
    }
};

struct Trust {
    std::vector<std::string> public_keys;  // texts of .pub files
    uint32_t minimum_security_version = 0;
    bool allow_unsigned = false;
};

class Bundle {
public:
    // Read everything once: the signature, the manifest, then every file; engine and golden files
    // stay in memory. Throws Failure, a status for each cause, as pkecho.h lists them.
    static std::shared_ptr<const Bundle> open(const std::string &path, const Trust &trust, Log log);

    Manifest manifest;
    bool is_signed = false;
    std::string signed_by, trusted_comment;  // "" where unsigned
    Log log;

    // The verified bytes of a file in engine/ or golden/; nullptr where it is not listed.
    const std::vector<uint8_t> *content(const std::string &path) const noexcept;
    // The listed SHA-256 of a file; "" where it is not listed.
    std::string sha256(const std::string &path) const;

private:
    std::map<std::string, std::vector<uint8_t>> contents_;
};

}  // namespace pkecho
