#include "onnx.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <stdexcept>

namespace pkecho::tensorrt {

namespace {

// Field numbers of ONNX's protocol buffers.
constexpr uint32_t kModelGraph = 7;
constexpr uint32_t kGraphNode = 1, kGraphInitializer = 5;
constexpr uint32_t kNodeName = 3, kNodeOperator = 4;
constexpr uint32_t kTensorRaw = 9, kTensorExternal = 13, kTensorLocation = 14;
constexpr uint32_t kPairKey = 1, kPairValue = 2;

constexpr uint32_t kVarint = 0, kEight = 1, kLength = 2, kFour = 5;  // wire types

struct Field {
    uint32_t number = 0, type = 0;
    uint64_t value = 0;  // of a varint
    View content;        // of a length-delimited field
    View whole;          // with its tag

    bool is(uint32_t wanted) const noexcept { return number == wanted && type == kLength; }
    std::string_view text() const noexcept {
        return {reinterpret_cast<const char *>(content.data), content.size};
    }
};

// Goes through the fields of one message.
class Fields {
public:
    explicit Fields(View message) : at_(message.data), end_(message.data + message.size) {}

    bool next(Field &field) {
        if (at_ == end_) return false;
        const uint8_t *start = at_;
        const uint64_t tag = varint();
        field = Field{};
        field.number = static_cast<uint32_t>(tag >> 3);
        field.type = static_cast<uint32_t>(tag & 7);
        switch (field.type) {
            case kVarint: field.value = varint(); break;
            case kEight: skip(8); break;
            case kFour: skip(4); break;
            case kLength:
                field.content.size = size();
                field.content.data = at_;
                skip(field.content.size);
                break;
            default: damaged();
        }
        field.whole = {start, static_cast<size_t>(at_ - start)};
        return true;
    }

private:
    [[noreturn]] static void damaged() { throw std::runtime_error("it is no ONNX, or cut off"); }

    size_t size() {
        const uint64_t found = varint();
        if (found > static_cast<uint64_t>(end_ - at_)) damaged();
        return static_cast<size_t>(found);
    }

    void skip(size_t count) {
        if (count > static_cast<size_t>(end_ - at_)) damaged();
        at_ += count;
    }

    uint64_t varint() {
        uint64_t value = 0;
        for (unsigned shift = 0; shift < 64; shift += 7) {
            if (at_ == end_) damaged();
            const uint8_t byte = *at_++;
            value |= static_cast<uint64_t>(byte & 127) << shift;
            if (byte < 128) return value;
        }
        damaged();
    }

    const uint8_t *at_, *end_;
};

void append(Bytes &out, View data) { out.insert(out.end(), data.data, data.data + data.size); }

void append_varint(Bytes &out, uint64_t value) {
    for (; value > 127; value >>= 7) out.push_back(static_cast<uint8_t>(value | 128));
    out.push_back(static_cast<uint8_t>(value));
}

void append_message(Bytes &out, uint32_t number, View content) {
    append_varint(out, number << 3 | kLength);
    append_varint(out, content.size);
    append(out, content);
}

View view(const Bytes &data) { return {data.data(), data.size()}; }

struct Place {
    std::string_view location;
    size_t offset = 0;
    std::optional<size_t> length;  // to the end of the file where it is not said
};

size_t whole_number(std::string_view text) {
    size_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) {
        throw std::runtime_error("the place of a weight is no number");
    }
    return value;
}

void read_pair(View pair, Place &place) {
    std::string_view key, value;
    Field field;
    for (Fields fields(pair); fields.next(field);) {
        if (field.is(kPairKey)) key = field.text();
        if (field.is(kPairValue)) value = field.text();
    }
    if (key == "location") place.location = value;
    if (key == "offset") place.offset = whole_number(value);
    if (key == "length") place.length = whole_number(value);
}

View cut(View file, const Place &place) {
    if (file.data == nullptr) {
        throw std::runtime_error("weights lie in \"" + std::string(place.location) +
                                 "\", which the engine does not have");
    }
    if (place.offset > file.size) throw std::runtime_error("a weight lies behind its file's end");
    const size_t left = file.size - place.offset;
    if (place.length.value_or(left) > left) {
        throw std::runtime_error("a weight lies behind its file's end");
    }
    return {file.data + place.offset, place.length.value_or(left)};
}

void append_tensor(Bytes &out, const Field &tensor,
                   const std::function<View(std::string_view)> &find) {
    Place place;
    bool is_external = false;
    Bytes kept;
    Field field;
    for (Fields fields(tensor.content); fields.next(field);) {
        if (field.number == kTensorLocation) {
            is_external = field.value == 1;
        } else if (field.is(kTensorExternal)) {
            read_pair(field.content, place);
        } else if (!field.is(kTensorRaw)) {
            append(kept, field.whole);
        }
    }
    if (!is_external) return append(out, tensor.whole);
    const View weight = cut(find(place.location), place);
    kept.reserve(kept.size() + weight.size + 12);
    append_message(kept, kTensorRaw, weight);
    append_message(out, kGraphInitializer, view(kept));
}

}  // namespace

Bytes with_weights(View model, const std::function<View(std::string_view)> &find) {
    Bytes out;
    Field field, part;
    bool has_graph = false;
    for (Fields fields(model); fields.next(field);) {
        if (!field.is(kModelGraph)) {
            append(out, field.whole);
            continue;
        }
        Bytes graph;
        for (Fields parts(field.content); parts.next(part);) {
            if (part.is(kGraphInitializer)) {
                append_tensor(graph, part, find);
            } else {
                append(graph, part.whole);
            }
        }
        append_message(out, kModelGraph, view(graph));
        has_graph = true;
    }
    if (!has_graph) throw std::runtime_error("there is no graph in it");
    // protocol buffers end there, and parsers with them
    if (out.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
        throw std::runtime_error("it has more than 2 GiB with its weights");
    }
    return out;
}

std::string node_name(View model, int index) {
    Field field, part, detail;
    for (Fields fields(model); fields.next(field);) {
        for (Fields parts(field.is(kModelGraph) ? field.content : View{}); parts.next(part);) {
            if (!part.is(kGraphNode) || index-- != 0) continue;
            std::string_view name, kind;
            for (Fields details(part.content); details.next(detail);) {
                if (detail.is(kNodeName)) name = detail.text();
                if (detail.is(kNodeOperator)) kind = detail.text();
            }
            return std::string(name) + " (" + std::string(kind) + ")";
        }
    }
    return "the graph";
}

}  // namespace pkecho::tensorrt
