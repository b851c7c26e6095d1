#include "stand_in.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>

#include "stubs.h"

StandIn &stand_in() {
    static StandIn only;
    if (only.version == 0) only.version = NV_TENSORRT_VERSION;
    return only;
}

void unexpected(const char *name) {
    std::fprintf(stderr, "the stand-in has no %s\n", name);
    std::abort();
}

static void require(bool held, const char *what) {
    if (held) return;
    std::fprintf(stderr, "the stand-in was used wrongly: %s\n", what);
    std::abort();
}

using namespace nvinfer1;
namespace stubs = stub::nvinfer1;

namespace {

std::recursive_mutex mutex;
using Lock = std::lock_guard<std::recursive_mutex>;

// Counts what is alive.
struct Counted {
    Counted() {
        Lock lock(mutex);
        ++stand_in().objects;
    }
    ~Counted() {
        Lock lock(mutex);
        --stand_in().objects;
    }
};

ILogger *logger_given = nullptr;

void log(ILogger::Severity severity, const char *text) { logger_given->log(severity, text); }

void remember(void *logger) {
    require(logger != nullptr, "no logger");
    require(logger_given == nullptr || logger_given == logger, "TensorRT keeps the first logger");
    logger_given = static_cast<ILogger *>(logger);
}

// ---- Memory, queues
// ------------------------------------------------------------------------------

struct Block {
    size_t bytes;
    bool is_device, is_mapped;
};
std::map<uintptr_t, Block> blocks;

// Whether a GPU can use these bytes.
bool is_seen(const void *memory, size_t bytes) {
    const auto address = reinterpret_cast<uintptr_t>(memory);
    auto found = blocks.upper_bound(address);
    if (found == blocks.begin()) return false;
    --found;
    const size_t offset = address - found->first;
    return offset + bytes <= found->second.bytes &&
           (found->second.is_device || found->second.is_mapped);
}

}  // namespace

struct CUstream_st {
    bool is_capturing = false, is_broken = false;
    std::vector<std::function<void()>> captured;
    Counted counted;
};
struct CUgraph_st {
    std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
    std::vector<std::function<void()>> work;
};

namespace {

bool fails() {
    ++stand_in().calls;
    return stand_in().fail_call != 0 && --stand_in().fail_call == 0;
}

#define FALLIBLE      \
    Lock lock(mutex); \
    if (fails()) return cudaErrorUnknown;

void work(cudaStream_t stream, std::function<void()> what) {
    require(stream != nullptr, "no queue");
    if (stream->is_capturing) return stream->captured.push_back(std::move(what));
    what();
}

thread_local int device_of_thread = 0;

}  // namespace

