// The two things that this back-end does to ONNX files itself: put the weights in, and name a node.
//
// All graphs of a bundle keep their weights in one file beside them. TensorRT's parser would read
// that file from the disk, where nobody has checked it; what was checked lies in memory.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "files.h"

namespace pkecho::tensorrt {

struct View {
    const uint8_t *data = nullptr;
    size_t size = 0;
};

// A copy of the model with every external initializer inside. `find` gives a file's bytes, data
// nullptr where there is no such file. Throws std::runtime_error where the model is damaged.
Bytes with_weights(View model, const std::function<View(std::string_view)> &find);

// "/head/Conv (Conv)" of a node by its place, as a parser names it; "the graph" for none.
std::string node_name(View model, int index);

}  // namespace pkecho::tensorrt
