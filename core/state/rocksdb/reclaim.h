// Gives the disk space of deleted records back. Deleting only marks: the bytes go when RocksDB
// compacts, which it hardly does for keys as small as these. A thread starts a compaction when
// enough was deleted since the last: first the marks and every blob file that nothing in it is
// needed of go; when much is still wasted, the records that share files with deleted ones are
// written anew, after all were read and damaged ones set aside (a damaged blob would stop the
// compaction and with it all writing). So files take at most about 1.5 times what is stored, plus
// the threshold and the log.
#pragma once

#include <cstdint>
#include <functional>
#include <thread>

#include "core/base/mutex.h"
#include "core/state/rocksdb/database.h"

namespace dreamstate::state {

class Reclaimer {
 public:
  // `live_bytes` tells what is stored now, `check_records` reads every record; both are called on
  // the thread. `database` outlives this object. A compaction starts after `threshold_bytes` were
  // deleted and a quarter of what is stored.
  Reclaimer(Database* database, int64_t threshold_bytes, std::function<int64_t()> live_bytes,
            std::function<void(const Database::Use&)> check_records);
  ~Reclaimer();

  // So many bytes of records were deleted. Thread-safe.
  void Deleted(int64_t bytes);

 private:
  void Run();
  void Reclaim(const Database::Use& use);

  Database* const database_;
  const int64_t threshold_bytes_;
  const std::function<int64_t()> live_bytes_;
  const std::function<void(const Database::Use&)> check_records_;
  Mutex mutex_;
  ConditionVariable wake_;
  int64_t deleted_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  Database::Use running_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;  // last: uses what is above
};

}  // namespace dreamstate::state
