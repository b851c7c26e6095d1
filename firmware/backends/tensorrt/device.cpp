#include "device.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "files.h"

namespace pkecho::tensorrt {

namespace {

int attribute(cudaDeviceAttr which) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, 0), "ask the GPU what it is");
    return value;
}

Value or_null(const std::optional<std::string> &text) {
    return text ? Value{as_utf8(*text)} : Value{};
}

// Its number. `nvpmodel -q` would tell it, too, but a library starts no programs.
Value power_mode() {
    const std::string line = first_line("/var/lib/nvpmodel/status").value_or("");
    const size_t at = line.find("pmode:");
    if (at == std::string::npos) return {};
    std::string digits = line.substr(at + 6);
    digits = digits.substr(0, digits.find_first_not_of("0123456789"));
    if (digits.empty()) return {};
    return {digits.substr(std::min(digits.find_first_not_of('0'), digits.size() - 1))};
}

// Memory that the system can still give; 0 where it does not say.
size_t available_mb() {
    struct Close {
        void operator()(FILE *file) const noexcept { std::fclose(file); }
    };
    const std::unique_ptr<FILE, Close> file(std::fopen("/proc/meminfo", "re"));
    char line[128];
    while (file && std::fgets(line, sizeof line, file.get()) != nullptr) {
        unsigned long long kilobytes = 0;
        if (std::sscanf(line, "MemAvailable: %llu", &kilobytes) == 1) {
            return static_cast<size_t>(kilobytes >> 10);
        }
    }
    return 0;
}

// "10.3.0.26" -> "10.3.0"
std::string three_numbers(const std::string &version) {
    size_t at = 0;
    for (int dots = 0; at < version.size(); ++at) {
        if (version[at] == '.' && ++dots == 3) break;
    }
    return version.substr(0, at);
}

std::string text_or(const Value &identity, const char *key, const char *otherwise) {
    const Value *found = find(identity, key);
    if (found == nullptr || found->get<std::monostate>() != nullptr) return otherwise;
    const auto *text = found->get<std::string>();
    return text != nullptr ? *text : compact(*found);
}

}  // namespace

void check(cudaError_t error, const char *doing, pkecho_status status) {
    if (error == cudaSuccess) return;
    cudaGetLastError();  // it is reported here, and must not be found by another call
    if (error == cudaErrorMemoryAllocation) status = PKECHO_OUT_OF_MEMORY;
    throw Failure(status, std::string("CUDA cannot ") + doing + ": " + cudaGetErrorString(error) +
                              " (" + cudaGetErrorName(error) + ")");
}

OnDevice::OnDevice(pkecho_status status) {
    check(cudaGetDevice(&before_), "find a GPU", status);
    if (before_ != 0) check(cudaSetDevice(0), "use the first GPU", status);
}

OnDevice::~OnDevice() {
    if (before_ != 0) cudaSetDevice(before_);
}

Device this_device() {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, 0), "ask the GPU what it is");
    size_t free_bytes = 0, total = 0;
    check(cudaMemGetInfo(&free_bytes, &total), "ask the GPU for its memory");
    int driver = 0;
    check(cudaDriverGetVersion(&driver), "ask for the driver's version");
    Device device;
    device.gpu = as_utf8(properties.name);
    device.compute_capability = std::to_string(attribute(cudaDevAttrComputeCapabilityMajor)) + "." +
                                std::to_string(attribute(cudaDevAttrComputeCapabilityMinor));
    device.is_integrated = attribute(cudaDevAttrIntegrated) != 0;
    const double gigabytes = static_cast<double>(total) / (1 << 30);
    const int64_t processors = attribute(cudaDevAttrMultiProcessorCount);
    device.identity = object_of({
        {"gpu", {device.gpu}},
        {"compute_capability", {device.compute_capability}},
        {"multiprocessors", {processors}},
        {"gpu_memory_gb", {int64_t{std::llrint(gigabytes)}}},
        {"model", or_null(first_line("/proc/device-tree/model"))},
        {"cuda_driver", {std::to_string(driver / 1000) + "." + std::to_string(driver % 1000 / 10)}},
        {"tensorrt", {library_version()}},
        {"l4t", or_null(first_line("/etc/nv_tegra_release"))},
        {"power_mode", power_mode()},
    });
    return device;
}

size_t free_memory_mb(const Device &device) {
    size_t free_bytes = 0, total = 0;
    check(cudaMemGetInfo(&free_bytes, &total), "ask the GPU for its memory");
    const size_t found = free_bytes >> 20;
    if (!device.is_integrated) return found;
    // there the driver counts as free what the system has not touched; caches that the system
    // would give back stand in MemAvailable only
    return std::max(found, available_mb());
}

bool is_same_device(const Value &there, const Value &here) {
    const auto *facts = there.get<Value::Object>();
    const auto &ours = as<Value::Object>(here);
    if (facts == nullptr || facts->size() != ours.size()) return false;
    return std::all_of(ours.begin(), ours.end(), [&there](const json::Member &fact) {
        const Value *other = find(there, fact.key);
        if (other == nullptr) return false;
        if (fact.key == "power_mode" && fact.value.get<std::monostate>() != nullptr) return true;
        const auto *text = other->get<std::string>();
        if (fact.key != "tensorrt" || text == nullptr) return is_same(*other, fact.value);
        return three_numbers(*text) == as<std::string>(fact.value);
    });
}

std::string in_words(const Value &identity) {
    std::string sm = text_or(identity, "compute_capability", "?");
    sm.erase(std::remove(sm.begin(), sm.end(), '.'), sm.end());
    std::string name = text_or(identity, "model", "");
    if (name.empty()) name = text_or(identity, "gpu", "?");
    std::string text = name + " (sm_" + sm + ", " + text_or(identity, "multiprocessors", "?") +
                       " SMs, " + text_or(identity, "gpu_memory_gb", "?") + " GB, TensorRT " +
                       text_or(identity, "tensorrt", "?") + ", driver " +
                       text_or(identity, "cuda_driver", "?");
    const std::string mode = text_or(identity, "power_mode", "");
    return text + (mode.empty() ? ")" : ", power mode " + mode + ")");
}

}  // namespace pkecho::tensorrt
