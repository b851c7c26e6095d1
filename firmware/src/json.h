// JSON as bundles use it, to the limits of pkecho_edge/bundle/strict_json.py: a reader that accepts
// no surprises, and the one canonical way to write it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "pkecho.h"

namespace pkecho::json {

constexpr size_t max_bytes = size_t{4} << 20;  // no JSON file of a bundle is larger

// Which file a text came from, and with which status it is refused.
struct Origin {
    pkecho_status status;
    std::string file;

    // Throws Failure; `what` is printable already, and goes between the file and the remedy.
    [[noreturn]] void refuse(const std::string &what) const;
};

struct Member;

class Value {
public:
    using Array = std::vector<Value>;
    using Object = std::vector<Member>;  // sorted by key, each key once

    // monostate is null. Python tells integers from reals, and so must whoever writes as it does.
    std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> data;

    // The value where it is of this type, else nullptr.
    template <class T>
    T *get() noexcept {
        return std::get_if<T>(&data);
    }
    template <class T>
    const T *get() const noexcept {
        return std::get_if<T>(&data);
    }
};

struct Member {
    std::string key;
    Value value;
};

// The member of this key; nullptr where there is none.
Member *find(Value::Object &object, std::string_view key) noexcept;

// Parse text that may come from an attacker. Refused are: more than max_bytes, no UTF-8, no JSON, a
// key twice in one object, NaN and infinities, integers beyond 2^53, reals beyond the range of a
// double, half a surrogate pair, and more than 32 levels.
Value parse(std::string_view text, const Origin &origin);

// Byte for byte what Python's canonical_json gives: sorted keys, two spaces, ASCII only, a newline
// at the end. Stops once it is longer than `limit`: a longer result is the beginning of the text.
std::string canonical(const Value &value, size_t limit = SIZE_MAX);

}  // namespace pkecho::json
