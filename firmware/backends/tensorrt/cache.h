// Plans that were built on this device, as the device kit of the bundle keeps them, so that the two
// share them: NAME.json is a record, NAME-HASH.plan the plan that it names. A record is written
// after its plan and replaced in one step: a kill at any moment leaves the old plan or the new one.
//
// Nothing here is signed. A plan is used where its record's key is the one of this graph, these
// options and this device, and its bytes are those that the record names; what it computes, the
// golden self-test of libpkecho has to show.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "hearing.h"
#include "order.h"

namespace pkecho::tensorrt {

class PlanCache {
public:
    // `directory` "" for none: every plan is built anew then, and `said` hears what that costs.
    PlanCache(const std::string &directory, const Order &order, const Device &device,
              const Hearing &said);

    // The bytes that were hashed, never read again. A record that does not fit is told of as
    // PKECHO_STALE_PLAN where it `tells`, and nothing is returned. Beside the bundle's own folder,
    // plans that the kit put into `directory` itself count.
    std::optional<Bytes> find(bool tells) const;

    // Say that what `find` gave, or would have given, is of no use.
    void stale(const std::string &what) const;

    // Wait for another process that builds in this cache. Where it takes too long, or the cache
    // cannot be written, nothing will be kept, and `said` hears why.
    void lock();

    // Plan first, then the record that names it, then the plans that no record names any more.
    void keep(const Bytes &plan);

    // TensorRT's measurements of kernels, which make the next build faster. It may abort the
    // process on a damaged file, so it sees none: the file begins with the SHA-256 of the rest.
    Bytes timings() const;
    void keep_timings(const void *data, size_t size) const;

private:
    std::optional<Bytes> find_in(const std::string &folder, std::string &why) const;
    std::string why_not(const Value &record) const;
    std::string timings_path() const;

    const Order &order_;
    const Device &device_;
    const Hearing &said_;
    std::string directory_, folder_, record_name_;
    std::unique_ptr<FolderLock> lock_;
    bool may_write_ = false;
};

}  // namespace pkecho::tensorrt
