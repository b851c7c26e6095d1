#include "layout.h"

#include <cstddef>

namespace pkecho::layout {
namespace {

constexpr size_t max_length = 240, max_part = 127;
constexpr std::string_view folders[] = {"model", engine, "device", golden, reports};

// Without <cctype>, which asks the locale.
bool is_alphanumeric(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_part(std::string_view part) noexcept {
    if (part.empty() || part.size() > max_part) return false;
    if (!is_alphanumeric(part.front()) && part.front() != '_') return false;
    for (const char c : part)
        if (!is_alphanumeric(c) && std::string_view("_.+@=-").find(c) == std::string_view::npos)
            return false;
    return true;
}

bool is_plain(std::string_view path) noexcept {
    if (path.size() > max_length) return false;
    for (size_t slash; (slash = path.find('/')) != path.npos; path.remove_prefix(slash + 1))
        if (!is_part(path.substr(0, slash))) return false;
    return is_part(path);
}

}  // namespace

bool lies_in(std::string_view path, std::string_view folder) noexcept {
    return path.size() > folder.size() && path.substr(0, folder.size()) == folder &&
           path[folder.size()] == '/';
}

bool is_path(std::string_view path) noexcept {
    if (!is_plain(path)) return false;
    if (path == sbom || path == model_card) return true;
    for (const std::string_view folder : folders)
        if (lies_in(path, folder)) return true;
    return false;
}

std::string folded(std::string_view path) {
    std::string result(path);
    for (char &c : result)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return result;
}

}  // namespace pkecho::layout
