// pkecho-trust: open bundles and print what came of it, one line each: STATUS<TAB>MESSAGE.
//
//     pkecho-trust [OPTIONS] PATH             a bundle; the message of PKECHO_OK is its id, then
//                                             key and trusted comment, or what was logged
//     pkecho-trust [OPTIONS] --batch LIST     many: LIST is a file with a path in each line
//     pkecho-trust --manifests LIST           manifest.json files alone, of any name
//     pkecho-trust [OPTIONS] --starve PATH    a bundle, again and again, each time with memory for
//                                             one more allocation; the statuses, without repetition
//     pkecho-trust --statuses                 the names of the numbers 0 to 99
//
//     --key FILE   a public key, any number of them      --minimum N   of the security version
//     --allow-unsigned
#include <climits>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <new>
#include <string>

#include "../src/bundle.h"
#include "../src/failure.h"

namespace {

// Allocations that still succeed.
long allowance = LONG_MAX;

std::string content_of(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void remember(void *user, pkecho_log_level, const char *message) {
    *static_cast<std::string *>(user) += message;
}

std::string open_bundle(const std::string &path, const pkecho::Trust &trust) {
    std::string logged;
    const auto bundle = pkecho::Bundle::open(path, trust, {remember, &logged});
    for (const auto &file : bundle->manifest.files) {
        const auto *content = bundle->content(file.path);
        const std::string folder = file.path.substr(0, 7);
        const bool is_kept = folder == "engine/" || folder == "golden/";
        if ((content != nullptr) != is_kept || (content && content->size() != file.size))
            throw pkecho::Failure(PKECHO_INTERNAL, file.path + ": is not kept as it should be");
        if (bundle->sha256(file.path) != file.sha256)
            throw pkecho::Failure(PKECHO_INTERNAL, file.path + ": its hash is not found");
    }
    const std::string trusted = bundle->signed_by + " " + bundle->trusted_comment;
    return bundle->manifest.bundle_id + " " + (bundle->is_signed ? trusted : logged);
}

std::string parse(const std::string &path) {
    const std::string text = content_of(path);
    return pkecho::parse_manifest(reinterpret_cast<const uint8_t *>(text.data()), text.size())
        .bundle_id;
}

void print(const std::function<std::string()> &act) {
    pkecho_status status = PKECHO_OK;
    std::string message;
    try {
        message = act();
    } catch (const pkecho::Failure &failure) {
        status = failure.status();
        message = failure.what();
    } catch (const std::bad_alloc &) {
        status = PKECHO_OUT_OF_MEMORY;
    }
    std::cout << pkecho_status_name(status) << '\t' << message << '\n';
}

pkecho_status status_of(const std::string &path, const pkecho::Trust &trust, long allocations) {
    const pkecho::Trust copy = trust;
    pkecho_status status = PKECHO_OK;
    allowance = allocations;
    try {
        pkecho::Bundle::open(path, copy, {});
    } catch (const pkecho::Failure &failure) {
        status = failure.status();
    } catch (const std::bad_alloc &) {
        status = PKECHO_OUT_OF_MEMORY;
    }
    allowance = LONG_MAX;
    return status;
}

void starve(const std::string &path, const pkecho::Trust &trust) {
    pkecho_status last = PKECHO_INTERNAL;
    for (long n = 0; last != PKECHO_OK && n < 100000; ++n) {
        const pkecho_status status = status_of(path, trust, n);
        if (status != last) std::cout << pkecho_status_name(status) << '\t' << n << '\n';
        last = status;
    }
}

void for_each_line(const std::string &path, const std::function<void(const std::string &)> &act) {
    std::ifstream list(path);
    for (std::string line; std::getline(list, line);) act(line);
}

}  // namespace

void *operator new(size_t size) {
    if (allowance-- <= 0) throw std::bad_alloc();
    if (void *memory = std::malloc(size ? size : 1)) return memory;
    throw std::bad_alloc();
}

void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }

int main(int argc, char **argv) {
    pkecho::Trust trust;
    std::string path, batch, manifests, starved;
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        const bool has_value = i + 1 < argc;
        if (argument == "--statuses") {
            for (int number = 0; number < 100; ++number)
                std::cout << pkecho_status_name(static_cast<pkecho_status>(number)) << '\n';
        } else if (argument == "--allow-unsigned") {
            trust.allow_unsigned = true;
        } else if (argument == "--key" && has_value) {
            trust.public_keys.push_back(content_of(argv[++i]));
        } else if (argument == "--minimum" && has_value) {
            trust.minimum_security_version =
                static_cast<uint32_t>(std::strtoul(argv[++i], nullptr, 10));
        } else if (argument == "--starve" && has_value) {
            starved = argv[++i];
        } else if (argument == "--batch" && has_value) {
            batch = argv[++i];
        } else if (argument == "--manifests" && has_value) {
            manifests = argv[++i];
        } else {
            path = argument;
        }
    }
    const auto open = [&trust](const std::string &bundle) {
        print([&] { return open_bundle(bundle, trust); });
    };
    if (!path.empty()) open(path);
    if (!starved.empty()) starve(starved, trust);
    if (!batch.empty()) for_each_line(batch, open);
    if (!manifests.empty()) {
        for_each_line(manifests,
                      [](const std::string &file) { print([&] { return parse(file); }); });
    }
    return 0;
}
