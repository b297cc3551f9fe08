// Records, clocks and stores for tests of core/state.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/state/pool.h"
#include "core/state/record.h"
#include "core/state/store.h"

namespace dreamstate::testing {

// A clock that stands still until it is moved. Thread-safe.
class FakeClock final : public Clock {
 public:
  absl::Time Now() const override {
    MutexLock lock(mutex_);
    return now_;
  }
  void Advance(absl::Duration duration) {
    MutexLock lock(mutex_);
    now_ += duration;
  }

 private:
  mutable Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1'700'000'000);
};

inline constexpr state::Shape kSmallShape{.layers = 2, .width = 8, .heads = 2, .head_size = 4};

// A record whose every value follows from `seed`, as a server would give it to Put.
state::Record MakeRecord(uint64_t seed, const state::Shape& shape = kSmallShape);

// "" when both hold the same, to the bit; else what differs. Ids and times of making are left out.
std::string Difference(const state::Record& a, const state::Record& b);

// Ids of everything a query lists, page after page.
std::vector<std::string> ListAll(state::StateStore& store, const std::string& tenant,
                                 state::ListQuery query);

// The files under `directory` whose name ends so, sorted.
std::vector<std::string> FilesEndingIn(const std::string& directory, const std::string& ending);

// Exclusive-ors one byte of a file.
void FlipByte(const std::string& path, int64_t offset, char mask);

}  // namespace dreamstate::testing
