// Tells a slow reader from one that has stopped reading.
#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace dreamstate::server {

// What a job sees of the reader at the other end of its stream.
struct ReaderProgress {
  bool has_room = true;  // false: its queue is full, do not compute for it
  uint64_t taken = 0;    // messages it took so far
};

// Not thread-safe.
class StallWatch {
 public:
  explicit StallWatch(absl::Duration limit) : limit_(limit) {}

  // False when the queue has been full and the reader has taken nothing for the limit.
  bool Check(const ReaderProgress& reader, absl::Time now) {
    if (reader.has_room) {
      since_ = absl::InfiniteFuture();
    } else if (since_ == absl::InfiniteFuture() || reader.taken != taken_) {
      since_ = now;
      taken_ = reader.taken;
    }
    return now < alarm();
  }

  // When Check will answer false if nothing changes.
  absl::Time alarm() const { return since_ + limit_; }

 private:
  absl::Duration limit_;
  absl::Time since_ = absl::InfiniteFuture();  // the queue is full and nothing has been taken
  uint64_t taken_ = 0;
};

}  // namespace dreamstate::server
