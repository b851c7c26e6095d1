// Any bytes as a public key and a .minisig file that is checked with it. The secret half of the
// corpus's key is thrown away once the corpus is made, so nothing but its signature may pass.
//
//     clang++ -std=c++17 -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude
//         fuzz/signature_fuzzer.cpp src/{layout,minisign,text}.cpp -lsodium -o signature_fuzzer
//     python fuzz/make_corpus.py corpus
//     ./signature_fuzzer -max_len=9000 corpus/signature
//
// The input is the key's text, a NUL, and the signature's text.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "../src/failure.h"
#include "../src/minisign.h"

namespace {

using namespace pkecho::minisign;

constexpr std::string_view data_of_corpus = "{\"schema\": \"pkecho-edge/bundle/2\"}\n";
constexpr std::string_view comment_of_corpus = "a trusted comment";

void require(bool holds) {
    if (!holds) std::abort();
}

Verified check(std::string_view data, std::string_view signature, const PublicKey &key) {
    return verify(reinterpret_cast<const uint8_t *>(data.data()), data.size(), signature, {key});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    const std::string_view input(reinterpret_cast<const char *>(bytes), size);
    const size_t end = std::min(input.find('\0'), size);
    const std::string_view signature = input.substr(std::min(end + 1, size));
    try {
        const PublicKey key = parse_public_key(input.substr(0, end));
        const Verified verified = check(data_of_corpus, signature, key);
        require(verified.signed_by == name(key.id));
        require(verified.trusted_comment == comment_of_corpus);
        check(data_of_corpus.substr(1), signature, key);  // other bytes: must throw
        std::abort();
    } catch (const pkecho::Failure &failure) {
        const pkecho_status status = failure.status();
        require(status == PKECHO_PUBLIC_KEY || status == PKECHO_SIGNATURE ||
                status == PKECHO_SIGNATURE_KEY);
    }
    return 0;
}
