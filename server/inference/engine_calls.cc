#include "server/inference/engine_calls.h"

#include <future>
#include <utility>

#include "core/base/status.h"
#include "server/inference/score_job.h"

namespace dreamstate::server {
namespace {

using Activations = absl::StatusOr<std::vector<float>>;

class ActivationsJob final : public Job {
 public:
  ActivationsJob(std::shared_ptr<const ModelSession> session, std::span<const int32_t> text,
                 std::span<const int> layers, const CallTimes& times,
                 std::promise<Activations>* answer)
      : session_(std::move(session)),
        layers_(layers.begin(), layers.end()),
        times_(times),
        answer_(answer) {
    reading_.push_back(session_->separator_token);
    reading_.insert(reading_.end(), text.begin(), text.end());
    taps_.assign(layers.size(), std::vector<float>(reading_.size() * width()));
    wanted_.resize(layers.size());
  }

  std::string_view kind() const override { return "activations"; }
  absl::Time arrival() const override { return times_.arrival; }
  absl::Time deadline() const override { return times_.deadline; }
  bool cancelled() const override { return times_.cancelled->load(std::memory_order_relaxed); }
  absl::Status version_end() const override { return session_->end->status(); }
  void Start(JobContext& context) override {
    slot_ = context.slots()[0];
    context.engine().slots().Clear(slot_);
  }
  void Offer(WorkList& work) override {
    if (!done()) {
      work.Add(0, WorkKind::kPrefill, static_cast<int64_t>(reading_.size() - read_));
    }
  }
  void Fill(int /*tag*/, int tokens, rwkv::Segment* segment) override {
    segment->slot = slot_;
    segment->tokens = std::span(reading_).subspan(read_, static_cast<size_t>(tokens));
    for (size_t i = 0; i < layers_.size(); ++i) {
      wanted_[i] = {.layer = layers_[i], .out = taps_[i].data() + read_ * width()};
    }
    segment->taps = wanted_;
  }
  void Read(int /*tag*/, int tokens) override { read_ += static_cast<size_t>(tokens); }
  bool done() const override { return read_ == reading_.size(); }
  void End(const absl::Status& status) override {
    if (!status.ok()) {
      answer_->set_value(status);
      return;
    }
    std::vector<float> all;
    all.reserve((reading_.size() - 1) * layers_.size() * width());
    for (size_t token = 1; token < reading_.size(); ++token) {
      for (const std::vector<float>& tap : taps_) {
        const auto begin = tap.begin() + static_cast<ptrdiff_t>(token * width());
        all.insert(all.end(), begin, begin + static_cast<ptrdiff_t>(width()));
      }
    }
    answer_->set_value(std::move(all));
  }

 private:
  size_t width() const { return static_cast<size_t>(session_->weights->config.width); }

  const std::shared_ptr<const ModelSession> session_;
  const std::vector<int> layers_;
  const CallTimes times_;
  std::promise<Activations>* const answer_;
  std::vector<int32_t> reading_;
  std::vector<std::vector<float>> taps_;  // [layers], each [reading][D]
  std::vector<rwkv::Tap> wanted_;
  size_t read_ = 0;
  int slot_ = -1;
};

}  // namespace

absl::StatusOr<std::vector<float>> ReadActivations(std::shared_ptr<const ModelSession> session,
                                                   std::span<const int32_t> text,
                                                   std::span<const int> layers,
                                                   const CallTimes& times) {
  std::promise<Activations> answer;
  const std::shared_ptr<Scheduler> scheduler = session->scheduler;
  DS_RETURN_IF_ERROR(scheduler->Submit(
      std::make_shared<ActivationsJob>(std::move(session), text, layers, times, &answer)));
  return answer.get_future().get();
}

absl::StatusOr<std::vector<double>> ScoreStates(
    std::shared_ptr<const ModelSession> session,
    std::span<const std::shared_ptr<const state::Record>> states, std::span<const int32_t> text,
    const CallTimes& times) {
  std::vector<std::future<absl::StatusOr<ScoreResult>>> answers;
  absl::Status status;
  for (const auto& state : states) {
    auto answer = std::make_shared<std::promise<absl::StatusOr<ScoreResult>>>();
    answers.push_back(answer->get_future());
    ScoreTask task = {.session = session,
                      .source_id = "",
                      .source = {.record = state, .id = "", .session = session},
                      .context = {},
                      .target = {text.begin(), text.end()}};
    status = session->scheduler->Submit(std::make_shared<ScoreJob>(
        std::move(task), times,
        [answer](absl::StatusOr<ScoreResult> result) { answer->set_value(std::move(result)); }));
    if (!status.ok()) {
      answers.pop_back();
      break;
    }
  }
  std::vector<double> nats;
  // Those that run are waited for in any case.
  for (auto& answer : answers) {
    const absl::StatusOr<ScoreResult> result = answer.get();
    if (!result.ok() && status.ok()) status = result.status();
    nats.push_back(result.ok() ? result->total_nats : 0);
  }
  if (!status.ok()) return status;
  return nats;
}

}  // namespace dreamstate::server
