#include "minisign.h"

#include <sodium.h>

#include <algorithm>

#include "failure.h"
#include "layout.h"
#include "text.h"

namespace pkecho::minisign {
namespace {

constexpr std::string_view untrusted = "untrusted comment: ", trusted = "trusted comment: ";
constexpr std::string_view key_mark = "Ed", prehashed_mark = "ED";
constexpr size_t mark_bytes = 2;

using Signature = std::array<uint8_t, crypto_sign_ed25519_BYTES>;

struct SignatureFile {
    KeyId id;
    Signature of_data;   // of the data's BLAKE2b-512
    Signature of_whole;  // of the signature above and the trusted comment
    std::string_view trusted_comment;
};

bool starts_with(std::string_view text, std::string_view beginning) noexcept {
    return text.substr(0, beginning.size()) == beginning;
}

// "\r\n" becomes "\n", and one newline at the end is left out.
std::string unified(std::string_view text) {
    std::string result;
    for (size_t i = 0; i < text.size(); ++i)
        if (text.substr(i, 2) != "\r\n") result.push_back(text[i]);
    if (!result.empty() && result.back() == '\n') result.pop_back();
    return result;
}

std::vector<std::string_view> lines_of(std::string_view text) {
    std::vector<std::string_view> lines;
    for (size_t newline; (newline = text.find('\n')) != text.npos; text.remove_prefix(newline + 1))
        lines.push_back(text.substr(0, newline));
    lines.push_back(text);
    return lines;
}

// Canonical base64 of exactly `result`: padded, nothing around it, unused bits zero.
template <size_t size>
bool decode(std::string_view text, std::array<uint8_t, size> &result) {
    size_t length = 0;
    const char *end = nullptr;
    const int failed = sodium_base642bin(result.data(), size, text.data(), text.size(), nullptr,
                                         &length, &end, sodium_base64_VARIANT_ORIGINAL);
    return failed == 0 && length == size && end == text.data() + text.size();
}

template <size_t size>
bool is_marked(const std::array<uint8_t, size> &data, std::string_view mark) {
    return std::equal(mark.begin(), mark.end(), data.begin());
}

[[noreturn]] void refuse_signature(const std::string &what) {
    throw Failure(PKECHO_SIGNATURE,
                  std::string(layout::signature) + ": " + what + ". Do not use the bundle");
}

// `text`, which the result refers to, is unified.
SignatureFile parse_signature(std::string_view text) {
    const std::vector<std::string_view> lines = lines_of(text);
    if (lines.size() != 4 || !starts_with(lines[0], untrusted) || !starts_with(lines[2], trusted))
        refuse_signature("is not a minisign signature");
    std::array<uint8_t, mark_bytes + sizeof(KeyId) + sizeof(Signature)> entry;
    SignatureFile file;
    if (!decode(lines[1], entry) || !decode(lines[3], file.of_whole))
        refuse_signature("is not a minisign signature");
    if (!is_marked(entry, prehashed_mark)) refuse_signature("is not a prehashed signature");
    std::copy_n(entry.begin() + mark_bytes, file.id.size(), file.id.begin());
    std::copy_n(entry.end() - sizeof(Signature), sizeof(Signature), file.of_data.begin());
    file.trusted_comment = lines[2].substr(trusted.size());
    return file;
}

bool is_signed_by(const PublicKey &key, const SignatureFile &file, const uint8_t *data,
                  size_t size) {
    uint8_t digest[crypto_generichash_BYTES_MAX];  // BLAKE2b-512
    crypto_generichash(digest, sizeof digest, data, size, nullptr, 0);
    std::vector<uint8_t> whole(file.of_data.begin(), file.of_data.end());
    whole.insert(whole.end(), file.trusted_comment.begin(), file.trusted_comment.end());
    const auto matches = [&key](const Signature &signature, const uint8_t *message, size_t length) {
        return crypto_sign_ed25519_verify_detached(signature.data(), message, length,
                                                   key.key.data()) == 0;
    };
    return matches(file.of_data, digest, sizeof digest) &&
           matches(file.of_whole, whole.data(), whole.size());
}

}  // namespace

std::string name(const KeyId &id) {
    static const char digits[] = "0123456789ABCDEF";
    std::string text;
    for (auto byte = id.rbegin(); byte != id.rend(); ++byte) {
        text.push_back(digits[*byte >> 4]);
        text.push_back(digits[*byte & 15]);
    }
    return text;
}

PublicKey parse_public_key(std::string_view text) {
    const std::string unified_text = unified(text.substr(0, max_text + 1));
    std::vector<std::string_view> lines = lines_of(unified_text);
    if (starts_with(lines.front(), untrusted)) lines.erase(lines.begin());
    std::array<uint8_t, mark_bytes + sizeof(PublicKey::id) + sizeof(PublicKey::key)> entry;
    if (text.size() > max_text || !is_utf8(text) || lines.size() != 1 ||
        !decode(lines.front(), entry) || !is_marked(entry, key_mark))
        throw Failure(PKECHO_PUBLIC_KEY,
                      "what was given as public key is none. Give the text of a .pub file");
    PublicKey key;
    std::copy_n(entry.begin() + mark_bytes, key.id.size(), key.id.begin());
    std::copy_n(entry.end() - sizeof(key.key), key.key.size(), key.key.begin());
    return key;
}

Verified verify(const uint8_t *data, size_t size, std::string_view signature,
                const std::vector<PublicKey> &keys) {
    if (sodium_init() < 0) throw Failure(PKECHO_INTERNAL, "libsodium cannot be initialised");
    if (signature.size() > max_text || !is_utf8(signature))
        refuse_signature("is not a minisign signature");
    const std::string text = unified(signature);
    const SignatureFile file = parse_signature(text);
    bool is_known = false;
    for (const PublicKey &key : keys) {
        if (key.id != file.id) continue;
        is_known = true;
        if (is_signed_by(key, file, data, size))
            return {name(key.id), std::string(file.trusted_comment)};
    }
    if (is_known)
        refuse_signature("does not match " + std::string(layout::manifest) + ", or is damaged");
    throw Failure(PKECHO_SIGNATURE_KEY, std::string(layout::signature) + ": was made with key " +
                                            name(file.id) +
                                            ", which is none of the public keys given. Check where "
                                            "the bundle comes from");
}

}  // namespace pkecho::minisign
