#include "server/inference/self_test.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "core/base/mutex.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::server {
namespace {

class SelfTestJob final : public Job {
 public:
  explicit SelfTestJob(std::vector<int32_t> tokens)
      : tokens_(std::move(tokens)), nll_(tokens_.size() - 1) {}

  std::string_view kind() const override { return "self_test"; }
  absl::Time arrival() const override { return arrival_; }
  bool cancelled() const override { return false; }

  void Start(JobContext& context) override {
    slot_ = context.slots().front();
    context.engine().slots().Clear(slot_);
  }
  void Offer(WorkList& work) override {
    if (!done()) work.Add(0, WorkKind::kPrefill, static_cast<int64_t>(nll_.size() - read_));
  }
  void Fill(int /*tag*/, int tokens, rwkv::Segment* segment) override {
    const auto count = static_cast<size_t>(tokens);
    segment->slot = slot_;
    segment->tokens = std::span(tokens_).subspan(read_, count);
    segment->targets = std::span(tokens_).subspan(read_ + 1, count);
    segment->nll = nll_.data() + read_;
  }
  void Read(int /*tag*/, int tokens) override { read_ += static_cast<size_t>(tokens); }
  bool done() const override { return read_ == nll_.size(); }
  void End(const absl::Status& status) override {
    MutexLock lock(mutex_);
    ended_ = true;
    status_ = status;
    changed_.NotifyAll();
  }

  absl::StatusOr<double> Wait() {
    MutexLock lock(mutex_);
    while (!ended_) changed_.Wait(mutex_);
    if (!status_.ok()) return status_;
    return std::accumulate(nll_.begin(), nll_.end(), 0.0);
  }

 private:
  const std::vector<int32_t> tokens_;
  const absl::Time arrival_ = absl::Now();
  // Of the loop until End.
  std::vector<float> nll_;
  size_t read_ = 0;
  int slot_ = 0;

  Mutex mutex_;
  ConditionVariable changed_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<double> MeasureSelfTest(const repository::SelfTest& self_test, int vocab,
                                       Scheduler& scheduler) {
  if (self_test.tokens.size() < 2) {
    return absl::FailedPreconditionError("self_test.tokens: expected at least 2");
  }
  for (const int32_t token : self_test.tokens) {
    if (token < 0 || token >= vocab) {
      return absl::FailedPreconditionError(
          StrCat("self_test.tokens: expected ids in [0, ", vocab, "), found ", token));
    }
  }
  auto job = std::make_shared<SelfTestJob>(self_test.tokens);
  DS_RETURN_IF_ERROR(scheduler.Submit(job));
  return job->Wait();
}

absl::StatusOr<double> SelfTestTolerance(const repository::SelfTest& self_test,
                                         rwkv::WeightFormat format) {
  // Products in int8 are at least four times as far from exact as in bf16 (kernels/gemm/gemm.h),
  // and so may the loss be where the publisher did not measure it.
  constexpr double kInt8OverBf16 = 4;
  const auto found = self_test.tolerance.find(std::string(rwkv::WeightFormatName(format)));
  if (format == rwkv::WeightFormat::kInt8 && found == self_test.tolerance.end()) {
    const absl::StatusOr<double> bf16 = SelfTestTolerance(self_test, rwkv::WeightFormat::kBfloat16);
    if (bf16.ok()) return kInt8OverBf16 * *bf16;
  }
  if (found == self_test.tolerance.end() || !found->is_number()) {
    return absl::NotFoundError(
        StrCat("self_test.tolerance: none for weights held as ", rwkv::WeightFormatName(format)));
  }
  return found->get<double>();
}

absl::Status CheckSelfTest(const repository::SelfTest& self_test, double measured_nll,
                           double tolerance) {
  if (std::isfinite(measured_nll) && std::abs(measured_nll - self_test.expected_nll) <= tolerance) {
    return absl::OkStatus();
  }
  return absl::DataLossError(StrCat("self-test: expected ", self_test.expected_nll, " nats within ",
                                    tolerance, ", measured ", measured_nll));
}

}  // namespace dreamstate::server
