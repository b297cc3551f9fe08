// The negative log-likelihood of a target text from a source, as one sequence of prefill work.
#pragma once

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "server/inference/caller_watch.h"
#include "server/inference/decode_validation.h"
#include "server/inference/job.h"
#include "server/inference/prefix_reuse.h"

namespace dreamstate::server {

struct ScoreResult {
  double total_nats = 0;
  std::vector<float> token_nats;  // one for each target token
};

class ScoreJob final : public Job {
 public:
  using Done = std::function<void(absl::StatusOr<ScoreResult>)>;

  // `task.source` is resolved. `done` is called once, on the loop thread, and must not block.
  // `prefixes` may be null.
  ScoreJob(ScoreTask task, const CallTimes& times, Done done,
           state::PrefixTrie* prefixes = nullptr);

  std::string_view kind() const override { return "score"; }
  absl::Time arrival() const override { return times_.arrival; }
  absl::Time deadline() const override { return times_.deadline; }
  bool cancelled() const override { return times_.cancelled->load(std::memory_order_relaxed); }
  absl::Status version_end() const override { return task_.session->end->status(); }
  void Start(JobContext& context) override;
  void Offer(WorkList& work) override;
  void Fill(int tag, int tokens, rwkv::Segment* segment) override;
  void Read(int tag, int tokens) override;
  bool done() const override { return read_ == reading_.size(); }
  absl::Status failure() const override { return failure_; }
  void End(const absl::Status& status) override;

 private:
  const ScoreTask task_;
  const CallTimes times_;
  Done done_;
  PrefixReuse prefix_;  // of the context
  JobContext* job_ = nullptr;
  std::vector<int32_t> reading_;  // all but the last target token
  std::vector<int32_t> targets_;  // of each token read; -1 where nothing is scored
  std::vector<float> nats_;       // of each token read
  size_t read_ = 0;
  std::vector<float> first_nats_;  // of a first target that the source's own logits predict
  absl::Status failure_;
};

}  // namespace dreamstate::server
