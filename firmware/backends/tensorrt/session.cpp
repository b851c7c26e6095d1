#include "session.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace pkecho::tensorrt {

namespace {

constexpr uintptr_t kAlignment = 256;  // that TensorRT wants of addresses

Port port_of(const pkecho_backend_tensor &tensor, bool is_input) {
    if (tensor.rank > PKECHO_BACKEND_MAX_RANK) {
        const std::string name = tensor.name;
        throw Failure(PKECHO_ENGINE_INTERFACE, name + " has too many dimensions");
    }
    return {tensor.name, is_input, tensor.element,
            std::vector<int64_t>(tensor.shape, tensor.shape + tensor.rank), tensor.bytes};
}

std::string shape_text(const std::vector<int64_t> &shape) {
    std::string text;
    for (const int64_t side : shape) text += (text.empty() ? "" : ", ") + std::to_string(side);
    return "[" + text + "]";
}

const char *type_text(nvinfer1::DataType type) {
    using nvinfer1::DataType;
    return type == DataType::kUINT8   ? "u8"
           : type == DataType::kFLOAT ? "f32"
           : type == DataType::kHALF  ? "f16"
           : type == DataType::kINT8  ? "i8"
                                      : "of another type";
}

nvinfer1::DataType type_of(pkecho_element element) {
    return element == PKECHO_U8 ? nvinfer1::DataType::kUINT8 : nvinfer1::DataType::kFLOAT;
}

// What a plan has, in the words of a message.
std::string found_text(const nvinfer1::ICudaEngine &engine) {
    std::string text;
    for (int i = 0; i < engine.getNbIOTensors(); ++i) {
        const char *name = engine.getIOTensorName(i);
        const nvinfer1::Dims dims = engine.getTensorShape(name);
        const std::vector<int64_t> shape(dims.d, dims.d + std::max<int>(0, dims.nbDims));
        const bool is_input = engine.getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
        text += std::string(text.empty() ? "" : ", ") + (is_input ? "input " : "output ") + name +
                " " + type_text(engine.getTensorDataType(name)) + " " + shape_text(shape);
    }
    return text;
}

bool has(const nvinfer1::ICudaEngine &engine, const Port &port) {
    for (int i = 0; i < engine.getNbIOTensors(); ++i) {
        const char *name = engine.getIOTensorName(i);
        if (port.name != name) continue;
        const nvinfer1::Dims dims = engine.getTensorShape(name);
        const bool is_input = engine.getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
        return is_input == port.is_input &&
               engine.getTensorDataType(name) == type_of(port.element) &&
               std::vector<int64_t>(dims.d, dims.d + std::max<int>(0, dims.nbDims)) == port.shape;
    }
    return false;
}

const pkecho_backend_tensor *tensor_named(const pkecho_backend_tensor *tensors, size_t count,
                                          const std::string &name) {
    for (size_t i = 0; i < count; ++i) {
        if (name == tensors[i].name) return &tensors[i];
    }
    return nullptr;
}

}  // namespace

std::vector<Port> ports_of(const pkecho_backend_engine &engine) {
    std::vector<Port> ports;
    const auto add = [&ports](const pkecho_backend_tensor *tensors, size_t count, bool is_input) {
        for (size_t i = 0; i < count; ++i) ports.push_back(port_of(tensors[i], is_input));
    };
    add(engine.inputs, engine.input_count, true);
    add(engine.outputs, engine.output_count, false);
    return ports;
}

LoadedPlan::LoadedPlan(const Bytes &plan, const std::vector<Port> &ports, Hearing &heard)
    : runtime_(nvinfer1::createInferRuntime(logger())) {
    if (runtime_) engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    if (!engine_) {
        throw Failure(PKECHO_BACKEND_FAILED, "TensorRT " + library_version() +
                                                 " does not load the plan (" +
                                                 heard.errors("it gives no reason") + ")");
    }
    const bool fits = static_cast<size_t>(engine_->getNbIOTensors()) == ports.size() &&
                      std::all_of(ports.begin(), ports.end(),
                                  [this](const Port &port) { return has(*engine_, port); });
    if (!fits) {
        throw Failure(
            PKECHO_ENGINE_INTERFACE,
            "the plan has other tensors than the manifest describes: " + found_text(*engine_));
    }
}

Session::Session(LoadedPlan plan, std::vector<Port> ports, bool is_integrated, bool use_cuda_graph)
    : plan_(std::move(plan)),
      ports_(std::move(ports)),
      is_integrated_(is_integrated),
      use_cuda_graph_(use_cuda_graph) {}

void *Session::allocate(size_t bytes) noexcept {
    try {
        const OnDevice device;
        void *memory = nullptr, *seen = nullptr;
        const unsigned flags = is_integrated_ ? cudaHostAllocMapped : cudaHostAllocDefault;
        check(cudaHostAlloc(&memory, std::max<size_t>(bytes, 1), flags), "lock memory");
        Block block;
        block.memory.reset(memory);
        block.bytes = bytes;
        if (is_integrated_) check(cudaHostGetDevicePointer(&seen, memory, 0), "map memory");
        block.seen = static_cast<uint8_t *>(seen);
        std::memset(memory, 0, bytes);
        const std::lock_guard<std::mutex> lock(mutex_);
        blocks_.emplace(reinterpret_cast<uintptr_t>(memory), std::move(block));
        return memory;
    } catch (...) {  // the caller sees that there is none
        return nullptr;
    }
}