extern "C" {

cudaError_t cudaGetDevice(int *device) {
    FALLIBLE;
    *device = device_of_thread;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    device_of_thread = device;
    return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char *cudaGetErrorString(cudaError_t error) {
    return error == cudaSuccess                 ? "no error"
           : error == cudaErrorLaunchFailure    ? "launch failure"
           : error == cudaErrorMemoryAllocation ? "out of memory"
                                                : "unknown error";
}
const char *cudaGetErrorName(cudaError_t) { return "cudaErrorOfTheStandIn"; }
cudaError_t cudaDriverGetVersion(int *version) {
    FALLIBLE;
    *version = stand_in().driver;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int) {
    FALLIBLE;
    std::snprintf(properties->name, sizeof properties->name, "%s", stand_in().gpu.c_str());
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr which, int) {
    FALLIBLE;
    const StandIn &self = stand_in();
    switch (which) {
        case cudaDevAttrComputeCapabilityMajor: *value = self.compute_major; break;
        case cudaDevAttrComputeCapabilityMinor: *value = self.compute_minor; break;
        case cudaDevAttrMultiProcessorCount: *value = self.sms; break;
        case cudaDevAttrIntegrated: *value = self.is_integrated; break;
        default: return cudaErrorInvalidValue;
    }
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    FALLIBLE;
    *free_bytes = stand_in().free_mb << 20;
    *total = stand_in().total_mb << 20;
    return cudaSuccess;
}

static void *new_block(size_t bytes, bool is_device, bool is_mapped) {
    void *memory = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    std::memset(memory, 0x7f, bytes);  // what lies there is anybody's: as floats, huge
    blocks[reinterpret_cast<uintptr_t>(memory)] = {bytes, is_device, is_mapped};
    ++(is_device ? stand_in().device_blocks : stand_in().host_blocks);
    return memory;
}

static cudaError_t drop_block(void *memory, bool is_device) {
    Lock lock(mutex);
    if (memory == nullptr) return cudaSuccess;
    const auto found = blocks.find(reinterpret_cast<uintptr_t>(memory));
    require(found != blocks.end() && found->second.is_device == is_device, "no such memory");
    blocks.erase(found);
    --(is_device ? stand_in().device_blocks : stand_in().host_blocks);
    std::free(memory);
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t bytes) {
    Lock lock(mutex);
    if (fails()) return cudaErrorMemoryAllocation;
    *memory = new_block(bytes, true, false);
    return cudaSuccess;
}
cudaError_t cudaFree(void *memory) { return drop_block(memory, true); }

cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned flags) {
    Lock lock(mutex);
    if (fails()) return cudaErrorMemoryAllocation;
    *memory = new_block(bytes, false, (flags & cudaHostAllocMapped) != 0);
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *memory) { return drop_block(memory, false); }

cudaError_t cudaHostGetDevicePointer(void **seen, void *memory, unsigned) {
    FALLIBLE;
    require(blocks.at(reinterpret_cast<uintptr_t>(memory)).is_mapped, "memory is not mapped");
    *seen = memory;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    FALLIBLE;
    *stream = new CUstream_st;
    ++stand_in().streams;
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    Lock lock(mutex);
    delete stream;
    --stand_in().streams;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    FALLIBLE;
    require(!stream->is_capturing, "a queue that is captured cannot be waited for");
    return stand_in().sync_fails ? cudaErrorLaunchFailure : cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    FALLIBLE;
    require(is_seen(kind == cudaMemcpyHostToDevice ? to : from, bytes), "not the GPU's memory");
    ++stand_in().copies;
    work(stream, [=] { std::memcpy(to, from, bytes); });
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    FALLIBLE;
    require(mode == cudaStreamCaptureModeThreadLocal, "other threads would be disturbed");
    stream->is_capturing = true;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    Lock lock(mutex);
    stream->is_capturing = false;
    *graph = nullptr;
    const std::vector<std::function<void()>> taken = std::move(stream->captured);
    stream->captured.clear();
    if (stand_in().capture_fails || fails()) return cudaErrorStreamCaptureInvalidated;
    *graph = new CUgraph_st{taken};
    ++stand_in().graphs;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *ready, cudaGraph_t graph,
                                          unsigned long long) {
    FALLIBLE;
    *ready = new CUgraphExec_st{graph->work};
    ++stand_in().graphs;
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    Lock lock(mutex);
    delete graph;
    --stand_in().graphs;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    Lock lock(mutex);
    delete graph;
    --stand_in().graphs;
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    FALLIBLE;
    ++stand_in().launches;
    require(!stream->is_capturing, "a graph in a graph");
    for (const auto &each : graph->work) each();
    return cudaSuccess;
}

}  // extern "C"

// ---- TensorRT
// ------------------------------------------------------------------------------------

