// Ed25519 signatures in minisign's prehashed format, as pkecho_edge/bundle/minisign.py makes them
// and stock minisign checks them.
//
// Source: https://jedisct1.github.io/minisign/, "Signature format" and "Public key format".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pkecho::minisign {

constexpr size_t max_text = 8192;  // no key and no signature is longer

using KeyId = std::array<uint8_t, 8>;

struct PublicKey {
    KeyId id;  // tells keys apart; no part of the security
    std::array<uint8_t, 32> key;
};

// An id as minisign prints it: 16 hexadecimal digits, the last byte first.
std::string name(const KeyId &id);

// Of a .pub file's content, or of its second line alone. Throws Failure: PKECHO_PUBLIC_KEY.
PublicKey parse_public_key(std::string_view text);

struct Verified {
    std::string signed_by;        // name of the key
    std::string trusted_comment;  // covered by the signature
};

// Check a .minisig file's content, from anybody, against the bytes that it has to be of. Throws
// Failure: PKECHO_SIGNATURE_KEY where none of the keys made it, PKECHO_SIGNATURE where it is
// damaged or of other bytes.
Verified verify(const uint8_t *data, size_t size, std::string_view signature,
                const std::vector<PublicKey> &keys);

}  // namespace pkecho::minisign
