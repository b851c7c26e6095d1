// A stand-in for TensorRT and CUDA: order of calls, owners, types, and what differs between
// versions.
//
// It computes a rule of its own, never a network: history_out = history + 1, and logits = 2 * frame
// + history[0]. It shows whether the back-end would be understood, and nothing of numbers or speed.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

struct StandIn {
    struct Tensor {
        std::string name;
        bool is_input;
        bool is_u8;
        std::vector<int> shape;
    };
    struct Layer {
        std::string name;
        bool is_integer = false, is_constant = false;
    };

    // What the device is, and what networks have.
    int version = 0, driver = 12060, sms = 8, compute_major = 8, compute_minor = 7;
    bool is_integrated = false;
    std::string gpu = "Stand-in";
    unsigned long long total_mb = 7600, free_mb = 6000;
    std::vector<Tensor> tensors;
    std::vector<Layer> layers;

    // What goes wrong.
    int fail_call = 0;          // the so many-th call of CUDA from now on
    int parse_error_node = -1;  // this node has no importer
    bool build_fails = false, enqueue_fails = false, sync_fails = false, capture_fails = false;
    bool load_fails = false;
    int build_sleep_ms = 0;

    // What happened.
    int calls = 0, builds = 0, enqueues = 0, copies = 0, launches = 0;
    int objects = 0, device_blocks = 0, host_blocks = 0, streams = 0, graphs = 0;
    bool is_strong = false, is_explicit = false;
    std::set<std::string> flags, in_fp32;
    unsigned long long workspace = 0;
    std::vector<uint8_t> model, given_timings;
};

StandIn &stand_in();
