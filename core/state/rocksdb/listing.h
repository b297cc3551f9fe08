// Ids that several indexes have in common, in order: every index lists ids in the order of making,
// so the common ones are found by seeking each index to where the others are, at a cost bounded by
// the shortest.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "rocksdb/db.h"

namespace dreamstate::state {

// The ids under one prefix of keys. Not thread-safe.
class IdStream {
 public:
  // `snapshot` outlives the stream.
  IdStream(rocksdb::DB* db, rocksdb::ColumnFamilyHandle* family, const rocksdb::Snapshot* snapshot,
           std::string prefix, bool oldest_first);
  IdStream(const IdStream&) = delete;
  IdStream& operator=(const IdStream&) = delete;

  void SeekToStart();
  // To the first id that is not before `id` in the order of the listing.
  void SeekTo(std::string_view id);
  void Next();
  bool valid() const { return iterator_->Valid(); }
  std::string_view id() const;
  rocksdb::Status status() const { return iterator_->status(); }

 private:
  const std::string prefix_;
  const std::string end_;
  const rocksdb::Slice lower_;
  const rocksdb::Slice upper_;
  const bool oldest_first_;
  std::unique_ptr<rocksdb::Iterator> iterator_;
};

// Not thread-safe.
class CommonIds {
 public:
  // `streams` is not empty. Starts after `start`, or at the beginning when that is empty. Moves at
  // most `max_steps` times in all.
  CommonIds(std::vector<std::unique_ptr<IdStream>> streams, bool oldest_first, std::string start,
            int max_steps);
  // Moves to the next common id. False at the end, when the steps are used up, or on an error.
  bool Next();
  // After Next() was true.
  const std::string& id() const { return target_; }
  // Everything up to and with this id has been looked at.
  const std::string& examined() const { return examined_; }
  bool out_of_steps() const { return steps_ <= 0; }
  rocksdb::Status status() const;

 private:
  bool Before(std::string_view a, std::string_view b) const {
    return oldest_first_ ? a < b : b < a;
  }
  const std::vector<std::unique_ptr<IdStream>> streams_;
  const bool oldest_first_;
  std::string examined_;
  std::string target_;
  int steps_;
};

}  // namespace dreamstate::state
