// Take the fields of a JSON object one by one, each with its type checked: what
// pkecho_edge/bundle/fields.py is in Python.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "json.h"
#include "manifest.h"

namespace pkecho {

// One JSON object whose keys are all taken exactly once. Every method throws Failure with the
// origin's status, naming the field, where the key is missing or its value has another type; true
// and false are not numbers. The object must outlive this.
class Fields {
public:
    // `where`: its name in messages, "lineage" for example; "" for the outermost object.
    Fields(json::Value &value, std::string where, const json::Origin &origin);

    // A field's full name, safe to print.
    std::string name(std::string_view key) const;

    const std::string &text(std::string_view key);
    // nullptr where it is null.
    const std::string *optional_text(std::string_view key);
    int64_t integer(std::string_view key);
    // An integer becomes a real in the object, too: the canonical form knows only reals here.
    double number(std::string_view key);
    bool boolean(std::string_view key);
    std::vector<std::string> texts(std::string_view key);
    std::vector<int64_t> integers(std::string_view key);
    Pairs text_map(std::string_view key);
    // Any object, its keys left to the caller; the value returned is known to hold one.
    json::Value &mapping(std::string_view key);
    Fields object(std::string_view key);
    // An array of objects: `read` gets one after the other, and must take all its fields.
    void objects(std::string_view key, const std::function<void(Fields &)> &read);

    // Refuses keys that nobody took: a reader that skips them may miss what they mean.
    void done() const;

    [[noreturn]] void refuse(const std::string &what) const { origin_.refuse(what); }

private:
    json::Value &take(std::string_view key);
    json::Value::Array &array(std::string_view key);
    template <class T>
    T &typed(std::string_view key, const char *type);

    json::Value::Object *members_;
    std::vector<bool> taken_;
    std::string where_;
    const json::Origin &origin_;
};

}  // namespace pkecho