namespace {

class HostMemory final : public IHostMemory, stubs::VHostMemory {
public:
    explicit HostMemory(std::string text) : text_(std::move(text)) { mImpl = this; }
    void *data() const noexcept override { return const_cast<char *>(text_.data()); }
    size_t size() const noexcept override { return text_.size(); }

private:
    std::string text_;
    Counted counted_;
};

class Tensor final : public ITensor, stubs::VTensor {
public:
    explicit Tensor(DataType type) : type_(type) { mImpl = this; }
    DataType getType() const noexcept override { return type_; }

private:
    DataType type_;
    Counted counted_;
};

// One layer, and its only output.
class Layer final : public ILayer, stubs::VLayer {
public:
    explicit Layer(StandIn::Layer about)
        : about_(std::move(about)),
          output_(about_.is_integer ? DataType::kINT32 : DataType::kFLOAT) {
        mLayer = this;
    }
    LayerType getType() const noexcept override {
        return about_.is_constant ? LayerType::kCONSTANT : LayerType::kCONVOLUTION;
    }
    const char *getName() const noexcept override { return about_.name.c_str(); }
    int32_t getNbOutputs() const noexcept override { return 1; }
    ITensor *getOutput(int32_t) const noexcept override { return const_cast<Tensor *>(&output_); }
#if NV_TENSORRT_MAJOR < 11
    void setPrecision(DataType type) noexcept override {
        require(type == DataType::kFLOAT && !about_.is_integer, "integers have no FP32");
        stand_in().in_fp32.insert(about_.name);
    }
    void setOutputType(int32_t, DataType type) noexcept override {
        require(type == DataType::kFLOAT, "an output that is not FP32");
    }
#endif

private:
    StandIn::Layer about_;
    Tensor output_;
    Counted counted_;
};

class Network final : public INetworkDefinition, stubs::VNetworkDefinition {
public:
    Network() { mImpl = this; }
    int32_t getNbLayers() const noexcept override { return static_cast<int32_t>(layers.size()); }
    ILayer *getLayer(int32_t index) const noexcept override {
        return layers[static_cast<size_t>(index)].get();
    }
    std::vector<std::unique_ptr<Layer>> layers;
    bool is_parsed = false;

private:
    Counted counted_;
};

class Timings final : public ITimingCache, stubs::VTimingCache {
public:
    explicit Timings(std::string text) : text_(std::move(text)) { mImpl = this; }
    IHostMemory *serialize() const noexcept override { return new HostMemory("timings, grown"); }
    bool is_mine() const { return text_.empty() || text_.rfind("timings", 0) == 0; }

private:
    std::string text_;
    Counted counted_;
};

class Config final : public IBuilderConfig, stubs::VBuilderConfig {
public:
    Config() {
        mImpl = this;
        flags_.insert(BuilderFlag::kTF32);
    }
    void setMemoryPoolLimit(MemoryPoolType, size_t size) noexcept override {
        stand_in().workspace = size;
    }
    void setFlag(BuilderFlag flag) noexcept override { flags_.insert(flag); }
    void clearFlag(BuilderFlag flag) noexcept override { flags_.erase(flag); }
    ITimingCache *createTimingCache(const void *data, size_t size) const noexcept override {
        const std::string text(static_cast<const char *>(data), size);
        stand_in().given_timings.assign(text.begin(), text.end());
        require(text.empty() || text.rfind("timings", 0) == 0, "a damaged timing cache aborts");
        return new Timings(text);
    }
    bool setTimingCache(const ITimingCache &timings, bool ignore) noexcept override {
        require(!ignore, "timings of another GPU");
        timings_ = static_cast<const Timings *>(&timings);
        return timings_->is_mine();
    }
    const ITimingCache *getTimingCache() const noexcept override { return timings_; }

