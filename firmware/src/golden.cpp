#include "golden.h"

#include <cmath>
#include <cstring>
#include <string_view>
#include <vector>

#include "failure.h"
#include "fields.h"
#include "json.h"

namespace pkecho {

namespace {

constexpr std::string_view schema = "pkecho-edge/golden/1";

struct Array {
    const char *name, *dtype, *descr;
    size_t item;
};
constexpr Array arrays[] = {{"frames", "u8", "|u1", 1},
                            {"logits", "f32", "<f4", 4},
                            {"masks", "bool", "|b1", 1},
                            {"areas_px", "f32", "<f4", 4}};

const std::vector<uint8_t> &listed(const Bundle &bundle, const std::string &path) {
    const std::vector<uint8_t> *content = bundle.content(path);
    if (content == nullptr) {
        throw Failure(PKECHO_NO_GOLDEN, path + " is not in the bundle. Build the bundle again");
    }
    return *content;
}

// The header that NumPy's format 1.0 has for an array; see pkecho_edge/bundle/npy.py.
std::string npy_header(const char *descr, const std::vector<int64_t> &shape) {
    std::string extents;
    for (const int64_t extent : shape) {
        extents += (extents.empty() ? "" : ", ") + std::to_string(extent);
    }
    if (shape.size() == 1) extents += ",";
    std::string text = std::string("{'descr': '") + descr +
                       "', 'fortran_order': False, 'shape': (" + extents + "), }";
    const std::string prefix("\x93NUMPY\x01\x00", 8);
    text.append((64 - (prefix.size() + 2 + text.size() + 1) % 64) % 64, ' ');
    text += '\n';
    const auto low = static_cast<char>(text.size() & 0xFF);
    const auto high = static_cast<char>(text.size() >> 8);
    return prefix + low + high + text;
}

// The elements of a file that must hold this type and shape.
const uint8_t *elements(const Bundle &bundle, const std::string &path, const Array &array,
                        const std::vector<int64_t> &shape) {
    const std::vector<uint8_t> &content = listed(bundle, path);
    const std::string header = npy_header(array.descr, shape);
    size_t bytes = array.item;
    for (const int64_t extent : shape) bytes *= static_cast<size_t>(extent);
    if (content.size() != header.size() + bytes ||
        std::memcmp(content.data(), header.data(), header.size()) != 0) {
        throw Failure(PKECHO_NO_GOLDEN,
                      path + " does not hold what golden.json says. Build the bundle again");
    }
    return content.data() + header.size();
}

// golden.json: the threshold; shapes must be those that the manifest asks for.
double read_index(const std::vector<uint8_t> &content, const json::Origin &origin,
                  const std::vector<int64_t> (&shapes)[4]) {
    json::Value value =
        json::parse({reinterpret_cast<const char *>(content.data()), content.size()}, origin);
    Fields fields(value, "", origin);
    if (fields.text("schema") != schema) origin.refuse("has another schema");
    const double threshold = fields.number("threshold");
    Fields described = fields.object("arrays");
    fields.done();
    for (size_t index = 0; index < 4; ++index) {
        Fields entry = described.object(arrays[index].name);
        if (entry.integers("shape") != shapes[index] ||
            entry.text("dtype") != arrays[index].dtype) {
            origin.refuse(std::string("says ") + arrays[index].name +
                          " has another type or shape than the engine's");
        }
        entry.done();
    }
    described.done();
    return threshold;
}

// Masks and areas must follow from the logits, or one of them was written for something else.
void check_consistent(const Golden &golden, const uint8_t *areas, const std::string &folder) {
    for (size_t frame = 0; frame < static_cast<size_t>(golden.frames_count); ++frame) {
        size_t area = 0;
        for (size_t pixel = 0; pixel < golden.pixels; ++pixel) {
            const size_t at = frame * golden.pixels + pixel;
            const float logit = golden.logit(at);
            const bool inside = logit > golden.threshold;
            if (!std::isfinite(logit) || golden.masks[at] != (inside ? 1 : 0)) {
                throw Failure(PKECHO_NO_GOLDEN,
                              folder +
                                  " holds masks that are not those of its logits. Build the "
                                  "bundle again");
            }
            area += inside ? 1 : 0;
        }
        if (f32_at(areas, frame) != static_cast<float>(area)) {
            throw Failure(PKECHO_NO_GOLDEN, folder +
                                                " holds areas that are not those of its masks. "
                                                "Build the bundle again");
        }
    }
}

}  // namespace

Golden read_golden(const Bundle &bundle, const std::string &mode) {
    const Manifest &manifest = bundle.manifest;
    const int64_t frames = manifest.window, height = manifest.height, width = manifest.width;
    const std::vector<int64_t> shapes[4] = {
        {frames, 1, height, width}, {frames, 1, height, width}, {frames, height, width}, {frames}};
    const std::string folder = "golden/" + mode, index = folder + "/golden.json";
    const json::Origin origin{PKECHO_NO_GOLDEN, index};
    Golden golden;
    golden.frames_count = manifest.window;
    golden.pixels = static_cast<size_t>(height * width);
    golden.threshold = static_cast<float>(read_index(listed(bundle, index), origin, shapes));
    if (golden.threshold != manifest.threshold) {
        origin.refuse("has another threshold than the manifest");
    }
    const uint8_t *found[4];
    for (size_t at = 0; at < 4; ++at) {
        found[at] =
            elements(bundle, folder + "/" + arrays[at].name + ".npy", arrays[at], shapes[at]);
    }
    golden.frames = found[0];
    golden.logits = found[1];
    golden.masks = found[2];
    check_consistent(golden, found[3], folder);
    return golden;
}

}  // namespace pkecho
