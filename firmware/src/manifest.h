// What manifest.json says, as far as a device needs it. The rules are those of
// pkecho_edge/bundle/manifest.py: what that refuses, this refuses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pkecho {

enum class Element { u8, f32 };

struct TensorSpec {
    std::string name;
    Element element = Element::f32;
    std::vector<int64_t> shape;
};

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct EngineEntry {
    std::string mode;                // "clip" or "stream"
    std::string directory;           // "engine" or a folder in it
    std::vector<std::string> files;  // relative to `directory`, the main file first
    std::vector<TensorSpec> inputs, outputs;
    Pairs options, toolchain;
};

struct FileEntry {
    std::string path;  // relative, parts joined by "/"
    uint64_t size = 0;
    std::string sha256;  // 64 lower-case hexadecimal digits
};

struct Manifest {
    std::string bundle_id;  // as it says; parse_manifest has compared it with the content
    uint32_t security_version = 0;
    std::string target, profile;  // profile "" for none
    std::vector<EngineEntry> engines;
    int height = 0, width = 0;  // of the engine's frames
    float threshold = 0;        // on logits
    bool largest_component = false;
    int window = 0;  // T
    double golden_pixels_fraction = 0, golden_area_fraction = 0;
    std::vector<FileEntry> files;         // outside reports/
    std::vector<FileEntry> report_files;  // in it

    // The engine of a mode; nullptr where there is none.
    const EngineEntry *engine(std::string_view mode) const noexcept;
};

// Read a manifest that may come from an attacker. Throws Failure: PKECHO_MANIFEST,
// PKECHO_SCHEMA_VERSION.
Manifest parse_manifest(const uint8_t *data, size_t size);

}  // namespace pkecho
