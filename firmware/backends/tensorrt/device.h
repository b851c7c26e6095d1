// The GPU: what a plan is tied to, and CUDA's things as owners.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "compat.h"
#include "failure.h"
#include "values.h"

namespace pkecho::tensorrt {

// Throws Failure, out of memory as such, where a call of CUDA's failed; `doing` completes "cannot".
void check(cudaError_t error, const char *doing, pkecho_status status = PKECHO_BACKEND_FAILED);

// Plans are built for, and run on, the first GPU. CUDA keeps each thread's choice: the caller's
// is put back.
class OnDevice {
public:
    explicit OnDevice(pkecho_status status = PKECHO_BACKEND_FAILED);
    ~OnDevice();
    OnDevice(const OnDevice &) = delete;
    OnDevice &operator=(const OnDevice &) = delete;

private:
    int before_ = 0;
};

struct Device {
    Value identity;  // as the records of plans have it, see device/pkecho_device.py
    std::string gpu, compute_capability;
    bool is_integrated = false;  // one memory for both, as on a Jetson
};

Device this_device();

// Megabytes that a build can have of the GPU's memory.
size_t free_memory_mb(const Device &device);

// Whether a plan that was built there may run here. What cannot be found out here does not count,
// nor does a fourth number of TensorRT's version, which Python knows and C does not.
bool is_same_device(const Value &there, const Value &here);

// Short, for messages.
std::string in_words(const Value &identity);

struct FreeDevice {
    void operator()(void *memory) const noexcept { cudaFree(memory); }
};
using DeviceMemory = std::unique_ptr<void, FreeDevice>;

struct DropStream {
    void operator()(cudaStream_t stream) const noexcept { cudaStreamDestroy(stream); }
};
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, DropStream>;

struct DropGraph {
    void operator()(cudaGraph_t graph) const noexcept { cudaGraphDestroy(graph); }
};
using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, DropGraph>;

struct DropGraphExec {
    void operator()(cudaGraphExec_t graph) const noexcept { cudaGraphExecDestroy(graph); }
};
using GraphExec = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, DropGraphExec>;

}  // namespace pkecho::tensorrt
