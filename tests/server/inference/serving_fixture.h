// What tests of jobs and handlers stand on: a small model with random weights and the byte
// tokenizer, its scheduler, and doubles for the store, the clock and the reader that a test can
// script.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "core/rwkv/weights.h"
#include "core/state/store.h"
#include "core/text/tokenizer.h"
#include "server/inference/decode_job.h"
#include "server/inference/model_session.h"
#include "server/inference/score_job.h"
#include "server/inference/serving_context.h"
#include "tests/support/random_backbone.h"

namespace dreamstate::server {

inline constexpr int32_t kEnd = 0;
inline constexpr int32_t kSeparator = 1;

inline std::shared_ptr<const rwkv::Weights> TestWeights(uint32_t seed = 7) {
  static std::map<uint32_t, std::shared_ptr<const rwkv::Weights>> made;
  std::shared_ptr<const rwkv::Weights>& weights = made[seed];
  if (weights == nullptr) {
    rwkv::Config config = testing::SmallConfig();
    config.vocab = 256;
    weights =
        rwkv::Weights::Load(testing::RandomBackbone(config, seed), rwkv::WeightFormat::kFloat32)
            .value();
  }
  return weights;
}

// Time that passes when the test says so.
class ManualClock final : public Clock {
 public:
  absl::Time Now() const override {
    MutexLock lock(mutex_);
    return now_;
  }
  void Advance(absl::Duration duration) {
    MutexLock lock(mutex_);
    now_ += duration;
  }

 private:
  mutable Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1'700'000'000);
};

// A store in memory that can be told to fail or to wait.
class MemoryStore final : public state::StateStore {
 public:
  // Answered by the following Puts; OK = they work again.
  void FailPuts(absl::Status status) {
    MutexLock lock(mutex_);
    put_status_ = std::move(status);
  }
  // As FailPuts, once `number` more have worked.
  void FailPutsAfter(int number, absl::Status status) {
    MutexLock lock(mutex_);
    later_put_status_ = std::move(status);
    good_puts_ = number;
  }
  // Put, Get and Describe throw as if memory had run out.
  void RunOutOfMemory(bool out) {
    MutexLock lock(mutex_);
    out_of_memory_ = out;
  }
  // Holds Puts until ReleasePuts.
  void HoldPuts() {
    MutexLock lock(mutex_);
    held_ = true;
  }
  void ReleasePuts() {
    MutexLock lock(mutex_);
    held_ = false;
    changed_.NotifyAll();
  }
  void WaitForHeldPuts(int number) {
    MutexLock lock(mutex_);
    while (waiting_ < number) changed_.Wait(mutex_);
  }
  int puts() {
    MutexLock lock(mutex_);
    return puts_;
  }

