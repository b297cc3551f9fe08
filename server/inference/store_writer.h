// Stores the states that a job made without holding up the engine's loop: records are finished and
// written on the executor, the answers wait until the job looks. Belongs to one job.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/mutex.h"
#include "core/state/store.h"
#include "server/inference/job.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

class StoreWriter {
 public:
  struct Reply {
    int tag;
    absl::StatusOr<state::Description> description;
    absl::Duration duration;
  };

  // `waker` is woken at every answer.
  StoreWriter(const ServingContext& context, std::shared_ptr<Waker> waker);

  // Starts storing `record`. `tokens` is what its operation read: hashed into its lineage, and kept
  // there when `keep_tokens`.
  // `stored`, when given, is called on the executor once the record is durable, also when the job
  // has ended meanwhile; it must not throw. `known` is the id of a state that an earlier call
  // stored for this one: while it exists, it is the answer and nothing is stored.
  void Put(int tag, state::Record record, std::vector<int32_t> tokens, bool keep_tokens,
           const state::Annotations& annotations,
           std::function<void(const state::Description&)> stored = nullptr,
           const std::string& known = "");
  // Answers since the last call.
  std::vector<Reply> Take();
  // Puts whose answers were not taken yet.
  int outstanding() const { return outstanding_; }

 private:
  // Lives as long as a write does, which may be longer than the job.
  struct Replies {
    Mutex mutex;
    std::vector<Reply> list ABSL_GUARDED_BY(mutex);
    std::shared_ptr<Waker> waker;

    void Add(Reply reply);
  };

  ServingContext context_;
  std::shared_ptr<Replies> replies_;
  int outstanding_ = 0;
};

}  // namespace dreamstate::server
