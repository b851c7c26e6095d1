#include "order.h"

#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "hearing.h"

namespace pkecho::tensorrt {

namespace {

constexpr char kRecipe[] = "recipe.json";
constexpr char kRecipeSchema[] = "pkecho-edge/recipe/1";
constexpr char kPrecision[] = "int8";  // of the engine that the manifest describes and vouches for

const pkecho_backend_file *file_named(const pkecho_backend_engine &engine, std::string_view name) {
    for (size_t i = 0; i < engine.file_count; ++i) {
        if (name == engine.files[i].name) return &engine.files[i];
    }
    return nullptr;
}

const pkecho_backend_file &required(const pkecho_backend_engine &engine, const std::string &name) {
    const pkecho_backend_file *file = file_named(engine, name);
    if (file == nullptr) throw std::runtime_error(name + " is missing");
    return *file;
}

std::string pair_value(const pkecho_backend_pair *pairs, size_t count, const char *key) {
    for (size_t i = 0; i < count; ++i) {
        if (std::strcmp(pairs[i].key, key) == 0) return pairs[i].value;
    }
    return "";
}

// A version's first three numbers, for comparing.
struct Release {
    explicit Release(const std::string &text) {
        std::sscanf(text.c_str(), "%d.%d.%d", &part[0], &part[1], &part[2]);
    }
    int part[3] = {0, 0, 0};
};

void check_release(const Value &profile, const std::string &here, const Hearing &said) {
    const std::string &wanted = text_at(profile, "tensorrt");
    const std::string &name = text_at(profile, "name");
    const Release ours(here), theirs(wanted);
    for (int i = 0; i < 3 && ours.part[i] <= theirs.part[i]; ++i) {
        if (ours.part[i] == theirs.part[i]) continue;
        throw Failure(PKECHO_BACKEND_VERSION, "profile " + name + " is for TensorRT " + wanted +
                                                  ", this is " + here + ": update JetPack, or " +
                                                  "compile with an older --profile");
    }
    if (ours.part[0] != theirs.part[0] || ours.part[1] != theirs.part[1]) {
        said.say(PKECHO_LOG_WARNING, "TensorRT " + here + " is newer than the profile's " + wanted +
                                         ": accuracy was checked for that one");
    }
}

void check_device(const Value &profile, const Device &device, const Hearing &said) {
    const Value *named = find(profile, "compute_capability");
    const std::string *wanted = named == nullptr ? nullptr : named->get<std::string>();
    if (wanted != nullptr && *wanted != device.compute_capability) {
        throw Failure(PKECHO_BACKEND_FAILED,
                      "profile " + text_at(profile, "name") + " is for compute capability " +
                          *wanted + ", this is " + device.compute_capability + " (" + device.gpu +
                          "): compile with the --profile of this device");
    }
    check_release(profile, library_version(), said);
}

Value sources_of(const pkecho_backend_engine &engine, const pkecho_backend_file &graph,
                 const Value &weights) {
    Value sources = object_of({{graph.name, {std::string(graph.sha256)}}});
    for (const Value &name : as<Value::Array>(weights)) {
        const pkecho_backend_file &file = required(engine, as<std::string>(name));
        insert(sources, file.name, {std::string(file.sha256)});
    }
    return sources;
}

Order ordered(const pkecho_backend_engine &engine, const Value &recipe) {
    Order order;
    order.engine = &engine;
    order.bundle_id = engine.bundle_id;
    order.name = std::string(engine.mode) + "-" + kPrecision;
    const Value &mode = at(at(recipe, "modes"), engine.mode);
    order.graph = text_at(at(at(mode, "graphs"), kPrecision), kStronglyTyped ? "strong" : "weak");
    const pkecho_backend_file &graph = required(engine, order.graph);
    order.model = {graph.data, graph.size};
    order.sources = sources_of(engine, graph, at(recipe, "weights"));

    const int64_t workspace = as<int64_t>(at(at(recipe, "profile"), "workspace_mb"));
    if (workspace < 1 || workspace > 1 << 20) throw std::runtime_error("workspace_mb is absurd");
    order.workspace_mb = static_cast<size_t>(workspace);
    const Value *half = find(recipe, "half_flags"), *nodes = find(mode, "float32_nodes");
    order.is_half = half == nullptr || as<bool>(*half);
    const Value kept = nodes == nullptr ? Value{Value::Array{}} : *nodes;
    for (const Value &node : as<Value::Array>(kept)) {
        order.float32_nodes.insert(as<std::string>(node));
    }
    order.how = object_of({{"precision", {std::string(kPrecision)}},
                           {"strong", {kStronglyTyped}},
                           {"half", {order.is_half}},
                           {"workspace_mb", {workspace}},
                           {"float32_nodes", kept}});
    order.kit = pair_value(engine.toolchain, engine.toolchain_count, "device_kit");
    order.use_cuda_graph = pair_value(engine.options, engine.option_count, "cuda_graph") != "off";
    return order;
}

}  // namespace

std::string Order::key(const Value &identity) const {
    const std::string builder = kit.empty() ? "libpkecho" : kit;
    return sha256(compact(
        object_of({{"kit", {builder}}, {"sources", sources}, {"how", how}, {"device", identity}})));
}

Bytes Order::whole_model() const {
    return with_weights(model, [this](std::string_view wanted) {
        const pkecho_backend_file *file = file_named(*engine, wanted);
        return file == nullptr ? View{} : View{file->data, file->size};
    });
}

Order read_order(const pkecho_backend_engine &engine, const Device &device, const Hearing &said) {
    const pkecho_backend_file *file = file_named(engine, kRecipe);
    if (file == nullptr) {
        throw Failure(PKECHO_BACKEND_FAILED,
                      "the bundle holds no engine/recipe.json, so no plan can be built from it: "
                      "compile it with the float graphs");
    }
    const json::Origin origin{PKECHO_BACKEND_FAILED, std::string("engine/") + kRecipe};
    const Value recipe =
        json::parse({reinterpret_cast<const char *>(file->data), file->size}, origin);
    try {
        if (text_at(recipe, "schema") != kRecipeSchema) {
            throw Failure(PKECHO_BACKEND_VERSION, "the bundle's recipe is of another schema than " +
                                                      std::string(kRecipeSchema) +
                                                      ": update this back-end or the bundle");
        }
        check_device(at(recipe, "profile"), device, said);
        return ordered(engine, recipe);
    } catch (const std::runtime_error &error) {
        origin.refuse("cannot be used: " + one_line(error.what()));
    }
}

}  // namespace pkecho::tensorrt
