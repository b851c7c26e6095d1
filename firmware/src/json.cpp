#include "json.h"

#include <locale.h>  // newlocale and strtod_l, which <clocale> need not have

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "failure.h"
#include "text.h"

namespace pkecho::json {
namespace {

constexpr int max_depth = 32;
constexpr int64_t max_integer = int64_t{1} << 53;  // beyond it, readers that use doubles disagree
constexpr size_t max_integer_characters = 17;      // "-9007199254740992"

bool is_digit(char character) noexcept { return character >= '0' && character <= '9'; }

// Recursive, as deep as max_depth allows.
class Parser {
public:
    Parser(std::string_view text, const Origin &origin) : text_(text), origin_(origin) {}

    Value document() {
        Value result = value(0);
        if (peek() != end) fail("the end");
        return result;
    }

private:
    static constexpr int end = -1;

    Value value(int depth);
    Value object(int depth);
    Value array(int depth);
    Value number();
    Value literal();
    std::string string();
    void escape(std::string &result);
    char32_t hexadecimal();
    void digits();

    // The next byte, as it is; `end` behind the last.
    int here() const noexcept {
        return at_ < text_.size() ? static_cast<unsigned char>(text_[at_]) : end;
    }
    // The same, blanks skipped.
    int peek() noexcept {
        while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != text_.npos)
            ++at_;
        return here();
    }
    bool take(char expected) noexcept {
        if (peek() != expected) return false;
        ++at_;
        return true;
    }
    [[noreturn]] void fail(const char *expected) const {
        const std::string_view before = text_.substr(0, at_);
        const auto line = 1 + std::count(before.begin(), before.end(), '\n');
        origin_.refuse("is not JSON: " + std::string(expected) + " was expected in line " +
                       std::to_string(line));
    }

