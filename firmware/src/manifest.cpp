#include "manifest.h"

#include <algorithm>
#include <initializer_list>
#include <set>

#include "failure.h"
#include "fields.h"
#include "json.h"
#include "layout.h"
#include "sha256.h"
#include "text.h"

namespace pkecho {
namespace {

constexpr int64_t max_file_bytes = int64_t{1} << 40;
constexpr int64_t max_seed = int64_t{1} << 53;
constexpr int64_t max_security_version = INT32_MAX;
constexpr int64_t max_extent = 1 << 16;
constexpr int64_t max_history_channels = 4096;
constexpr int schema_version = 2;
constexpr std::string_view schema_prefix = "pkecho-edge/bundle/";

// ---- Values ------------------------------------------------------------------------------------

void check_label(const Fields &fields, std::string_view text, const std::string &what) {
    if (!is_label(text)) fields.refuse(what + " must be one printable line");
}

void check_choice(const Fields &fields, std::string_view key, std::string_view text,
                  std::initializer_list<std::string_view> choices) {
    if (std::find(choices.begin(), choices.end(), text) != choices.end()) return;
    fields.refuse(fields.name(key) + " is '" + quoted(text, 60) + "', which is not known here");
}

void check_range(const Fields &fields, std::string_view key, int64_t value, int64_t least,
                 int64_t most) {
    if (value < least || value > most)
        fields.refuse(fields.name(key) + " must lie between " + std::to_string(least) + " and " +
                      std::to_string(most));
}

std::string label(Fields &fields, std::string_view key) {
    const std::string &text = fields.text(key);
    check_label(fields, text, fields.name(key));
    return text;
}

std::string choice(Fields &fields, std::string_view key,
                   std::initializer_list<std::string_view> choices) {
    const std::string &text = fields.text(key);
    check_choice(fields, key, text, choices);
    return text;
}

int64_t integer(Fields &fields, std::string_view key, int64_t least, int64_t most) {
    const int64_t value = fields.integer(key);
    check_range(fields, key, value, least, most);
    return value;
}

double fraction(Fields &fields, std::string_view key) {
    const double value = fields.number(key);
    if (!(value >= 0 && value <= 1)) fields.refuse(fields.name(key) + " must lie between 0 and 1");
    return value;
}

void check_sha256(const Fields &fields, std::string_view key, std::string_view text) {
    if (text.size() != 64 || text.find_first_not_of("0123456789abcdef") != text.npos)
        fields.refuse(fields.name(key) + " must be 64 lower-case hexadecimal digits");
}

Pairs labels(Fields &fields, std::string_view key) {
    Pairs pairs = fields.text_map(key);
    for (const auto &[name, text] : pairs) {
        check_label(fields, name, "a name in " + fields.name(key));
        check_label(fields, text, fields.name(key) + "." + quoted(name, 60));
    }
    return pairs;
}

// ---- Engines -----------------------------------------------------------------------------------

std::vector<TensorSpec> tensors(Fields &fields, std::string_view key) {
    std::vector<TensorSpec> specs;
    fields.objects(key, [&specs](Fields &item) {
        TensorSpec spec;
        spec.name = label(item, "name");
        spec.element = choice(item, "dtype", {"u8", "f32"}) == "u8" ? Element::u8 : Element::f32;
        spec.shape = item.integers("shape");
        if (spec.shape.empty() || spec.shape.size() > 8)
            item.refuse(item.name("shape") + " must have 1 to 8 extents");
        for (const int64_t extent : spec.shape) check_range(item, "shape", extent, 1, max_extent);
        specs.push_back(std::move(spec));
    });
    return specs;
}

EngineEntry engine_entry(Fields &fields) {
    EngineEntry entry;
    entry.mode = choice(fields, "mode", {"clip", "stream"});
    entry.directory = fields.text("directory");
    if (entry.directory != layout::engine && !layout::lies_in(entry.directory, layout::engine))
        fields.refuse(fields.name("directory") + " is not in engine/");
    entry.files = fields.texts("files");
    if (entry.files.empty()) fields.refuse(fields.name("files") + " must name at least one file");
    for (const std::string &file : entry.files)
        if (!layout::is_path(entry.directory + "/" + file))
            fields.refuse(fields.name("files") + ": '" + quoted(entry.directory + "/" + file) +
                          "' is not a path that a bundle may hold");
    entry.inputs = tensors(fields, "inputs");
    entry.outputs = tensors(fields, "outputs");
    entry.options = labels(fields, "options");
    entry.toolchain = labels(fields, "toolchain");
    return entry;
}

bool has(const std::vector<TensorSpec> &specs, std::string_view name, Element element,
         const std::vector<int64_t> &shape) {
    return std::any_of(specs.begin(), specs.end(), [&](const TensorSpec &spec) {
        return spec.name == name && spec.element == element && spec.shape == shape;
    });
}

// The channels of a history f32 [T-1, C, H/32, W/32] of this name; 0 where there is none.
int64_t history_channels(const std::vector<TensorSpec> &specs, std::string_view name,
                         const Manifest &manifest) {
    for (const TensorSpec &spec : specs) {
        if (spec.name != name || spec.element != Element::f32 || spec.shape.size() != 4) continue;
        const int64_t channels = spec.shape[1];
        const std::vector<int64_t> fitting{manifest.window - 1, channels, manifest.height / 32,
                                           manifest.width / 32};
        if (channels <= max_history_channels && spec.shape == fitting) return channels;
    }
    return 0;
}

// The engine takes u8 frames and yields f32 logits of the size that the manifest states. A stream
// engine also takes and gives a history that fits the window; none has anything else.
void check_interface(const EngineEntry &engine, const Manifest &manifest,
                     const json::Origin &origin) {
    const auto require = [&](bool holds, const char *what) {
        if (!holds) origin.refuse("the " + engine.mode + " engine " + what);
    };
    const bool is_stream = engine.mode == "stream";
    const std::vector<int64_t> shape{is_stream ? 1 : manifest.window, 1, manifest.height,
                                     manifest.width};
    const char *const frames = is_stream ? "frame" : "frames";
    require(has(engine.inputs, frames, Element::u8, shape), "has no input of its frames' size");
    require(has(engine.outputs, "logits", Element::f32, shape),
            "has no logits of its frames' size");
    if (is_stream) {
        const int64_t before = history_channels(engine.inputs, "history", manifest);
        const int64_t after = history_channels(engine.outputs, "history_out", manifest);
        require(before != 0 && after != 0, "has no history that fits the window and the frames");
        require(before == after, "has histories of different shapes");
    }
    const size_t tensors = is_stream ? 2 : 1;
    require(engine.inputs.size() == tensors && engine.outputs.size() == tensors,
            "has more inputs or outputs than it may");
}

void read_engines(Fields &fields, Manifest &manifest) {
    fields.objects("engines", [&manifest](Fields &item) {
        EngineEntry entry = engine_entry(item);
        if (manifest.engine(entry.mode) != nullptr)
            item.refuse("there are two " + entry.mode + " engines");
        manifest.engines.push_back(std::move(entry));
    });
    if (manifest.engines.empty()) fields.refuse("there is no engine");
}

// ---- Files -------------------------------------------------------------------------------------

void read_files(Fields &fields, bool is_reports, std::vector<FileEntry> &files) {
    fields.objects("files", [&files, is_reports](Fields &item) {
        FileEntry entry;
        entry.path = item.text("path");
        if (!layout::is_path(entry.path))
            item.refuse("'" + quoted(entry.path) + "' is not a path that a bundle may hold");
        if (layout::lies_in(entry.path, layout::reports) != is_reports)
            item.refuse(entry.path + " is listed under the wrong key");
        entry.size = static_cast<uint64_t>(integer(item, "size", 0, max_file_bytes));
        entry.sha256 = item.text("sha256");
        check_sha256(item, "sha256", entry.sha256);
        if (!files.empty() && entry.path <= files.back().path)
            item.refuse(entry.path + " is listed twice, or not in the order of paths");
        files.push_back(std::move(entry));
    });
}

void check_no_collision(const Manifest &manifest, const json::Origin &origin) {
    std::set<std::string> seen;
    for (const auto *files : {&manifest.files, &manifest.report_files})
        for (const FileEntry &entry : *files)
            if (!seen.insert(layout::folded(entry.path)).second)
                origin.refuse(entry.path + " is listed twice, but for upper and lower case");
}

// What every bundle has must be listed.
void check_complete(const Manifest &manifest, const json::Origin &origin) {
    const auto require = [&](const std::string &path) {
        const auto by_path = [](const FileEntry &entry, const std::string &p) {
            return entry.path < p;
        };
        const auto &files = manifest.files;
        const auto place = std::lower_bound(files.begin(), files.end(), path, by_path);
        if (place == files.end() || place->path != path)
            origin.refuse(path + " is not among the files");
    };
    for (const EngineEntry &engine : manifest.engines)
        for (const std::string &file : engine.files) require(engine.directory + "/" + file);
    require(layout::sbom);
    require(layout::model_card);
}

// Of the lines that `sha256sum` prints for the engine's files, sorted by path.
std::string engine_sha256(const Manifest &manifest) {
    Sha256 digest;
    for (const FileEntry &entry : manifest.files) {
        if (!layout::lies_in(entry.path, layout::engine)) continue;
        const std::string line = entry.sha256 + "  " + entry.path + "\n";
        digest.update(line.data(), line.size());
    }
    return digest.hex();
}

// ---- The other sections ------------------------------------------------------------------------

void check_schema(const std::string &schema, const json::Origin &origin) {
    const std::string_view number =
        std::string_view(schema).substr(std::min(schema.size(), schema_prefix.size()));
    const bool is_number = !number.empty() && number.size() <= 9 && number.front() != '0' &&
                           number.find_first_not_of("0123456789") == number.npos;
    if (!is_number || schema.compare(0, schema_prefix.size(), schema_prefix) != 0)
        origin.refuse("the schema is '" + quoted(schema, 60) + "', not " +
                      std::string(schema_prefix) + std::to_string(schema_version));
    const int version = std::stoi(std::string(number));
    if (version == schema_version) return;
    const char *const remedy = version < schema_version
                                   ? "Compile the bundle again with the release of this library"
                                   : "Update this library";
    throw Failure(PKECHO_SCHEMA_VERSION, origin.file + ": has schema version " +
                                             std::to_string(version) + ", this library reads " +
                                             std::to_string(schema_version) + ". " + remedy);
}

void read_preprocessing(Fields fields, Manifest &manifest) {
    const std::vector<int64_t> size = fields.integers("size");
    if (size.size() != 2) fields.refuse(fields.name("size") + " must be height and width");
    for (const int64_t side : size)
        if (side < 96 || side > 640 || side % 32 != 0)
            fields.refuse(fields.name("size") + " must be multiples of 32 from 96 to 640");
    manifest.height = static_cast<int>(size[0]);
    manifest.width = static_cast<int>(size[1]);
    choice(fields, "resize", {"bilinear-half-pixel"});
    choice(fields, "normalisation", {"divide-by-255"});
    fields.boolean("normalisation_in_graph");
    fields.done();
}

void read_postprocessing(Fields fields, Manifest &manifest) {
    choice(fields, "threshold_on", {"logits"});
    const double threshold = fields.number("threshold");
    if (!(threshold >= -1000 && threshold <= 1000))
        fields.refuse(fields.name("threshold") + " must lie between -1000 and 1000");
    manifest.threshold = static_cast<float>(threshold);
    manifest.largest_component = choice(fields, "component", {"none", "largest"}) == "largest";
    fields.done();
}

void read_window(Fields fields, Manifest &manifest) {
    manifest.window = static_cast<int>(integer(fields, "length", 2, 256));
    choice(fields, "warm_up", {"repeat-first-frame"});
    fields.done();
}

void read_golden(Fields fields, Manifest &manifest) {
    manifest.golden_pixels_fraction = fraction(fields, "pixels_fraction");
    manifest.golden_area_fraction = fraction(fields, "area_fraction");
    fields.done();
}

// Returns the hash that it states for the engine's files.
std::string read_lineage(Fields fields) {
    const std::string engine = fields.text("engine_sha256");
    check_sha256(fields, "checkpoint_sha256", fields.text("checkpoint_sha256"));
    for (const char *key : {"onnx_sha256", "calibration_sha256", "pruning_sha256"})
        if (const std::string *text = fields.optional_text(key)) check_sha256(fields, key, *text);
    labels(fields, "tool_versions");
    const json::Value &configuration = fields.mapping("configuration");
    if (json::canonical(configuration, json::max_bytes).size() > json::max_bytes)
        fields.refuse(fields.name("configuration") + " is larger than 4 MiB");
    integer(fields, "seed", 0, max_seed);
    fields.done();
    return engine;
}

void read_gates(Fields &fields) {
    std::set<std::pair<std::string, std::string>> seen;
    fields.objects("gates", [&seen](Fields &item) {
        std::string name = label(item, "name");
        std::string mode = choice(item, "mode", {"clip", "stream"});
        item.number("limit");
        if (!item.text("unit").empty()) label(item, "unit");
        if (!seen.emplace(std::move(mode), std::move(name)).second)
            item.refuse("a gate is listed twice");
    });
}

void read_reports(Fields fields, Manifest &manifest) {
    for (const json::Member &figure : *fields.mapping("headline").get<json::Value::Object>()) {
        check_label(fields, figure.key, "a name in " + fields.name("headline"));
        const std::string what = fields.name("headline") + "." + quoted(figure.key, 60);
        if (figure.value.get<json::Value::Object>() || figure.value.get<json::Value::Array>())
            fields.refuse(what + " must be one figure");
        if (const std::string *text = figure.value.get<std::string>())
            check_label(fields, *text, what);
    }
    read_files(fields, true, manifest.report_files);
    fields.done();
}

// ---- The whole ---------------------------------------------------------------------------------

// The id is derived from everything but itself and the reports, which differ from run to run.
std::string bundle_id_of(json::Value &document) {
    auto &members = *document.get<json::Value::Object>();
    const auto is_apart = [](const json::Member &member) {
        return member.key == "bundle_id" || member.key == "reports";
    };
    members.erase(std::remove_if(members.begin(), members.end(), is_apart), members.end());
    const std::string content = json::canonical(document);
    Sha256 digest;
    digest.update(content.data(), content.size());
    return "pkb-" + digest.hex().substr(0, 32);
}

}  // namespace

const EngineEntry *Manifest::engine(std::string_view mode) const noexcept {
    for (const EngineEntry &entry : engines)
        if (entry.mode == mode) return &entry;
    return nullptr;
}

Manifest parse_manifest(const uint8_t *data, size_t size) {
    const json::Origin origin{PKECHO_MANIFEST, layout::manifest};
    json::Value document = json::parse({reinterpret_cast<const char *>(data), size}, origin);
    Fields fields(document, "", origin);
    check_schema(fields.text("schema"), origin);
    Manifest manifest;
    manifest.bundle_id = fields.text("bundle_id");
    manifest.security_version =
        static_cast<uint32_t>(integer(fields, "security_version", 0, max_security_version));
    manifest.target = label(fields, "target");
    if (fields.optional_text("profile") != nullptr) manifest.profile = label(fields, "profile");
    read_engines(fields, manifest);
    read_preprocessing(fields.object("preprocessing"), manifest);
    read_postprocessing(fields.object("postprocessing"), manifest);
    read_window(fields.object("window"), manifest);
    read_golden(fields.object("golden"), manifest);
    const std::string engine_hash = read_lineage(fields.object("lineage"));
    read_gates(fields);
    read_files(fields, false, manifest.files);
    read_reports(fields.object("reports"), manifest);
    fields.done();
    for (const EngineEntry &engine : manifest.engines) check_interface(engine, manifest, origin);
    check_no_collision(manifest, origin);
    check_complete(manifest, origin);
    if (engine_hash != engine_sha256(manifest))
        origin.refuse("lineage.engine_sha256 does not match the engine files");
    if (manifest.bundle_id != bundle_id_of(document))
        origin.refuse("bundle_id does not match the content");
    return manifest;
}

}  // namespace pkecho
