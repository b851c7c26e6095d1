// ONNX in, a plan out.
#pragma once

#include "cache.h"
#include "hearing.h"
#include "order.h"

namespace pkecho::tensorrt {

// Takes minutes on a board. Throws Failure with the parser's or the builder's own words.
Bytes build_plan(const Order &order, const Device &device, const PlanCache &cache, Hearing &heard);

}  // namespace pkecho::tensorrt
