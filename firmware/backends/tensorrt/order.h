// What is to be built: the engine of a bundle, read from its recipe for the TensorRT that is here.
#pragma once

#include <set>
#include <string>

#include "device.h"
#include "files.h"
#include "hearing.h"
#include "onnx.h"
#include "pkecho_backend.h"

namespace pkecho::tensorrt {

struct Order {
    std::string name;   // "stream-int8": of the record in the cache
    std::string graph;  // "stream.int8-typed.onnx"
    std::string bundle_id;
    View model;     // the graph's bytes, without its weights
    Value sources;  // file -> SHA-256, of all that the plan is made of
    Value how;      // every option, as keys have it
    std::set<std::string> float32_nodes;
    bool is_half = true;  // what is not INT8 may be FP16
    size_t workspace_mb = 0;
    std::string kit;  // SHA-256 of the bundle's device kit, "" where it is not known
    bool use_cuda_graph = true;

    // Of a plan on a device with this identity. The kit computes the same one.
    std::string key(const Value &identity) const;

    Bytes whole_model() const;

    const pkecho_backend_engine *engine = nullptr;  // lives until `load` returns
};

// Throws Failure: the bundle holds no recipe, or is for another device or a newer TensorRT. Says a
// warning where this TensorRT is newer than the one that was meant.
Order read_order(const pkecho_backend_engine &engine, const Device &device, const Hearing &said);

}  // namespace pkecho::tensorrt
