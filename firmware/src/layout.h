// Where things lie in a bundle, and which names a file in it may have: the rules of
// pkecho_edge/bundle/layout.py.
#pragma once

#include <string>
#include <string_view>

namespace pkecho::layout {

constexpr char manifest[] = "manifest.json";
constexpr char signature[] = "manifest.json.minisig";
constexpr char sbom[] = "sbom.cdx.json";
constexpr char model_card[] = "MODEL_CARD.md";
constexpr char engine[] = "engine", golden[] = "golden", reports[] = "reports";

// Whether a path is `folder`/something.
bool lies_in(std::string_view path, std::string_view folder) noexcept;

// Whether a file of this path may be listed: relative, plain ASCII names joined by "/", none
// of them hidden, in one of the bundle's folders unless it is the SBOM or the model card.
bool is_path(std::string_view path) noexcept;

// A path with its letters in lower case: what two files of a bundle must differ in.
std::string folded(std::string_view path);

}  // namespace pkecho::layout
