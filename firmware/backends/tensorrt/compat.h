// What differs between TensorRT 8.5 and 11, in one place. Everything else of this back-end is
// written against what all of them have: named tensors, enqueueV3, memory pools, plain `delete`.
#pragma once

#include <NvInfer.h>
#include <NvOnnxParser.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

static_assert(NV_TENSORRT_MAJOR > 8 || (NV_TENSORRT_MAJOR == 8 && NV_TENSORRT_MINOR >= 5),
              "TensorRT 8.5 is the oldest that has named tensors and enqueueV3");

namespace pkecho::tensorrt {

// From 10 on a network says its types itself; before, flags say which precisions may be used. A
// bundle has graphs for either way.
inline constexpr bool kStronglyTyped = NV_TENSORRT_MAJOR >= 10;

// "10.3.0" of the library that runs, not of these headers. Until 9 a version had one digit less.
inline std::string library_version() {
    const int number = getInferLibVersion();
    const int unit = number >= 10000 ? 10000 : 1000;
    return std::to_string(number / unit) + "." + std::to_string(number % unit / 100) + "." +
           std::to_string(number % 100);
}

inline std::string header_version() {
    return std::to_string(NV_TENSORRT_MAJOR) + "." + std::to_string(NV_TENSORRT_MINOR) + "." +
           std::to_string(NV_TENSORRT_PATCH);
}

inline uint32_t network_flags() {
    using Flag [[maybe_unused]] = nvinfer1::NetworkDefinitionCreationFlag;
#if NV_TENSORRT_MAJOR >= 11
    return 0;  // there are no other networks, and the flag is deprecated
#elif NV_TENSORRT_MAJOR == 10
    return 1u << static_cast<uint32_t>(Flag::kSTRONGLY_TYPED);
#else
    return 1u << static_cast<uint32_t>(Flag::kEXPLICIT_BATCH);
#endif
}

#if NV_TENSORRT_MAJOR < 10

// INT8 without FP16 would leave the rest in FP32; and what must stay FP32 is obeyed, or no plan is
// built.
inline void set_precision_flags(nvinfer1::IBuilderConfig &config, bool int8, bool half) {
    using Flag = nvinfer1::BuilderFlag;
    if (half) config.setFlag(Flag::kFP16);
    if (int8) config.setFlag(Flag::kINT8);
    config.setFlag(Flag::kOBEY_PRECISION_CONSTRAINTS);
}

// Where a layer computes at all: constants and shapes have no precision.
inline void keep_in_fp32(nvinfer1::ILayer &layer) {
    using nvinfer1::DataType;
    using nvinfer1::LayerType;
    if (layer.getType() == LayerType::kCONSTANT || layer.getType() == LayerType::kSHAPE) return;
    for (int i = 0; i < layer.getNbOutputs(); ++i) {
        const nvinfer1::ITensor *output = layer.getOutput(i);
        if (output == nullptr ||
            (output->getType() != DataType::kFLOAT && output->getType() != DataType::kHALF)) {
            return;
        }
    }
    layer.setPrecision(DataType::kFLOAT);
    for (int i = 0; i < layer.getNbOutputs(); ++i) layer.setOutputType(i, DataType::kFLOAT);
}

#endif  // below 10

}  // namespace pkecho::tensorrt
