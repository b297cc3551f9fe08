// Ends calls from outside: one Cancellation is given to any number of calls, and Cancel() ends
// those that run and refuses those that would begin. It is how a program answers Ctrl-C.
//
//   auto cancellation = std::make_shared<Cancellation>();
//   ... client->Decode(request, handlers, {.cancellation = cancellation});   // in one thread
//   cancellation->Cancel();                                                  // in another: Decode
//   answers CANCELLED
//
// Thread-safe. Cancel() takes a lock: not for signal handlers.
#pragma once

#include <condition_variable>
#include <mutex>
#include <set>

#include "absl/time/time.h"

namespace grpc {
class ClientContext;
}

namespace dreamstate::client {

class Cancellation {
 public:
  Cancellation() = default;
  Cancellation(const Cancellation&) = delete;
  Cancellation& operator=(const Cancellation&) = delete;

  // For good; later calls change nothing.
  void Cancel();
  bool cancelled() const;
  // Waits for `duration` or until cancelled; true when cancelled.
  bool WaitFor(absl::Duration duration);

  // While it lives, Cancel() also ends the call of `context` (at once when it was cancelled
  // before).
  class Attachment {
   public:
    // `cancellation` may be null: then it does nothing. Both must outlive this.
    Attachment(Cancellation* cancellation, grpc::ClientContext* context);
    ~Attachment();
    Attachment(const Attachment&) = delete;
    Attachment& operator=(const Attachment&) = delete;

   private:
    Cancellation* const cancellation_;
    grpc::ClientContext* const context_;
  };

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool cancelled_ = false;                   // guarded by mutex_
  std::set<grpc::ClientContext*> contexts_;  // guarded by mutex_
};

}  // namespace dreamstate::client
