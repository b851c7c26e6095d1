#include "text.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace pkecho {
namespace {

constexpr size_t max_label = 1000;

// Code points at which printable and not printable take turns, from "not" on.
constexpr uint32_t printable_turns[] = {
#include "printable.inc"
};

// Length and payload bits that a sequence's first byte announces; length 0: no such byte.
struct Lead {
    size_t length;
    char32_t bits;
    char32_t smallest;  // below it the form is overlong
};

Lead lead_of(unsigned char byte) noexcept {
    if (byte < 0x80) return {1, byte, 0};
    if (byte >= 0xC2 && byte < 0xE0) return {2, byte & 0x1Fu, 0x80};
    if (byte >= 0xE0 && byte < 0xF0) return {3, byte & 0x0Fu, 0x800};
    if (byte >= 0xF0 && byte < 0xF5) return {4, byte & 0x07u, 0x10000};
    return {0, 0, 0};
}

}  // namespace

char32_t next_code_point(std::string_view text, size_t &position) noexcept {
    const std::string_view rest = text.substr(std::min(position, text.size()));
    ++position;
    if (rest.empty()) return not_utf8;
    const Lead lead = lead_of(static_cast<unsigned char>(rest[0]));
    if (lead.length == 0 || lead.length > rest.size()) return not_utf8;
    char32_t code_point = lead.bits;
    for (size_t i = 1; i < lead.length; ++i) {
        const unsigned char byte = static_cast<unsigned char>(rest[i]);
        if ((byte & 0xC0u) != 0x80u) return not_utf8;
        code_point = code_point << 6 | (byte & 0x3Fu);
    }
    const bool is_surrogate = code_point >= 0xD800 && code_point <= 0xDFFF;
    if (code_point < lead.smallest || code_point > 0x10FFFF || is_surrogate) return not_utf8;
    position += lead.length - 1;
    return code_point;
}

bool is_utf8(std::string_view text) noexcept {
    for (size_t position = 0; position < text.size();)
        if (next_code_point(text, position) == not_utf8) return false;
    return true;
}

void append_utf8(std::string &text, char32_t code_point) {
    const auto append = [&text](char32_t byte) { text.push_back(static_cast<char>(byte)); };
    if (code_point < 0x80) {
        append(code_point);
        return;
    }
    if (code_point < 0x800) {
        append(0xC0 | code_point >> 6);
    } else {
        if (code_point < 0x10000) {
            append(0xE0 | code_point >> 12);
        } else {
            append(0xF0 | code_point >> 18);
            append(0x80 | (code_point >> 12 & 0x3F));
        }
        append(0x80 | (code_point >> 6 & 0x3F));
    }
    append(0x80 | (code_point & 0x3F));
}

bool is_printable(char32_t code_point) noexcept {
    const auto turn = std::upper_bound(std::begin(printable_turns), std::end(printable_turns),
                                       static_cast<uint32_t>(code_point));
    return (turn - std::begin(printable_turns)) % 2 == 1;
}

bool is_label(std::string_view text) noexcept {
    size_t characters = 0;
    for (size_t position = 0; position < text.size(); ++characters) {
        const char32_t code_point = next_code_point(text, position);
        if (characters == max_label || code_point == not_utf8 || !is_printable(code_point))
            return false;
    }
    return characters > 0;
}

std::string quoted(std::string_view bytes, size_t max_length) {
    static const char digits[] = "0123456789abcdef";
    std::string text;
    for (const char character : bytes) {
        if (text.size() >= max_length) return text + "...";
        const unsigned char byte = static_cast<unsigned char>(character);
        if (byte >= 0x20 && byte < 0x7F && byte != '\\') {
            text.push_back(character);
        } else {
            text += "\\x";
            text.push_back(digits[byte >> 4]);
            text.push_back(digits[byte & 15]);
        }
    }
    return text;
}

}  // namespace pkecho