    std::set<std::string> names() const {
        std::set<std::string> found;
        if (flags_.count(BuilderFlag::kTF32)) found.insert("TF32");
#if NV_TENSORRT_MAJOR < 11
        if (flags_.count(BuilderFlag::kFP16)) found.insert("FP16");
        if (flags_.count(BuilderFlag::kINT8)) found.insert("INT8");
        if (flags_.count(BuilderFlag::kOBEY_PRECISION_CONSTRAINTS)) found.insert("OBEY");
#endif
        return found;
    }

private:
    std::set<BuilderFlag> flags_;
    const Timings *timings_ = nullptr;
    Counted counted_;
};

std::string header() {
    const StandIn &self = stand_in();
    return "PLAN " + std::to_string(self.version) + " " + std::to_string(self.compute_major) +
           std::to_string(self.compute_minor);
}

class Builder final : public IBuilder, stubs::VBuilder {
public:
    Builder() { mImpl = this; }
    INetworkDefinition *createNetworkV2(NetworkDefinitionCreationFlags flags) noexcept override {
#if NV_TENSORRT_MAJOR >= 10
        stand_in().is_strong = NV_TENSORRT_MAJOR >= 11 || (flags & 2) != 0;
        require(stand_in().is_strong, "the graph says its types");
#else
        stand_in().is_explicit = (flags & 1) != 0;
        require(stand_in().is_explicit, "8 parses ONNX with an explicit batch only");
#endif
        return new Network;
    }
    IBuilderConfig *createBuilderConfig() noexcept override { return new Config; }
    IHostMemory *buildSerializedNetwork(INetworkDefinition &network,
                                        IBuilderConfig &config) noexcept override {
        auto &self = stand_in();
        require(static_cast<Network &>(network).is_parsed, "nothing was parsed");
        self.flags = static_cast<Config &>(config).names();
        require(self.workspace > 0, "no workspace");
        require(!self.is_strong || self.flags.empty(), "a strongly typed network takes no flags");
        require(self.is_strong || self.flags.count("INT8") != 0, "Q/DQ needs the INT8 flag");
        std::this_thread::sleep_for(std::chrono::milliseconds(self.build_sleep_ms));
        std::thread([] {
            log(ILogger::Severity::kINFO, "said by another thread\nin two lines");
        }).join();
        if (self.build_fails) {
            log(ILogger::Severity::kERROR, "Could not find any implementation for node conv1");
            return nullptr;
        }
        std::ostringstream plan;
        plan << header() << " " << ++self.builds << "\n";  // two builds of one graph differ
        for (auto tensor = self.tensors.rbegin(); tensor != self.tensors.rend(); ++tensor) {
            plan << tensor->name << " " << tensor->is_input << " " << tensor->is_u8;
            for (const int side : tensor->shape) plan << " " << side;
            plan << "\n";
        }
        return new HostMemory(plan.str());
    }

private:
    Counted counted_;
};

class Engine;

class Context final : public IExecutionContext, stubs::VExecutionContext {
public:
    explicit Context(const Engine &engine) : engine_(engine) { mImpl = this; }
    bool setTensorAddress(const char *name, void *memory) noexcept override;
    bool enqueueV3(cudaStream_t stream) noexcept override;

private:
    const Engine &engine_;
    std::map<std::string, void *> addresses_;
    Counted counted_;
};

class Engine final : public ICudaEngine, stubs::VCudaEngine {
public:
    explicit Engine(const std::string &plan) {
        mImpl = this;
        std::istringstream lines(plan);
        std::string line;
        for (std::getline(lines, line); std::getline(lines, line);) {
            std::istringstream words(line);
            StandIn::Tensor tensor;
            words >> tensor.name >> tensor.is_input >> tensor.is_u8;
            for (int side; words >> side;) tensor.shape.push_back(side);
            tensors.push_back(tensor);
        }
    }
    int32_t getNbIOTensors() const noexcept override {
        return static_cast<int32_t>(tensors.size());
    }
    const char *getIOTensorName(int32_t index) const noexcept override {
        return tensors[static_cast<size_t>(index)].name.c_str();
    }
    Dims getTensorShape(const char *name) const noexcept override {
        Dims dims{};
        for (const int side : tensor(name).shape) dims.d[dims.nbDims++] = side;
        return dims;
    }
    DataType getTensorDataType(const char *name) const noexcept override {
        return tensor(name).is_u8 ? DataType::kUINT8 : DataType::kFLOAT;
    }
    TensorIOMode getTensorIOMode(const char *name) const noexcept override {
        return tensor(name).is_input ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
    }
#if NV_TENSORRT_MAJOR >= 10
    IExecutionContext *createExecutionContext(
        ExecutionContextAllocationStrategy) noexcept override {
#else
    IExecutionContext *createExecutionContext() noexcept override {
#endif
        return fails() ? nullptr : new Context(*this);
    }
    const StandIn::Tensor &tensor(const std::string &name) const {
        for (const auto &each : tensors) {
            if (each.name == name) return each;
        }
        unexpected(name.c_str());
    }
    static size_t elements(const StandIn::Tensor &tensor) {
        size_t count = 1;
        for (const int side : tensor.shape) count *= static_cast<size_t>(side);
        return count;
    }
    std::vector<StandIn::Tensor> tensors;

private:
    Counted counted_;
};

bool Context::setTensorAddress(const char *name, void *memory) noexcept {
    Lock lock(mutex);
    const StandIn::Tensor &tensor = engine_.tensor(name);
    const size_t bytes = Engine::elements(tensor) * (tensor.is_u8 ? 1 : 4);
    require(is_seen(memory, bytes), "the GPU has no such memory");
    if (reinterpret_cast<uintptr_t>(memory) % 256 != 0) return false;
    addresses_[name] = memory;
    return true;
}

bool Context::enqueueV3(cudaStream_t stream) noexcept {
    Lock lock(mutex);
    require(addresses_.size() == engine_.tensors.size(), "a tensor has no address");
    ++stand_in().enqueues;
    if (stand_in().enqueue_fails) {
        log(ILogger::Severity::kERROR, "Cuda failure in enqueueV3");
        return false;
    }
    const auto *frame = static_cast<const uint8_t *>(addresses_.at("frame"));
    const auto *history = static_cast<const float *>(addresses_.at("history"));
    auto *logits = static_cast<float *>(addresses_.at("logits"));
    auto *out = static_cast<float *>(addresses_.at("history_out"));
    const size_t pixels = Engine::elements(engine_.tensor("frame"));
    const size_t features = Engine::elements(engine_.tensor("history"));
    work(stream, [=] {
        for (size_t i = 0; i < pixels; ++i) logits[i] = 2.0f * frame[i] + history[0];
        for (size_t i = 0; i < features; ++i) out[i] = history[i] + 1;
    });
    return true;
}

class Runtime final : public IRuntime, stubs::VRuntime {
public:
    Runtime() { mImpl = this; }
#if NV_TENSORRT_MAJOR >= 10
    ICudaEngine *deserializeCudaEngine(const void *data, size_t size) noexcept override {
#else
    ICudaEngine *deserializeCudaEngine(const void *data, size_t size,
                                       IPluginFactory *) noexcept override {
#endif
        const std::string plan(static_cast<const char *>(data), size);
        if (plan.rfind(header() + " ", 0) != 0 || stand_in().load_fails) {
            stand_in().load_fails = false;  // once
            log(ILogger::Severity::kERROR, "The engine plan file is not compatible");
            return nullptr;
        }
        return new Engine(plan);
    }

private:
    Counted counted_;
};

class ParserError final : public stub::nvonnxparser::IParserError {
public:
    const char *desc() const override { return "No importer for Twist"; }
    int node() const override { return stand_in().parse_error_node; }
};

class Parser final : public stub::nvonnxparser::IParser {
public:
    explicit Parser(Network &network) : network_(network) {}
    bool parse(const void *data, size_t size, const char *path) noexcept override {
        require(path == nullptr, "weights would be read from the disk");
        const auto *bytes = static_cast<const uint8_t *>(data);
        stand_in().model.assign(bytes, bytes + size);
        for (const auto &layer : stand_in().layers)
            network_.layers.push_back(std::make_unique<Layer>(layer));
        network_.is_parsed = true;
        return stand_in().parse_error_node < 0;
    }
    int getNbErrors() const noexcept override { return 1; }
    const nvonnxparser::IParserError *getError(int) const noexcept override { return &error_; }

private:
    Network &network_;
    ParserError error_;
    Counted counted_;
};

}  // namespace

extern "C" {

int32_t getInferLibVersion() noexcept { return stand_in().version; }

void *createInferBuilder_INTERNAL(void *logger, int32_t version) noexcept {
    require(version == NV_TENSORRT_VERSION, "headers of another version");
    remember(logger);
    return static_cast<IBuilder *>(new Builder);
}

void *createInferRuntime_INTERNAL(void *logger, int32_t) noexcept {
    remember(logger);
    return static_cast<IRuntime *>(new Runtime);
}

#if NV_TENSORRT_MAJOR >= 11
void *createNvOnnxParser_INTERNAL(void *network, void *logger, int) noexcept {
#else
void *createNvOnnxParser_INTERNAL(void *network, void *logger, int) {
#endif
    remember(logger);
    auto *found = static_cast<Network *>(static_cast<INetworkDefinition *>(network));
    return static_cast<nvonnxparser::IParser *>(new Parser(*found));
}

}  // extern "C"