    std::string_view text_;
    const Origin &origin_;
    size_t at_ = 0;
};

Value Parser::value(int depth) {
    if (depth > max_depth)
        origin_.refuse("is nested deeper than " + std::to_string(max_depth) + " levels");
    const int next = peek();
    if (next == '{') return object(depth);
    if (next == '[') return array(depth);
    if (next == '"') {
        ++at_;
        return {string()};
    }
    if (next == '-' || (next != end && is_digit(static_cast<char>(next)))) return number();
    return literal();
}

Value Parser::object(int depth) {
    Value::Object members;
    ++at_;
    if (take('}')) return {std::move(members)};
    do {
        if (!take('"')) fail("a key in double quotes");
        std::string key = string();
        if (!take(':')) fail("\":\"");
        members.push_back({std::move(key), value(depth + 1)});
    } while (take(','));
    if (!take('}')) fail("\",\" or \"}\"");
    const auto by_key = [](const Member &a, const Member &b) { return a.key < b.key; };
    const auto same_key = [](const Member &a, const Member &b) { return a.key == b.key; };
    std::sort(members.begin(), members.end(), by_key);
    const auto twice = std::adjacent_find(members.begin(), members.end(), same_key);
    if (twice != members.end())
        origin_.refuse("has the key '" + quoted(twice->key) + "' twice in one object");
    return {std::move(members)};
}

Value Parser::array(int depth) {
    Value::Array items;
    ++at_;
    if (take(']')) return {std::move(items)};
    do {
        items.push_back(value(depth + 1));
    } while (take(','));
    if (!take(']')) fail("\",\" or \"]\"");
    return {std::move(items)};
}

Value Parser::literal() {
    const auto is_next = [this](std::string_view word) {
        if (text_.compare(at_, word.size(), word) != 0) return false;
        at_ += word.size();
        return true;
    };
    if (is_next("null")) return {};
    if (is_next("true")) return {true};
    if (is_next("false")) return {false};
    fail("a value");
}

void Parser::digits() {
    if (here() == end || !is_digit(text_[at_])) fail("a digit");
    while (here() != end && is_digit(text_[at_])) ++at_;
}

locale_t c_locale() {
    static const locale_t locale = newlocale(LC_ALL_MASK, "C", nullptr);
    if (locale == nullptr) throw std::bad_alloc();
    return locale;
}

// strtod in the "C" locale, whatever the program's: correctly rounded, 0 or a subnormal where it is
// tiny. (std::from_chars reports tiny and huge alike.)
double to_double(const char *text) { return strtod_l(text, nullptr, c_locale()); }

// The fewest digits that read back as the same number, as "d.ddde-05", into 32 bytes; its length.
// (std::to_chars says the same, but GCC 9 of JetPack 5 has none for reals.)
size_t write_shortest(double value, char *buffer) {
    const locale_t before = uselocale(c_locale());
    int length = 0;
    for (int digits = 0; digits < 17; ++digits) {
        length = std::snprintf(buffer, 32, "%.*e", digits, value);
        if (to_double(buffer) == value) break;
        // above a power of two, numbers are twice as far apart as below it: the next decimal up may
        // read back where the nearest one, which is below, does not
        char *last = std::strchr(buffer, 'e') - 1;
        if (*last == '9') continue;
        ++*last;
        if (to_double(buffer) == value) break;
    }
    uselocale(before);
    return static_cast<size_t>(length);
}

Value Parser::number() {
    const size_t start = at_;
    bool is_integer = true;
    if (here() == '-') ++at_;
    if (here() == '0') {
        ++at_;
    } else {
        digits();
    }
    if (here() == '.') {
        is_integer = false;
        ++at_;
        digits();
    }
    if (here() == 'e' || here() == 'E') {
        is_integer = false;
        ++at_;
        if (here() == '+' || here() == '-') ++at_;
        digits();
    }
    const std::string text(text_.substr(start, at_ - start));
    if (!is_integer) {
        const double real = to_double(text.c_str());
        if (!std::isfinite(real)) origin_.refuse("holds a number beyond the range of a double");
        return {real};
    }
    int64_t integer = 0;
    if (text.size() <= max_integer_characters)
        std::from_chars(text.data(), text.data() + text.size(), integer);
    if (text.size() > max_integer_characters || integer > max_integer || integer < -max_integer)
        origin_.refuse("holds an integer beyond 2^53");
    return {integer};
}

// The rest of a string whose first quote was taken.
std::string Parser::string() {
    std::string result;
    for (;;) {
        const size_t start = at_;
        while (here() >= 0x20 && here() != '"' && here() != '\\') ++at_;
        result.append(text_.substr(start, at_ - start));
        if (here() == '"') break;
        if (here() != '\\') fail("the end of a string");
        ++at_;
        escape(result);
    }
    ++at_;
    return result;
}

void Parser::escape(std::string &result) {
    static constexpr std::string_view names = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
    if (here() == end) fail("an escape");
    const char name = text_[at_++];
    const size_t index = names.find(name);
    if (index != names.npos) {
        result.push_back(meanings[index]);
        return;
    }
    if (name != 'u') fail("an escape");
    char32_t code_point = hexadecimal();
    const bool is_high = code_point >= 0xD800 && code_point < 0xDC00;
    if (is_high && text_.compare(at_, 2, "\\u") == 0) {
        at_ += 2;
        const char32_t low = hexadecimal();
        if (low >= 0xDC00 && low < 0xE000)
            code_point = 0x10000 + ((code_point - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code_point >= 0xD800 && code_point < 0xE000) origin_.refuse("holds half a surrogate pair");
    append_utf8(result, code_point);
}

char32_t Parser::hexadecimal() {
    char32_t result = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
        static constexpr std::string_view lower = "0123456789abcdef", upper = "0123456789ABCDEF";
        if (here() == end) fail("a hexadecimal digit");
        const size_t digit = std::min(lower.find(text_[at_]), upper.find(text_[at_]));
        if (digit == lower.npos) fail("a hexadecimal digit");
        result = result << 4 | static_cast<char32_t>(digit);
    }
    return result;
}

class Writer {
public:
    Writer(std::string &out, size_t limit) : out_(out), limit_(limit) {}

    void value(const Value &value, size_t depth);

private:
    void object(const Value::Object &members, size_t depth);
    void array(const Value::Array &items, size_t depth);
    void string(std::string_view text);
    void unit(unsigned code);
    void real(double value);
    void line(size_t depth) {
        out_.push_back('\n');
        out_.append(2 * depth, ' ');
    }
    bool is_full() const noexcept { return out_.size() > limit_; }

    std::string &out_;
    size_t limit_;
};

void Writer::value(const Value &value, size_t depth) {
    if (const auto *members = value.get<Value::Object>()) return object(*members, depth);
    if (const auto *items = value.get<Value::Array>()) return array(*items, depth);
    if (const auto *text = value.get<std::string>()) return string(*text);
    if (const auto *number = value.get<double>()) return real(*number);
    if (const auto *integer = value.get<int64_t>()) {
        out_ += std::to_string(*integer);
    } else if (const auto *truth = value.get<bool>()) {
        out_ += *truth ? "true" : "false";
    } else {
        out_ += "null";
    }
}

void Writer::object(const Value::Object &members, size_t depth) {
    out_.push_back('{');
    for (const Member &member : members) {
        if (is_full()) return;
        if (&member != &members.front()) out_.push_back(',');
        line(depth + 1);
        string(member.key);
        out_ += ": ";
        value(member.value, depth + 1);
    }
    if (!members.empty()) line(depth);
    out_.push_back('}');
}

void Writer::array(const Value::Array &items, size_t depth) {
    out_.push_back('[');
    for (const Value &item : items) {
        if (is_full()) return;
        if (&item != &items.front()) out_.push_back(',');
        line(depth + 1);
        value(item, depth + 1);
    }
    if (!items.empty()) line(depth);
    out_.push_back(']');
}

void Writer::string(std::string_view text) {
    static constexpr std::string_view special = "\"\\\b\f\n\r\t", names = "\"\\bfnrt";
    out_.push_back('"');
    for (size_t position = 0; position < text.size();) {
        const char32_t code = next_code_point(text, position);
        const size_t index = code < 0x80 ? special.find(static_cast<char>(code)) : special.npos;
        if (index != special.npos) {
            out_.push_back('\\');
            out_.push_back(names[index]);
        } else if (code >= 0x20 && code < 0x7F) {
            out_.push_back(static_cast<char>(code));
        } else if (code < 0x10000) {
            unit(code);
        } else {
            unit(0xD800 + ((code - 0x10000) >> 10));
            unit(0xDC00 + ((code - 0x10000) & 0x3FF));
        }
    }
    out_.push_back('"');
}

// A UTF-16 code unit.
void Writer::unit(unsigned code) {
    static const char digits[] = "0123456789abcdef";
    out_ += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out_.push_back(digits[code >> shift & 15]);
}

// As Python's repr: the fewest digits that read back as the same number, an exponent only outside
// 1e-4 to 1e16, and something that tells it from an integer.
void Writer::real(double value) {
    char buffer[32];
    const std::string_view text(buffer, write_shortest(value, buffer));
    const size_t mark = text.find('e');
    int exponent = 0;  // from_chars reads "-05", but no "+"
    std::from_chars(buffer + mark + (text[mark + 1] == '+' ? 2 : 1), buffer + text.size(),
                    exponent);
    if (exponent < -4 || exponent >= 16) {
        out_ += text;  // "1.5e-05", "1e+16": as Python writes it, too
        return;
    }
    std::string digits;
    for (const char character : text.substr(0, mark))
        if (is_digit(character)) digits.push_back(character);
    if (text.front() == '-') out_.push_back('-');
    if (exponent < 0) {
        out_ += "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
        return;
    }
    const size_t whole = static_cast<size_t>(exponent) + 1;
    if (digits.size() < whole + 1) digits.resize(whole + 1, '0');
    out_ += digits.substr(0, whole) + '.' + digits.substr(whole);
}

}  // namespace

void Origin::refuse(const std::string &what) const {
    throw Failure(status, file + ": " + what + ". Fetch or build the bundle again");
}

Member *find(Value::Object &object, std::string_view key) noexcept {
    const auto place =
        std::lower_bound(object.begin(), object.end(), key,
                         [](const Member &member, std::string_view k) { return member.key < k; });
    return place != object.end() && place->key == key ? &*place : nullptr;
}

Value parse(std::string_view text, const Origin &origin) {
    if (text.size() > max_bytes) origin.refuse("is larger than 4 MiB");
    if (!is_utf8(text)) origin.refuse("is not UTF-8 text");
    return Parser(text, origin).document();
}

std::string canonical(const Value &value, size_t limit) {
    std::string text;
    Writer(text, limit).value(value, 0);
    text.push_back('\n');
    return text;
}

}  // namespace pkecho::json
