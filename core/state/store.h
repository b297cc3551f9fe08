// Keeps state records. A record is immutable; its annotations (labels, time-to-live, etag) are a
// separate row.
// 1. Put returns OK only after the record survives a crash.   2. Get returns exactly what Put was
// given, or DATA_LOSS.
// 3. A tenant sees only its own names.  4. Delete frees space; children keep a stub of the parent;
// a child put later names a parent without a description. Thread-safe. Owns its files; one process
// at a time (a second Open answers FAILED_PRECONDITION and says who holds it).
//
// Errors: NOT_FOUND, ABORTED (an etag that moved), DATA_LOSS (the record is set aside and never
// served), RESOURCE_EXHAUSTED (the disk cap, or a full disk), UNAVAILABLE (the files cannot be read
// or written any more), FAILED_PRECONDITION (files of another program or a newer schema, or already
// open).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/state/record.h"

namespace dreamstate::state {

struct Annotations {
  std::vector<std::string> labels;                     // kept sorted and unique
  absl::Duration time_to_live = absl::ZeroDuration();  // zero = kept until deleted
};
// INVALID_ARGUMENT with the field's path; sorts labels and removes repeats. Limits: 64 labels of 1
// to 128 bytes of UTF-8 without control characters; time_to_live in [0, 10 years].
absl::Status NormaliseAnnotations(Annotations* annotations);

// A record without its tensors, with its annotations.
struct Description {
  Record record;  // state.shift, state.wkv, last_hidden and lineage.kept_tokens are empty
  bool has_last_hidden = false;
  int64_t bytes = 0;  // of the tensors
  std::vector<std::string> labels;
  std::optional<absl::Time> expires;
  std::string etag;
  bool deleted = false;  // a stub: the tensors are gone
};

struct ListQuery {
  std::string model;                // empty = any
  std::vector<std::string> labels;  // all of these
  std::string parent;               // id; empty = any
  std::string fingerprint;          // empty = any
  absl::Time created_before = absl::InfiniteFuture();
  // Children that are stubs, too; only for a query by parent (and created_before), otherwise
  // INVALID_ARGUMENT ("stubs").
  bool stubs = false;
  bool oldest_first = false;
  int page_size = 100;     // >= 1; pages of large descriptions end earlier
  std::string page_token;  // empty = first page; INVALID_ARGUMENT ("page_token") when it is not
                           // ours or of another query
};

struct ListPage {
  // Never expired ones, ones whose row is damaged, or, unless they are asked for, stubs.
  std::vector<Description> states;
  std::string next_page_token;  // empty on the last page
};

// Bytes of memory that a store's database holds; all of them are bounded.
struct StoreMemory {
  int64_t write_buffers = 0;  // what is not yet in files
  int64_t cache = 0;          // of what was read, at most RocksDbStoreOptions::cache_bytes
  int64_t tables = 0;         // indexes and filters of open files
};

struct StoreStats {
  int64_t states = 0;   // stubs excluded, expired ones included until they are swept
  int64_t bytes = 0;    // of their records as stored; what max_bytes bounds
  int64_t damaged = 0;  // set aside after a failed check, or found with a row that is none
  StoreMemory memory;
};

class StateStore {
 public:
  virtual ~StateStore() = default;

  // Stores `record` under a new id (26 characters, lower-case; ordered by time) and sets its id and
  // created.
  virtual absl::StatusOr<Description> Put(const std::string& tenant, Record record,
                                          const Annotations& annotations) = 0;
  // The whole record. NOT_FOUND also for stubs and expired ones.
  virtual absl::StatusOr<std::shared_ptr<const Record>> Get(const std::string& tenant,
                                                            const std::string& id) = 0;
  // Stubs included.
  virtual absl::StatusOr<Description> Describe(const std::string& tenant,
                                               const std::string& id) = 0;
  virtual absl::StatusOr<ListPage> List(const std::string& tenant, const ListQuery& query) = 0;
  // Replaces what is given. `etag` empty = whatever it is.
  virtual absl::StatusOr<Description> Update(const std::string& tenant, const std::string& id,
                                             const std::string& etag,
                                             const std::optional<std::vector<std::string>>& labels,
                                             const std::optional<absl::Duration>& time_to_live) = 0;
  // A state of which nothing can be read any more is removed too, unless an etag is given.
  virtual absl::Status Delete(const std::string& tenant, const std::string& id,
                              const std::string& etag) = 0;
  // Deletes what has expired, at most `limit`, soonest expiry first; returns how many went.
  // What cannot be read is left out.
  virtual absl::StatusOr<int> SweepExpired(int limit) = 0;
  virtual StoreStats Stats() = 0;
};

// The store on RocksDB with blob files.
struct RocksDbStoreOptions {
  std::string path;  // a directory; made when missing, its parent must exist
  // Cap on the stored records' bytes. Files take more until deleted records are compacted away:
  // about half as much again, and reclaim_bytes and a log of 128 MiB.
  int64_t max_bytes = int64_t{64} << 30;
  int64_t reclaim_bytes = int64_t{64} << 20;  // a compaction starts only after so much was deleted
  int64_t cache_bytes = int64_t{32} << 20;    // memory for rows that were read
  const Clock* clock = &Clock::Real();
};
absl::StatusOr<std::unique_ptr<StateStore>> OpenRocksDbStore(const RocksDbStoreOptions& options);

}  // namespace dreamstate::state
