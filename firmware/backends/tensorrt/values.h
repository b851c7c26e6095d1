// JSON values of recipes and of records of plans: how to look into them, and the text that keys are
// hashes of.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "json.h"

namespace pkecho::tensorrt {

using json::Value;

// nullptr where it is no object, or has no such member.
const Value *find(const Value &object, std::string_view key) noexcept;

// Each throws std::runtime_error where there is no such member, or it is something else.
const Value &at(const Value &object, std::string_view key);
template <typename T>
const T &as(const Value &value);
const std::string &text_at(const Value &object, std::string_view key);

Value object_of(std::initializer_list<json::Member> members);
void insert(Value &object, std::string key, Value value);

// The same bytes as Python's json.dumps(value, sort_keys=True, separators=(",", ":")).
std::string compact(const Value &value);
inline bool is_same(const Value &a, const Value &b) { return compact(a) == compact(b); }

// Any bytes as text that JSON takes, as Python's decode(errors="replace").
std::string as_utf8(std::string_view bytes);

}  // namespace pkecho::tensorrt