  absl::StatusOr<state::Description> Put(const std::string& tenant, state::Record record,
                                         const state::Annotations& annotations) override {
    MutexLock lock(mutex_);
    ++waiting_;
    changed_.NotifyAll();
    while (held_) changed_.Wait(mutex_);
    --waiting_;
    if (out_of_memory_) throw std::bad_alloc();
    if (!later_put_status_.ok() && good_puts_-- == 0) put_status_ = later_put_status_;
    if (!put_status_.ok()) return put_status_;
    ++puts_;
    record.id = "s" + std::to_string(puts_);
    record.created = absl::Now();
    auto stored = std::make_shared<Stored>();
    stored->record = std::make_shared<const state::Record>(record);
    stored->description.record = record;
    stored->description.record.state.shift.clear();
    stored->description.record.state.wkv.clear();
    stored->description.record.last_hidden.clear();
    stored->description.record.lineage.kept_tokens.clear();
    stored->description.has_last_hidden = !record.last_hidden.empty();
    stored->description.labels = annotations.labels;
    stored->description.etag = "1";
    records_[{tenant, record.id}] = stored;
    return stored->description;
  }
  absl::StatusOr<std::shared_ptr<const state::Record>> Get(const std::string& tenant,
                                                           const std::string& id) override {
    MutexLock lock(mutex_);
    if (out_of_memory_) throw std::bad_alloc();
    const auto found = records_.find({tenant, id});
    if (found == records_.end()) return NotFound(id);
    return found->second->record;
  }
  absl::StatusOr<state::Description> Describe(const std::string& tenant,
                                              const std::string& id) override {
    MutexLock lock(mutex_);
    if (out_of_memory_) throw std::bad_alloc();
    const auto found = records_.find({tenant, id});
    if (found == records_.end()) return NotFound(id);
    return found->second->description;
  }
  absl::StatusOr<state::ListPage> List(const std::string&, const state::ListQuery&) override {
    return absl::UnimplementedError("not needed by these tests");
  }
  absl::StatusOr<state::Description> Update(const std::string&, const std::string&,
                                            const std::string&,
                                            const std::optional<std::vector<std::string>>&,
                                            const std::optional<absl::Duration>&) override {
    return absl::UnimplementedError("not needed by these tests");
  }
  absl::Status Delete(const std::string& tenant, const std::string& id,
                      const std::string&) override {
    MutexLock lock(mutex_);
    if (records_.erase({tenant, id}) == 0) return NotFound(id);
    return absl::OkStatus();
  }
  absl::StatusOr<int> SweepExpired(int) override { return 0; }
  state::StoreStats Stats() override { return {}; }

 private:
  struct Stored {
    std::shared_ptr<const state::Record> record;
    state::Description description;
  };
  static absl::Status NotFound(const std::string& id) {
    return ResourceError(absl::StatusCode::kNotFound, "state", "states/" + id, "there is none");
  }

  Mutex mutex_;
  ConditionVariable changed_;
  absl::Status put_status_ ABSL_GUARDED_BY(mutex_);
  absl::Status later_put_status_ ABSL_GUARDED_BY(mutex_);
  int good_puts_ ABSL_GUARDED_BY(mutex_) = 0;
  bool out_of_memory_ ABSL_GUARDED_BY(mutex_) = false;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  int waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  int puts_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::pair<std::string, std::string>, std::shared_ptr<Stored>> records_
      ABSL_GUARDED_BY(mutex_);
};

// Reads what a decode sends; can stop reading, and can wait for its end.
class CollectingSink final : public DecodeSink {
 public:
  // The reader takes `messages` more, then its queue counts as full.
  explicit CollectingSink(uint64_t messages = ~uint64_t{0}) : may_take_(messages) {}

  ReaderProgress reader() override {
    MutexLock lock(mutex_);
    return {.has_room = messages_.size() < may_take_,
            .taken = std::min<uint64_t>(messages_.size(), may_take_)};
  }
  void Send(v1::DecodeResponse message) override {
    MutexLock lock(mutex_);
    messages_.push_back(std::move(message));
    changed_.NotifyAll();
  }
  void Finish(const absl::Status& status, Unread /*unread*/) override {
    MutexLock lock(mutex_);
    ++finishes_;
    status_ = status;
    changed_.NotifyAll();
  }

  absl::Status Wait() {
    MutexLock lock(mutex_);
    while (finishes_ == 0) changed_.Wait(mutex_);
    return status_;
  }
  // Waits until so many messages came or the stream ended.
  void WaitForMessages(size_t number) {
    MutexLock lock(mutex_);
    while (messages_.size() < number && finishes_ == 0) changed_.Wait(mutex_);
  }
  void Read(uint64_t messages) {
    MutexLock lock(mutex_);
    may_take_ = messages;
  }
  std::vector<v1::DecodeResponse> messages() {
    MutexLock lock(mutex_);
    return messages_;
  }
  int finishes() {
    MutexLock lock(mutex_);
    return finishes_;
  }

