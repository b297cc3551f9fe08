// Keeps the records used last in memory, above a store: at most `max_bytes` of tensors, least
// recently used out first. Writes go through. Thread-safe; the lock is never held across I/O.
#pragma once

#include <cstdint>
#include <memory>

#include "core/state/store.h"

namespace dreamstate::state {

struct PoolStats {
  int64_t hits = 0;
  int64_t misses = 0;
  int64_t evicted = 0;
  int64_t records = 0;
  int64_t bytes = 0;
};

class PooledStateStore : public StateStore {
 public:
  PooledStateStore(std::unique_ptr<StateStore> store, int64_t max_bytes);
  ~PooledStateStore() override;
  PoolStats pool_stats() const;

  absl::StatusOr<Description> Put(const std::string& tenant, Record record,
                                  const Annotations& annotations) override;
  absl::StatusOr<std::shared_ptr<const Record>> Get(const std::string& tenant,
                                                    const std::string& id) override;
  absl::StatusOr<Description> Describe(const std::string& tenant, const std::string& id) override;
  absl::StatusOr<ListPage> List(const std::string& tenant, const ListQuery& query) override;
  absl::StatusOr<Description> Update(const std::string& tenant, const std::string& id,
                                     const std::string& etag,
                                     const std::optional<std::vector<std::string>>& labels,
                                     const std::optional<absl::Duration>& time_to_live) override;
  absl::Status Delete(const std::string& tenant, const std::string& id,
                      const std::string& etag) override;
  absl::StatusOr<int> SweepExpired(int limit) override;
  StoreStats Stats() override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dreamstate::state
