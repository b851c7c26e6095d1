// SHA-256 in pieces. A start hashes the whole bundle: OpenSSL does that with the processor's own
// instructions, several times as fast as libsodium, whose code serves where there is no OpenSSL.
#pragma once

#include <sodium.h>

#include <cstddef>
#include <string>

#ifdef PKECHO_WITH_OPENSSL
#include <openssl/evp.h>

#include <memory>
#include <new>

#include "failure.h"
#endif

namespace pkecho {

// 64 lower-case hexadecimal digits.
inline std::string hexadecimal(const unsigned char (&digest)[crypto_hash_sha256_BYTES]) {
    char text[2 * sizeof digest + 1];
    return sodium_bin2hex(text, sizeof text, digest, sizeof digest);
}

#ifdef PKECHO_WITH_OPENSSL

class Sha256 {
public:
    Sha256() : state_(EVP_MD_CTX_new()) {
        if (state_ == nullptr || EVP_DigestInit_ex(state_.get(), EVP_sha256(), nullptr) != 1) {
            throw std::bad_alloc();
        }
    }

    void update(const void *data, size_t size) { must(EVP_DigestUpdate(state_.get(), data, size)); }

    // Nothing may be added afterwards.
    std::string hex() {
        unsigned char digest[crypto_hash_sha256_BYTES];
        must(EVP_DigestFinal_ex(state_.get(), digest, nullptr));
        return hexadecimal(digest);
    }

private:
    static void must(int status) {
        if (status != 1) throw Failure(PKECHO_INTERNAL, "OpenSSL cannot hash. Check its set-up");
    }

    struct Freed {
        void operator()(EVP_MD_CTX *state) const noexcept { EVP_MD_CTX_free(state); }
    };
    std::unique_ptr<EVP_MD_CTX, Freed> state_;
};

#else

class Sha256 {
public:
    Sha256() noexcept { crypto_hash_sha256_init(&state_); }

    void update(const void *data, size_t size) noexcept {
        crypto_hash_sha256_update(&state_, static_cast<const unsigned char *>(data), size);
    }

    // Nothing may be added afterwards.
    std::string hex() {
        unsigned char digest[crypto_hash_sha256_BYTES];
        crypto_hash_sha256_final(&state_, digest);
        return hexadecimal(digest);
    }

private:
    crypto_hash_sha256_state state_;
};

#endif

}  // namespace pkecho