 private:
  Mutex mutex_;
  ConditionVariable changed_;
  uint64_t may_take_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::DecodeResponse> messages_ ABSL_GUARDED_BY(mutex_);
  int finishes_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

// One branch's answer, put together.
struct BranchText {
  std::string text, raw;
  std::vector<int32_t> tokens;
  std::vector<float> log_probs;
  int finishes = 0;
  v1::DecodeFinish finish;
};

inline std::map<int, BranchText> Branches(const std::vector<v1::DecodeResponse>& messages) {
  std::map<int, BranchText> branches;
  for (const v1::DecodeResponse& message : messages) {
    if (message.has_piece()) {
      BranchText& branch = branches[message.piece().branch()];
      const v1::TextPiece& piece = message.piece().piece();
      branch.text += piece.text();
      branch.raw += piece.raw();
      branch.tokens.insert(branch.tokens.end(), piece.token_ids().begin(), piece.token_ids().end());
      for (const v1::TokenLogProbs& entry : piece.log_probs()) {
        branch.log_probs.push_back(entry.log_prob());
      }
    } else if (message.has_finish()) {
      BranchText& branch = branches[message.finish().branch()];
      ++branch.finishes;
      branch.finish = message.finish();
    }
  }
  return branches;
}

// A model that serves, with everything that handlers need.
struct Serving final : ModelDirectory {
  explicit Serving(SchedulerOptions options = {}, const Clock& clock = Clock::Real(),
                   SchedulerObserver* observer = nullptr, uint32_t weights_seed = 7)
      : executor(2, 1 << 16) {
    auto made = std::make_shared<ModelSession>();
    made->model = "tiny";
    made->version = 3;
    made->weights = TestWeights(weights_seed);
    made->tokenizer = text::MakeByteTokenizer();
    made->end_token = kEnd;
    made->separator_token = kSeparator;
    made->scheduler = Scheduler::Create(made->weights, options, observer, clock).value();
    session = std::move(made);
    context.models = this;
    context.store = &store;
    context.executor = &executor;
    context.clock = &clock;
  }
  ~Serving() override { session->scheduler->Stop(); }

  absl::StatusOr<std::shared_ptr<const ModelSession>> Find(std::string_view name) const override {
    if (name.empty() || name == "models/tiny") return session;
    if (name.substr(0, 7) != "models/") return FieldError("model", "expected models/{model}");
    return ResourceError(absl::StatusCode::kNotFound, "model", name, "there is none");
  }

  DecodeTask Task(std::string_view prompt, int64_t max_tokens = 16) const {
    DecodeTask task;
    task.session = session;
    session->tokenizer->Encode(prompt, &task.prompt);
    task.max_tokens = max_tokens;
    task.sampling.seed = 11;
    // The random model's own ends would come by chance.
    task.sampling.logit_bias = {{kEnd, -100.0f}};
    return task;
  }
  CallTimes Times() const { return {.arrival = context.clock->Now()}; }

  std::shared_ptr<DecodeJob> Job(DecodeTask task, DecodeSink* sink, CallTimes times) const {
    return std::make_shared<DecodeJob>(context, std::move(task), times, sink);
  }
  absl::Status Submit(DecodeTask task, DecodeSink* sink) const {
    return session->scheduler->Submit(Job(std::move(task), sink, Times()));
  }
  // Runs a decode to its end.
  std::map<int, BranchText> Decode(DecodeTask task) const {
    CollectingSink sink;
    absl::Status status = Submit(std::move(task), &sink);
    if (status.ok()) status = sink.Wait();
    if (!status.ok()) throw std::runtime_error(status.ToString());
    return Branches(sink.messages());
  }
  Source Stored(const std::string& id) {
    return {.record = store.Get("default", id).value(), .id = id};
  }

  MemoryStore store;
  Executor executor;
  ServingContext context;
  std::shared_ptr<const ModelSession> session;
};

}  // namespace dreamstate::server
