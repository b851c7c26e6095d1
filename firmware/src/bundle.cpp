#include "bundle.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "failure.h"
#include "json.h"
#include "layout.h"
#include "minisign.h"
#include "safe_file.h"
#include "sha256.h"
#include "text.h"

namespace pkecho {
namespace {

constexpr uint64_t max_kept_file = uint64_t{1} << 30, max_kept = uint64_t{2} << 30;
constexpr size_t piece_bytes = size_t{1} << 20;

using Bytes = std::vector<uint8_t>;

[[noreturn]] void refuse(pkecho_status status, const std::string &path, const std::string &what) {
    throw Failure(status, path + ": " + what + ". Fetch or build the bundle again");
}

// Runs through all files of a manifest.
template <class Do>
void for_each_file(const Manifest &manifest, const Do &act) {
    for (const auto *files : {&manifest.files, &manifest.report_files})
        for (const FileEntry &entry : *files) act(entry);
}

// Content that stays in memory: nothing is loaded later from a file that may have changed.
bool is_kept(const FileEntry &entry) noexcept {
    return layout::lies_in(entry.path, layout::engine) ||
           layout::lies_in(entry.path, layout::golden);
}

const FileEntry *find(const std::vector<FileEntry> &files, std::string_view path) noexcept {
    const auto by_path = [](const FileEntry &entry, std::string_view p) { return entry.path < p; };
    const auto place = std::lower_bound(files.begin(), files.end(), path, by_path);
    return place != files.end() && place->path == path ? &*place : nullptr;
}

const FileEntry *find(const Manifest &manifest, std::string_view path) noexcept {
    const FileEntry *entry = find(manifest.files, path);
    return entry != nullptr ? entry : find(manifest.report_files, path);
}

// The whole of a file whose size no manifest states.
Bytes read_whole(const SafeFolder &folder, const std::string &path, size_t limit,
                 pkecho_status status_too_large) {
    SafeFile file = folder.open(path);
    if (file.size() > limit)
        refuse(status_too_large, path, "has more than " + std::to_string(limit) + " bytes");
    Bytes content(static_cast<size_t>(file.size()));
    file.read(content.data(), content.size());
    if (!file.is_at_end()) refuse(PKECHO_UNREADABLE, path, "became longer while it was read");
    return content;
}

// ---- The signature -----------------------------------------------------------------------------

std::vector<minisign::PublicKey> public_keys(const Trust &trust) {
    if (trust.public_keys.empty() && !trust.allow_unsigned)
        throw Failure(PKECHO_PUBLIC_KEY,
                      "no public key was given, so no signature can be checked. Give the text of "
                      "the .pub file of the key that signs your bundles");
    std::vector<minisign::PublicKey> keys;
    for (const std::string &text : trust.public_keys)
        keys.push_back(minisign::parse_public_key(text));
    return keys;
}

// Before anything in the manifest is looked at: its bytes and the keys are all that counts.
void check_signature(const SafeFolder &folder, const Bytes &manifest,
                     const std::vector<minisign::PublicKey> &keys, bool allow_unsigned,
                     Bundle &bundle) {
    const bool is_there = folder.contains(layout::signature);
    if (is_there && !keys.empty()) {
        const Bytes text =
            read_whole(folder, layout::signature, minisign::max_text, PKECHO_SIGNATURE);
        const minisign::Verified verified =
            minisign::verify(manifest.data(), manifest.size(),
                             {reinterpret_cast<const char *>(text.data()), text.size()}, keys);
        bundle.is_signed = true;
        bundle.signed_by = verified.signed_by;
        bundle.trusted_comment = verified.trusted_comment;
        return;
    }
    if (!allow_unsigned)
        throw Failure(PKECHO_UNSIGNED, std::string(layout::signature) +
                                           ": is missing, so nobody vouches for the bundle. Sign "
                                           "it: pkecho-edge sign BUNDLE --key PATH");
    bundle.log(PKECHO_LOG_WARNING,
               is_there ? "the bundle's signature is not checked, for no public key was given"
                        : "the bundle is not signed, and is opened as allow_unsigned says");
}

// ---- The files ---------------------------------------------------------------------------------

void check_rollback(const Manifest &manifest, const Trust &trust) {
    if (manifest.security_version >= trust.minimum_security_version) return;
    throw Failure(PKECHO_ROLLBACK, std::string(layout::manifest) + ": has security version " +
                                       std::to_string(manifest.security_version) + ", at least " +
                                       std::to_string(trust.minimum_security_version) +
                                       " is asked for. Install a newer bundle");
}

// By the manifest alone, before memory is taken or a file is read.
void check_sizes(const Manifest &manifest) {
    uint64_t kept = 0;
    for_each_file(manifest, [&kept](const FileEntry &entry) {
        if (!is_kept(entry)) return;
        if (entry.size > max_kept_file || (kept += entry.size) > max_kept)
            throw Failure(PKECHO_TOO_LARGE,
                          entry.path +
                              ": makes the engine and golden files larger than 1 GiB each "
                              "or 2 GiB in all. Use a smaller engine");
    });
}

// Every folder that holds a listed file, "" for the bundle's own.
std::set<std::string> folders_of(const Manifest &manifest) {
    std::set<std::string> folders{""};
    for_each_file(manifest, [&folders](const FileEntry &entry) {
        for (size_t slash = entry.path.rfind('/'); slash != std::string::npos && slash > 0;
             slash = entry.path.rfind('/', slash - 1))
            if (!folders.insert(entry.path.substr(0, slash)).second) break;
    });
    return folders;
}

// Nothing but what is listed lies in the folder: nobody vouches for anything else.
void check_unlisted(const SafeFolder &folder, const Manifest &manifest) {
    const std::set<std::string> folders = folders_of(manifest);
    const auto check = [&](const std::string &path, FileKind kind) {
        const auto refuse_it = [&path](const std::string &what) {
            throw Failure(
                PKECHO_FILE_UNLISTED,
                quoted(path, 120) + ": " + what + ". Keep other files out of the bundle's folder");
        };
        if (kind == FileKind::link) refuse_it("is a symbolic link");
        if (kind == FileKind::other) refuse_it("is not a regular file");
        if (kind == FileKind::folder && folders.count(path) == 0)
            refuse_it("is a folder without listed files");
        if (kind == FileKind::regular && path != layout::manifest && path != layout::signature &&
            find(manifest, path) == nullptr)
            refuse_it("is not listed in the manifest");
    };
    for (const std::string &path : folders) folder.list(path, check);
}

// The SHA-256 of a file of `size` bytes, which `kept` gets where it is not null. The file is read
// once, and what is hashed is what was read.
std::string hash(SafeFile &file, size_t size, Bytes *kept) {
    Sha256 digest;
    if (kept != nullptr) {
        kept->resize(size);
        file.read(kept->data(), size);
        digest.update(kept->data(), size);
        return digest.hex();
    }
    Bytes piece(std::min(size, piece_bytes));
    for (size_t left = size; left > 0; left -= piece.size()) {
        piece.resize(std::min(left, piece.size()));
        file.read(piece.data(), piece.size());
        digest.update(piece.data(), piece.size());
    }
    return digest.hex();
}

void check_file(const SafeFolder &folder, const FileEntry &entry, Bytes *kept) {
    SafeFile file = folder.open(entry.path);
    if (file.size() != entry.size)  // before reading: the file may be endless
        refuse(PKECHO_FILE_CHANGED, entry.path,
               "has " + std::to_string(file.size()) + " bytes, the manifest lists " +
                   std::to_string(entry.size));
    const std::string sha256 = hash(file, entry.size, kept);
    if (sha256 != entry.sha256)
        refuse(PKECHO_FILE_CHANGED, entry.path,
               "has SHA-256 " + sha256.substr(0, 12) + "..., the manifest lists " +
                   entry.sha256.substr(0, 12) + "...");
    if (!file.is_at_end())
        refuse(PKECHO_FILE_CHANGED, entry.path, "became longer while it was read");
}

}  // namespace

std::shared_ptr<const Bundle> Bundle::open(const std::string &path, const Trust &trust, Log log) {
    const auto bundle = std::make_shared<Bundle>();
    bundle->log = log;
    const std::vector<minisign::PublicKey> keys = public_keys(trust);
    const SafeFolder folder(path);
    const Bytes text = read_whole(folder, layout::manifest, json::max_bytes, PKECHO_TOO_LARGE);
    check_signature(folder, text, keys, trust.allow_unsigned, *bundle);
    bundle->manifest = parse_manifest(text.data(), text.size());
    check_rollback(bundle->manifest, trust);
    check_sizes(bundle->manifest);
    check_unlisted(folder, bundle->manifest);
    for_each_file(bundle->manifest, [&](const FileEntry &entry) {
        check_file(folder, entry, is_kept(entry) ? &bundle->contents_[entry.path] : nullptr);
    });
    return bundle;
}

const std::vector<uint8_t> *Bundle::content(const std::string &path) const noexcept {
    const auto place = contents_.find(path);
    return place == contents_.end() ? nullptr : &place->second;
}

std::string Bundle::sha256(const std::string &path) const {
    const FileEntry *entry = find(manifest, path);
    return entry != nullptr ? entry->sha256 : "";
}

}  // namespace pkecho
