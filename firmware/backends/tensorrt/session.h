// A plan on the GPU, its memory, and inferences.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device.h"
#include "files.h"
#include "hearing.h"
#include "pkecho_backend.h"

namespace pkecho::tensorrt {

// An input or output as the manifest describes it.
struct Port {
    std::string name;
    bool is_input = false;
    pkecho_element element = PKECHO_F32;
    std::vector<int64_t> shape;
    size_t bytes = 0;
};

std::vector<Port> ports_of(const pkecho_backend_engine &engine);

// A plan, deserialized and found to have the ports that it should have.
class LoadedPlan {
public:
    // Throws Failure: PKECHO_BACKEND_FAILED where TensorRT does not take it, ENGINE_INTERFACE.
    LoadedPlan(const Bytes &plan, const std::vector<Port> &ports, Hearing &heard);

    nvinfer1::ICudaEngine &engine() const noexcept { return *engine_; }

private:
    std::unique_ptr<nvinfer1::IRuntime> runtime_;  // outlives its engine
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
};

class Session {
public:
    Session(LoadedPlan plan, std::vector<Port> ports, bool is_integrated, bool use_cuda_graph);

    // Page-locked: the GPU copies from and to it without a detour, and an integrated one uses it as
    // it is. nullptr where there is none left.
    void *allocate(size_t bytes) noexcept;
    void release(void *memory) noexcept;

    // What an integrated GPU calls memory of `allocate`, so that nothing needs to be copied;
    // nullptr where it has to be.
    void *seen_by_gpu(void *memory, size_t bytes);

    const std::vector<Port> &ports() const noexcept { return ports_; }
    nvinfer1::ICudaEngine &engine() const noexcept { return plan_.engine(); }
    bool use_cuda_graph() const noexcept { return use_cuda_graph_; }

private:
    struct FreeHost {
        void operator()(void *memory) const noexcept { cudaFreeHost(memory); }
    };
    struct Block {
        std::unique_ptr<void, FreeHost> memory;
        size_t bytes = 0;
        uint8_t *seen = nullptr;
    };

    LoadedPlan plan_;
    std::vector<Port> ports_;
    bool is_integrated_, use_cuda_graph_;
    std::mutex mutex_;  // guards blocks_
    std::map<uintptr_t, Block> blocks_;
};

// An inference tied to memory, with a context and a queue of its own.
class Request {
public:
    Request(Session &session, const pkecho_backend_tensor *inputs, size_t input_count,
            const pkecho_backend_tensor *outputs, size_t output_count);
    ~Request();
    Request(const Request &) = delete;
    Request &operator=(const Request &) = delete;

    void run();

private:
    struct Wire {
        void *host = nullptr;
        size_t bytes = 0;
        bool is_input = false;
        DeviceMemory copy;  // nullptr where the GPU uses the host's memory
    };

    void connect(Session &session, const pkecho_backend_tensor &tensor, const Port &port);
    void enqueue(Hearing &heard);
    void capture(Hearing &heard) noexcept;

    enum class Graph { later, next, ready, never };

    // in this order: what is declared last goes first
    std::vector<Wire> wires_;
    Stream stream_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    GraphExec graph_;
    Graph state_;
};

}  // namespace pkecho::tensorrt
