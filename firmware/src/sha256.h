// SHA-256 in pieces.
#pragma once

#include <sodium.h>

#include <cstddef>
#include <string>

namespace pkecho {

class Sha256 {
public:
    Sha256() noexcept { crypto_hash_sha256_init(&state_); }

    void update(const void *data, size_t size) noexcept {
        crypto_hash_sha256_update(&state_, static_cast<const unsigned char *>(data), size);
    }

    // 64 lower-case hexadecimal digits; nothing may be added afterwards.
    std::string hex() {
        unsigned char digest[crypto_hash_sha256_BYTES];
        crypto_hash_sha256_final(&state_, digest);
        char text[2 * sizeof digest + 1];
        return sodium_bin2hex(text, sizeof text, digest, sizeof digest);
    }

private:
    crypto_hash_sha256_state state_;
};

}  // namespace pkecho
