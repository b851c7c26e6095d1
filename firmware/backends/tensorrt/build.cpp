#include "build.h"

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>

namespace pkecho::tensorrt {

namespace {

// The parser holds weights that the network reads, and the network what the builder made: owners
// are declared in the order in which they depend on each other.
template <typename T>
using Owned = std::unique_ptr<T>;

[[noreturn]] void no_plan(Hearing &heard, const std::string &doing) {
    throw Failure(PKECHO_BACKEND_FAILED, "TensorRT " + library_version() + " cannot " + doing +
                                             " (" + heard.errors("it gives no reason") + ")");
}

template <typename T>
Owned<T> made(T *object, Hearing &heard, const char *doing) {
    if (object == nullptr) no_plan(heard, doing);
    return Owned<T>(object);
}

void check_room(const Order &order, const Device &device) {
    const size_t free_mb = free_memory_mb(device);
    if (free_mb >= order.workspace_mb) return;
    throw Failure(PKECHO_OUT_OF_MEMORY, std::to_string(free_mb) +
                                            " MB of GPU memory are free, building takes " +
                                            std::to_string(order.workspace_mb) +
                                            " MB of workspace: stop what else uses the GPU");
}

Bytes model_of(const Order &order) {
    try {
        return order.whole_model();
    } catch (const std::runtime_error &error) {
        throw Failure(PKECHO_BACKEND_FAILED,
                      order.graph + " cannot be used (" + one_line(error.what()) + ")");
    }
}

void parse(nvonnxparser::IParser &parser, const Bytes &model, const Order &order, Hearing &heard) {
    if (parser.parse(model.data(), model.size())) return;
    std::string words;
    for (int i = 0; i < parser.getNbErrors() && i < 3; ++i) {
        const nvonnxparser::IParserError *error = parser.getError(i);
        const char *said = error->desc();
        const std::string node = node_name({model.data(), model.size()}, error->node());
        words += (words.empty() ? "" : "; ") + node + ": " + one_line(said == nullptr ? "" : said);
    }
    if (words.empty()) words = heard.errors("it gives no reason");
    throw Failure(PKECHO_BACKEND_FAILED, "TensorRT " + library_version() + " cannot parse " +
                                             order.graph + " (" + words + ")");
}

#if NV_TENSORRT_MAJOR < 10
// The importer adds to a node's name: "Conv_12", "Reshape [shape]".
std::string node_of(const char *layer) {
    std::string name = layer == nullptr ? "" : layer;
    const size_t space = name.find(' ');
    if (space != std::string::npos) return name.substr(0, space);
    const size_t digits = name.find_last_not_of("0123456789");
    const bool is_numbered = digits != std::string::npos && digits + 1 < name.size();
    return is_numbered && name[digits] == '_' ? name.substr(0, digits) : name;
}
#endif

// Every option is set here or is the same on all hardware: what is verified is what runs.
void configure(nvinfer1::IBuilderConfig &config,
               [[maybe_unused]] nvinfer1::INetworkDefinition &network, const Order &order) {
    config.setMemoryPoolLimit(nvinfer1::MemoryPoolType::kWORKSPACE, order.workspace_mb << 20);
    config.clearFlag(nvinfer1::BuilderFlag::kTF32);  // FP32 is FP32
#if NV_TENSORRT_MAJOR < 10
    set_precision_flags(config, /*int8=*/true, order.is_half);
    for (int i = 0; i < network.getNbLayers(); ++i) {
        nvinfer1::ILayer *layer = network.getLayer(i);
        const char *name = layer->getName();
        if (order.float32_nodes.count(name == nullptr ? "" : name) != 0 ||
            order.float32_nodes.count(node_of(name)) != 0) {
            keep_in_fp32(*layer);
        }
    }
#endif
}

// An empty one where there is none, or another version's.
Owned<nvinfer1::ITimingCache> give_timings(nvinfer1::IBuilderConfig &config, const Bytes &known) {
    for (const size_t size : {known.size(), size_t{0}}) {
        Owned<nvinfer1::ITimingCache> timings(config.createTimingCache(known.data(), size));
        if (timings && config.setTimingCache(*timings, false)) return timings;
    }
    return nullptr;
}

void take_timings(const nvinfer1::IBuilderConfig &config, const PlanCache &cache) {
    const nvinfer1::ITimingCache *timings = config.getTimingCache();
    const Owned<nvinfer1::IHostMemory> data(timings == nullptr ? nullptr : timings->serialize());
    if (data) cache.keep_timings(data->data(), data->size());
}

}  // namespace

Bytes build_plan(const Order &order, const Device &device, const PlanCache &cache, Hearing &heard) {
    check_room(order, device);
    const Bytes model = model_of(order);
    heard.say(PKECHO_LOG_INFO, "building " + order.name + " from " + order.graph +
                                   " with TensorRT " + library_version() + ": this takes minutes");
    const auto start = std::chrono::steady_clock::now();

    const auto builder = made(nvinfer1::createInferBuilder(logger()), heard, "make a builder");
    const auto network = made(builder->createNetworkV2(network_flags()), heard, "make a network");
    const auto parser =
        made(nvonnxparser::createParser(*network, logger()), heard, "make a parser");
    parse(*parser, model, order, heard);
    const auto config = made(builder->createBuilderConfig(), heard, "make a configuration");
    configure(*config, *network, order);
    const auto timings = give_timings(*config, cache.timings());
    const auto plan =
        made(builder->buildSerializedNetwork(*network, *config), heard, "build a plan");
    if (timings) take_timings(*config, cache);

    const auto *data = static_cast<const uint8_t *>(plan->data());
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    heard.pass_on();
    heard.say(PKECHO_LOG_INFO, "built " + order.name + " in " +
                                   std::to_string(static_cast<int>(taken.count())) + " s");
    return Bytes(data, data + plan->size());
}

}  // namespace pkecho::tensorrt
