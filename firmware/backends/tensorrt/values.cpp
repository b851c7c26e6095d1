#include "values.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "text.h"

namespace pkecho::tensorrt {

const Value *find(const Value &object, std::string_view key) noexcept {
    const auto *members = object.get<Value::Object>();
    if (members == nullptr) return nullptr;
    for (const json::Member &member : *members) {
        if (member.key == key) return &member.value;
    }
    return nullptr;
}

const Value &at(const Value &object, std::string_view key) {
    const Value *found = find(object, key);
    if (found == nullptr) throw std::runtime_error("\"" + std::string(key) + "\" is missing");
    return *found;
}

template <typename T>
const T &as(const Value &value) {
    const T *found = value.get<T>();
    if (found == nullptr) throw std::runtime_error("a value has another type");
    return *found;
}

template const bool &as<bool>(const Value &);
template const int64_t &as<int64_t>(const Value &);
template const std::string &as<std::string>(const Value &);
template const Value::Array &as<Value::Array>(const Value &);
template const Value::Object &as<Value::Object>(const Value &);

const std::string &text_at(const Value &object, std::string_view key) {
    return as<std::string>(at(object, key));
}

Value object_of(std::initializer_list<json::Member> members) {
    Value value{Value::Object{}};
    for (const json::Member &member : members) insert(value, member.key, member.value);
    return value;
}

void insert(Value &object, std::string key, Value value) {
    auto &members = *object.get<Value::Object>();
    const auto place =
        std::lower_bound(members.begin(), members.end(), key,
                         [](const json::Member &a, const std::string &b) { return a.key < b; });
    if (place != members.end() && place->key == key) {
        place->value = std::move(value);
    } else {
        members.insert(place, {std::move(key), std::move(value)});
    }
}

// The canonical text without its blanks: those within texts are all that stay.
std::string compact(const Value &value) {
    std::string out;
    bool is_text = false, is_escaped = false;
    for (const char c : json::canonical(value)) {
        if (is_text || (c != ' ' && c != '\n')) out += c;
        if (c == '"' && !is_escaped) is_text = !is_text;
        is_escaped = c == '\\' && !is_escaped;
    }
    return out;
}

std::string as_utf8(std::string_view bytes) {
    std::string text;
    for (size_t position = 0; position < bytes.size();) {
        const char32_t point = next_code_point(bytes, position);
        append_utf8(text, point == not_utf8 ? 0xFFFD : point);
        if (point == not_utf8) ++position;
    }
    return text;
}

}  // namespace pkecho::tensorrt
