#include "cache.h"

#include <unistd.h>

#include <chrono>
#include <cstring>
#include <stdexcept>
#include <thread>

namespace pkecho::tensorrt {

namespace {

constexpr char kSchema[] = "pkecho-edge/plan/1";
constexpr size_t kRecordBytes = 1 << 20, kPlanBytes = size_t{1} << 30, kHashBytes = 32;
constexpr char kPlain[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
constexpr std::chrono::seconds kPatience{900};  // a build takes minutes

// As the kit has it: nothing that leads out of the folder.
bool is_plain(const std::string &name) {
    const size_t dot = name.find_first_not_of(kPlain);
    return dot != std::string::npos && dot != 0 && name.substr(dot) == ".plan";
}

// Bundle ids name folders; the manifest's parser has seen this one, but this code has not.
bool is_identifier(const std::string &text) {
    return !text.empty() && text.size() < 100 && text.find_first_not_of(kPlain) == text.npos;
}

}  // namespace

PlanCache::PlanCache(const std::string &directory, const Order &order, const Device &device,
                     const Hearing &said)
    : order_(order),
      device_(device),
      said_(said),
      directory_(directory),
      folder_(directory + "/" + order.bundle_id),
      // without the kit's hash keys are our own, and its records are left alone
      record_name_((order.kit.empty() ? "libpkecho-" : "") + order.name) {
    if (directory_.empty()) {
        said_.say(PKECHO_LOG_WARNING,
                  "no cache_dir: the plan is built at every start, which takes minutes on a board");
    }
    if (!is_identifier(order.bundle_id)) folder_ = directory_;
}

std::optional<Bytes> PlanCache::find(bool tells) const {
    if (directory_.empty()) return {};
    for (const std::string &folder : {folder_, directory_}) {
        std::string why;
        if (auto plan = find_in(folder, why)) return plan;
        if (tells && !why.empty()) stale(folder + "/" + record_name_ + ".json: " + why);
        if (folder_ == directory_) break;
    }
    return {};
}

std::optional<Bytes> PlanCache::find_in(const std::string &folder, std::string &why) const {
    const std::string path = folder + "/" + record_name_ + ".json";
    for (int attempt = 0; attempt < 2; ++attempt) {
        const std::optional<Bytes> data = read_file(path, kRecordBytes);
        if (!data) {
            if (::access(path.c_str(), F_OK) == 0) why = "it cannot be read";
            return {};
        }
        try {
            const Value record = json::parse(as_text(*data), {PKECHO_STALE_PLAN, path});
            if (why = why_not(record); !why.empty()) return {};
            auto plan = read_file(folder + "/" + text_at(record, "plan"), kPlanBytes);
            if (plan && sha256(as_text(*plan)) == text_at(record, "sha256")) return plan;
            // a builder may just have replaced it: then its new record names another
        } catch (const Failure &) {
            why = "it is damaged";
            return {};
        } catch (const std::runtime_error &error) {
            why = std::string("it is damaged: ") + error.what();
            return {};
        }
    }
    why = "the plan that it names is gone, or has other bytes";
    return {};
}

std::string PlanCache::why_not(const Value &record) const {
    if (text_at(record, "schema") != kSchema) return "a record of another schema";
    if (!is_plain(text_at(record, "plan"))) return "it names no plan";
    const Value &facts = at(record, "facts");
    if (!is_same_device(facts, device_.identity)) {
        return "built for " + in_words(facts) + ", this is " + in_words(device_.identity);
    }
    // with the device as the record has it, which is ours but for what is not known here
    if (text_at(record, "key") != order_.key(facts)) return "built from other graphs or options";
    return "";
}

void PlanCache::stale(const std::string &what) const {
    said_.say(PKECHO_LOG_WARNING, "PKECHO_STALE_PLAN: " + what + ": it is built again");
}

void PlanCache::lock() {
    if (directory_.empty()) return;
    std::string why = make_folder(folder_);
    if (why.empty()) {
        lock_ = std::make_unique<FolderLock>(folder_);
        why = lock_->trouble();
    }
    if (why.empty()) {
        const auto end = std::chrono::steady_clock::now() + kPatience;
        bool is_told = false;
        while (!(may_write_ = lock_->try_take()) && std::chrono::steady_clock::now() < end) {
            if (!is_told) said_.say(PKECHO_LOG_INFO, "waiting for another process in " + folder_);
            is_told = true;
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        }
        if (!may_write_) why = "another process works in it";
    }
    if (!may_write_) {
        said_.say(PKECHO_LOG_WARNING, "the plan cannot be kept in " + folder_ + " (" + why +
                                          "): it will be built again at the next start");
    }
}

void PlanCache::keep(const Bytes &plan) {
    if (!may_write_) return;
    const std::string digest = sha256(as_text(plan));
    const std::string name = record_name_ + "-" + digest.substr(0, 12) + ".plan";
    const std::string text = json::canonical(object_of({
        {"schema", {std::string(kSchema)}},
        {"plan", {name}},
        {"sha256", {digest}},
        {"bytes", {static_cast<int64_t>(plan.size())}},
        {"key", {order_.key(device_.identity)}},
        {"facts", device_.identity},
        {"graph", {order_.graph}},
        {"bundle_id", {order_.bundle_id}},
        {"builder", {std::string("libpkecho")}},
        {"sources", order_.sources},
        {"how", order_.how},
    }));
    std::string why = write_whole(folder_ + "/" + name, plan.data(), plan.size());
    if (why.empty()) {
        why = write_whole(folder_ + "/" + record_name_ + ".json", text.data(), text.size());
    }
    if (!why.empty()) {
        said_.say(PKECHO_LOG_WARNING, "the plan cannot be kept in " + folder_ + " (" + why +
                                          "): it will be built again at the next start");
        return;
    }
    for (const std::string &old : names_in(folder_, record_name_ + "-", ".plan")) {
        if (old != name) ::unlink((folder_ + "/" + old).c_str());
    }
}

std::string PlanCache::timings_path() const {
    return folder_ + "/timing-" + sha256(compact(device_.identity)).substr(0, 12) + ".cache";
}

Bytes PlanCache::timings() const {
    if (directory_.empty()) return {};
    const std::optional<Bytes> data = read_file(timings_path(), kPlanBytes);
    if (!data || data->size() <= kHashBytes) return {};
    const uint8_t *rest = data->data() + kHashBytes;
    if (sha256_raw(rest, data->size() - kHashBytes) != Bytes(data->data(), rest)) return {};
    return Bytes(rest, data->data() + data->size());
}

void PlanCache::keep_timings(const void *data, size_t size) const {
    if (!may_write_) return;
    Bytes whole = sha256_raw(data, size);
    const auto *start = static_cast<const uint8_t *>(data);
    whole.insert(whole.end(), start, start + size);
    write_whole(timings_path(), whole.data(), whole.size());  // they only save time
}

}  // namespace pkecho::tensorrt
