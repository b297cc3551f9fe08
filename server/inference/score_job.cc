#include "server/inference/score_job.h"

#include <cmath>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/scheduler_observer.h"

namespace dreamstate::server {

ScoreJob::ScoreJob(ScoreTask task, const CallTimes& times, Done done, state::PrefixTrie* prefixes)
    : task_(std::move(task)),
      times_(times),
      done_(std::move(done)),
      prefix_(prefixes, *task_.session, task_.source) {}

void ScoreJob::Start(JobContext& context) {
  job_ = &context;
  // Not before: many calls may wait, and these are larger than what they were sent.
  reading_ = task_.context;
  const bool first_is_known = reading_.empty() && task_.source.has_last_hidden();
  if (reading_.empty() && !first_is_known) reading_.push_back(task_.session->separator_token);
  targets_.assign(reading_.size(), -1);
  if (!first_is_known) targets_.back() = task_.target.front();
  for (size_t i = 0; i + 1 < task_.target.size(); ++i) {
    reading_.push_back(task_.target[i]);
    targets_.push_back(task_.target[i + 1]);
  }
  nats_.assign(reading_.size(), 0.0f);
  context.observer().OnPrefixReused(task_.source.token_count());
  const int slot = context.slots()[0];
  read_ = static_cast<size_t>(prefix_.Begin(context, slot, task_.context, PrefixKeep::kPrompt));
  // What predicts the first target without being read: the source, or a context that is known.
  const float* hidden = nullptr;
  if (first_is_known) {
    hidden = task_.source.record->last_hidden.data();
  } else if (read_ > 0 && read_ == task_.context.size()) {
    hidden = context.last_hidden(slot).data();
  }
  if (hidden == nullptr) return;
  const std::span<float> logits = context.logits(slot);
  context.engine().Logits(hidden, 1, logits.data());
  const float nats = context.engine().Loss(logits.data(), task_.target.front());
  if (first_is_known) {
    first_nats_.push_back(nats);
  } else {
    nats_[read_ - 1] = nats;
  }
}

void ScoreJob::Offer(WorkList& work) {
  if (done()) return;
  const int64_t read = static_cast<int64_t>(read_);
  work.Add(0, WorkKind::kPrefill,
           prefix_.ReadTo(read, static_cast<int64_t>(reading_.size())) - read);
}

void ScoreJob::Fill(int /*tag*/, int tokens, rwkv::Segment* segment) {
  const size_t count = static_cast<size_t>(tokens);
  segment->slot = job_->slots()[0];
  segment->tokens = std::span(reading_).subspan(read_, count);
  segment->targets = std::span(targets_).subspan(read_, count);
  segment->nll = nats_.data() + read_;
  if (prefix_.Keeps(static_cast<int64_t>(read_ + count))) {
    segment->last_hidden = job_->last_hidden(segment->slot).data();
  }
}

void ScoreJob::Read(int /*tag*/, int tokens) {
  read_ += static_cast<size_t>(tokens);
  if (read_ <= task_.context.size()) {
    prefix_.Read(*job_, job_->slots()[0], std::span(task_.context).first(read_));
  }
}

void ScoreJob::End(const absl::Status& status) {
  if (!status.ok()) {
    done_(status);
    return;
  }
  ScoreResult result;
  result.token_nats = std::move(first_nats_);
  for (size_t i = 0; i < targets_.size(); ++i) {
    if (targets_[i] >= 0) result.token_nats.push_back(nats_[i]);
  }
  for (const float nats : result.token_nats) result.total_nats += double{nats};
  if (std::isfinite(result.total_nats)) {
    done_(std::move(result));
  } else {
    done_(absl::FailedPreconditionError(StrCat("the state overflowed: losses from ",
                                               task_.source.Description(), " are not finite")));
  }
}

}  // namespace dreamstate::server
