// What uploads and downloads have in common: the stream keeps itself alive until gRPC and all
// visitors are done with it, and knows how long nothing has moved.
#pragma once

#include <memory>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "server/inference/open_streams.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

// Thread-safe.
class Transfer : public OpenStream, public std::enable_shared_from_this<Transfer> {
 public:
  explicit Transfer(const ServingContext& context);

  bool BeginVisit() final;
  void EndVisit(bool draining) final;

 protected:
  // Called once, first, on an object that a shared_ptr holds; it may be visited from then on.
  void Open();
  // gRPC is done with it: it may be deleted when this returns.
  void Close();
  // Something was taken or sent.
  void Moved();
  // Nothing has moved for `silent`. Called on any thread at any time, also after the stream's end.
  virtual void Visited(absl::Duration silent, bool draining) = 0;

  const ServingContext context_;

 private:
  std::shared_ptr<Transfer> self_;
  Mutex visit_mutex_;
  int visits_ ABSL_GUARDED_BY(visit_mutex_) = 0;
  std::shared_ptr<Transfer> visited_ ABSL_GUARDED_BY(visit_mutex_);  // while visits_ > 0
  absl::Time moved_ ABSL_GUARDED_BY(visit_mutex_);
};

}  // namespace dreamstate::server
