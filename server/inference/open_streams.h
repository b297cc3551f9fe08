// The streams on which clients send message after message. Visits each now and then, so that one
// that has gone silent holds neither a place nor a drain: what silence is, and how it ends, is the
// stream's business. Thread-safe. Outlives the streams.
//
// A visit has two halves, so that no lock is held while a stream ends and is deleted: BeginVisit,
// from then on the stream lives until its EndVisit.
#pragma once

#include <set>
#include <thread>

#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace dreamstate::server {

class OpenStream {
 public:
  virtual ~OpenStream() = default;
  // False when the stream has finished: then it is not visited. Must not call OpenStreams.
  virtual bool BeginVisit() = 0;
  // `draining`: the server wants to end; a stream of which nothing runs, or when nothing does any
  // more, ends UNAVAILABLE.
  virtual void EndVisit(bool draining) = 0;
};

class OpenStreams {
 public:
  // Visits all every `interval`, on a thread of its own; zero: only when told to.
  explicit OpenStreams(absl::Duration interval = absl::ZeroDuration());
  ~OpenStreams();
  OpenStreams(const OpenStreams&) = delete;
  OpenStreams& operator=(const OpenStreams&) = delete;

  void Add(OpenStream* stream);
  // After the stream's last use; waits for nothing.
  void Remove(OpenStream* stream);

  void VisitAll();
  // Tells all streams, and those that come, that the server is draining. Does not wait for them.
  void BeginDrain();

 private:
  void Run();

  const absl::Duration interval_;
  Mutex mutex_;
  ConditionVariable changed_;
  std::set<OpenStream*> streams_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace dreamstate::server