void Session::release(void *memory) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    blocks_.erase(reinterpret_cast<uintptr_t>(memory));
}

void *Session::seen_by_gpu(void *memory, size_t bytes) {
    const auto address = reinterpret_cast<uintptr_t>(memory);
    const std::lock_guard<std::mutex> lock(mutex_);
    auto after = blocks_.upper_bound(address);
    if (after == blocks_.begin()) return nullptr;
    const auto &[start, block] = *--after;
    const size_t offset = address - start;
    const bool is_inside = offset <= block.bytes && bytes <= block.bytes - offset;
    if (block.seen == nullptr || !is_inside) return nullptr;
    uint8_t *seen = block.seen + offset;
    return reinterpret_cast<uintptr_t>(seen) % kAlignment == 0 ? seen : nullptr;
}

Request::Request(Session &session, const pkecho_backend_tensor *inputs, size_t input_count,
                 const pkecho_backend_tensor *outputs, size_t output_count)
    : state_(session.use_cuda_graph() ? Graph::later : Graph::never) {
    const OnDevice device;
    Hearing heard;
    if (input_count + output_count != session.ports().size()) {
        throw Failure(PKECHO_ENGINE_INTERFACE, "the engine has another number of tensors");
    }
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "make a queue");
    stream_.reset(stream);
    context_.reset(session.engine().createExecutionContext());
    if (!context_) {
        throw Failure(PKECHO_OUT_OF_MEMORY, "TensorRT makes no execution context (" +
                                                heard.errors("is the GPU's memory full?") + ")");
    }
    wires_.reserve(session.ports().size());
    for (const Port &port : session.ports()) {
        const pkecho_backend_tensor *tensor = port.is_input
                                                  ? tensor_named(inputs, input_count, port.name)
                                                  : tensor_named(outputs, output_count, port.name);
        if (tensor == nullptr || tensor->data == nullptr || tensor->bytes != port.bytes) {
            throw Failure(PKECHO_ENGINE_INTERFACE,
                          "no memory of its size was given for " + port.name);
        }
        connect(session, *tensor, port);
    }
}

void Request::connect(Session &session, const pkecho_backend_tensor &tensor, const Port &port) {
    Wire wire;
    wire.host = tensor.data;
    wire.bytes = tensor.bytes;
    wire.is_input = port.is_input;
    void *address = session.seen_by_gpu(tensor.data, tensor.bytes);
    if (address == nullptr) {
        check(cudaMalloc(&address, std::max<size_t>(tensor.bytes, 1)), "get memory of the GPU");
        wire.copy.reset(address);
    }
    wires_.push_back(std::move(wire));
    if (!context_->setTensorAddress(port.name.c_str(), address)) {
        throw Failure(PKECHO_BACKEND_FAILED, "TensorRT refuses the memory of " + port.name);
    }
}

Request::~Request() {
    // work that a failed call left in the queue must not outlive the memory that it uses
    if (stream_) cudaStreamSynchronize(stream_.get());
}

void Request::run() {
    constexpr pkecho_status kFailed = PKECHO_INFERENCE_FAILED;
    const OnDevice device(kFailed);
    Hearing heard;
    // TensorRT prepares things in a first run that a capture would not take
    if (state_ == Graph::next) capture(heard);
    if (state_ == Graph::ready) {
        check(cudaGraphLaunch(graph_.get(), stream_.get()), "run the plan", kFailed);
    } else {
        enqueue(heard);
    }
    check(cudaStreamSynchronize(stream_.get()), "run the plan", kFailed);
    if (state_ == Graph::later) state_ = Graph::next;
}

void Request::enqueue(Hearing &heard) {
    constexpr pkecho_status kFailed = PKECHO_INFERENCE_FAILED;
    for (const Wire &wire : wires_) {
        if (!wire.is_input || !wire.copy) continue;
        check(cudaMemcpyAsync(wire.copy.get(), wire.host, wire.bytes, cudaMemcpyHostToDevice,
                              stream_.get()),
              "copy to the GPU", kFailed);
    }
    if (!context_->enqueueV3(stream_.get())) {
        const cudaError_t error = cudaGetLastError();
        throw Failure(kFailed, "TensorRT cannot run the plan (" +
                                   heard.errors("it gives no reason") +
                                   "; CUDA: " + cudaGetErrorString(error) + ")");
    }
    for (const Wire &wire : wires_) {
        if (wire.is_input || !wire.copy) continue;
        check(cudaMemcpyAsync(wire.host, wire.copy.get(), wire.bytes, cudaMemcpyDeviceToHost,
                              stream_.get()),
              "copy from the GPU", kFailed);
    }
}

// The whole inference as one thing to launch. Where that does not work, the plain way stays.
void Request::capture(Hearing &heard) noexcept {
    state_ = Graph::never;
    if (cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal) == cudaSuccess) {
        bool is_whole = true;
        try {
            enqueue(heard);
        } catch (...) {
            is_whole = false;
        }
        cudaGraph_t graph = nullptr;
        const cudaError_t ended = cudaStreamEndCapture(stream_.get(), &graph);
        const tensorrt::Graph owned(graph);
        cudaGraphExec_t ready = nullptr;
        if (is_whole && ended == cudaSuccess && graph != nullptr &&
            cudaGraphInstantiateWithFlags(&ready, graph, 0) == cudaSuccess) {
            graph_.reset(ready);
            state_ = Graph::ready;
        }
    }
    if (state_ == Graph::never) cudaGetLastError();  // nobody needs to hear of it
}

}  // namespace pkecho::tensorrt
