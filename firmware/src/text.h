// Text that came from a file: whether it is UTF-8, and whether and how it may be shown.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace pkecho {

constexpr char32_t not_utf8 = 0xFFFFFFFF;

// The code point at `position`, which moves behind it. `not_utf8` where there is none: a stray or
// missing byte, an overlong form, a surrogate, or beyond U+10FFFF; `position` then moves by a byte,
// so that every loop ends.
char32_t next_code_point(std::string_view text, size_t &position) noexcept;

bool is_utf8(std::string_view text) noexcept;

// Appends a code point that is no surrogate.
void append_utf8(std::string &text, char32_t code_point);

// Python's str.isprintable: neither control, format, surrogate, private nor unassigned, and no
// blank but the space.
bool is_printable(char32_t code_point) noexcept;

// One printable line of 1 to 1000 characters: safe to show on a terminal.
bool is_label(std::string_view text) noexcept;

// Any bytes as printable ASCII for a message, "..." in place of what would make it longer than
// about `max_length`.
std::string quoted(std::string_view bytes, size_t max_length = 80);

}  // namespace pkecho
