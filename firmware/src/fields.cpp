#include "fields.h"

#include "text.h"

namespace pkecho {

Fields::Fields(json::Value &value, std::string where, const json::Origin &origin)
    : members_(value.get<json::Value::Object>()), where_(std::move(where)), origin_(origin) {
    if (members_ == nullptr)
        refuse((where_.empty() ? "the document" : where_) + " must be an object");
    taken_.resize(members_->size());
}

std::string Fields::name(std::string_view key) const {
    const std::string shown = quoted(key, 60);
    return where_.empty() ? shown : where_ + "." + shown;
}

json::Value &Fields::take(std::string_view key) {
    json::Member *member = json::find(*members_, key);
    if (member == nullptr) refuse(name(key) + " is missing");
    taken_[static_cast<size_t>(member - members_->data())] = true;
    return member->value;
}

template <class T>
T &Fields::typed(std::string_view key, const char *type) {
    T *value = take(key).template get<T>();
    if (value == nullptr) refuse(name(key) + " must be " + type);
    return *value;
}

const std::string &Fields::text(std::string_view key) { return typed<std::string>(key, "text"); }

const std::string *Fields::optional_text(std::string_view key) {
    if (take(key).get<std::monostate>() != nullptr) return nullptr;
    return &text(key);
}

int64_t Fields::integer(std::string_view key) { return typed<int64_t>(key, "an integer"); }

double Fields::number(std::string_view key) {
    json::Value &value = take(key);
    if (const int64_t *integer = value.get<int64_t>()) value.data = static_cast<double>(*integer);
    return typed<double>(key, "a number");
}

bool Fields::boolean(std::string_view key) { return typed<bool>(key, "true or false"); }

json::Value::Array &Fields::array(std::string_view key) {
    return typed<json::Value::Array>(key, "an array");
}

std::vector<std::string> Fields::texts(std::string_view key) {
    std::vector<std::string> result;
    for (const json::Value &value : array(key)) {
        const std::string *text = value.get<std::string>();
        if (text == nullptr) refuse(name(key) + " must be an array of text");
        result.push_back(*text);
    }
    return result;
}

std::vector<int64_t> Fields::integers(std::string_view key) {
    std::vector<int64_t> result;
    for (const json::Value &value : array(key)) {
        const int64_t *integer = value.get<int64_t>();
        if (integer == nullptr) refuse(name(key) + " must be an array of integers");
        result.push_back(*integer);
    }
    return result;
}

Pairs Fields::text_map(std::string_view key) {
    Pairs result;
    for (const json::Member &member : *mapping(key).get<json::Value::Object>()) {
        const std::string *text = member.value.get<std::string>();
        if (text == nullptr) refuse(name(key) + " must map text to text");
        result.emplace_back(member.key, *text);
    }
    return result;
}

json::Value &Fields::mapping(std::string_view key) {
    typed<json::Value::Object>(key, "an object");
    return take(key);
}

Fields Fields::object(std::string_view key) { return Fields(take(key), name(key), origin_); }

void Fields::objects(std::string_view key, const std::function<void(Fields &)> &read) {
    json::Value::Array &items = array(key);
    for (size_t i = 0; i < items.size(); ++i) {
        Fields item(items[i], name(key) + "[" + std::to_string(i) + "]", origin_);
        read(item);
        item.done();
    }
}

void Fields::done() const {
    for (size_t i = 0; i < taken_.size(); ++i)
        if (!taken_[i]) refuse(name((*members_)[i].key) + " is not a known key");
}

}  // namespace pkecho
