// One Decode call on the engine: reads the prompt once, then samples its branches side by side,
// each in a slot of its own.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "dreamstate/v1/decode_service.pb.h"
#include "server/inference/caller_watch.h"
#include "server/inference/decode_validation.h"
#include "server/inference/job.h"
#include "server/inference/prefix_reuse.h"
#include "server/inference/serving_context.h"
#include "server/inference/stall_watch.h"
#include "server/inference/store_writer.h"
#include "server/inference/text_assembler.h"

namespace dreamstate::server {

// What becomes of messages that the reader has not taken when a decode ends. It gets them (they
// name states that were saved), unless nobody would take them: the caller is gone or late, or its
// reader has stalled.
enum class Unread { kSend, kDrop };

// Where a decode's messages go. Called by the job on the loop thread; must not block.
class DecodeSink {
 public:
  virtual ~DecodeSink() = default;
  virtual ReaderProgress reader() = 0;
  virtual void Send(v1::DecodeResponse message) = 0;
  // The last call, once: OK after every branch's finish message, otherwise why there is no more.
  virtual void Finish(const absl::Status& status, Unread unread) = 0;
};

class DecodeJob final : public Job {
 public:
  // `task.source` is resolved. `sink` lives until its Finish.
  DecodeJob(const ServingContext& context, DecodeTask task, const CallTimes& times,
            DecodeSink* sink);

  std::string_view kind() const override { return "decode"; }
  int slots_wanted() const override { return task_.branches; }
  absl::Time arrival() const override { return times_.arrival; }
  absl::Time deadline() const override { return times_.deadline; }
  bool cancelled() const override { return times_.cancelled->load(std::memory_order_relaxed); }
  absl::Status version_end() const override { return task_.session->end->status(); }
  void Start(JobContext& context) override;
  void Poll() override;
  void Offer(WorkList& work) override;
  void Fill(int tag, int tokens, rwkv::Segment* segment) override;
  void Read(int tag, int tokens) override;
  bool done() const override { return branches_done_ == task_.branches && failure_.ok(); }
  absl::Time alarm() const override { return stall_.alarm(); }
  absl::Status failure() const override { return failure_; }
  void End(const absl::Status& status) override;

 private:
  struct Branch {
    enum class Phase {
      kDecoding,    // `next` is to be read, then another token sampled
      kCatchingUp,  // `rereading` is to be read, then the state is what was returned
      kStoring,
      kDone
    };
    Branch(const DecodeTask& task, int index, int slot_number);

    int slot;
    Phase phase = Phase::kDecoding;
    rwkv::Sampler sampler;
    TextAssembler output;
    int64_t sampled = 0;
    int32_t next = 0;
    std::vector<int32_t> generated;  // only when its state may be kept or saved
    std::vector<int32_t> rereading;
    size_t reread = 0;
    absl::Time first_token, last_token;
    v1::DecodeFinish finish;
  };

  void BeginBranches();
  void Sample(int index);
  void SendPiece(int index);
  void Conclude(int index, v1::DecodeFinish::Reason reason, int stop_index);
  // Sampled tokens that the branch's slot has read: all but the last, which END does not count
  // among them.
  size_t Consumed(const Branch& branch) const;
  // Makes the branch's slot the state that has read exactly what was returned, then saves it.
  void SettleState(int index);
  void SaveState(int index);
  void SendFinish(int index, const state::Description* saved);
  void BranchDone(Branch& branch);
  nlohmann::json LineageArguments(int index) const;

  const ServingContext context_;
  const DecodeTask task_;
  const CallTimes times_;
  DecodeSink* const sink_;
  StoreWriter writer_;
  PrefixReuse prefix_;
  const bool keeps_ends_;  // of branches, for the next turn
  StallWatch stall_;
  JobContext* job_ = nullptr;
  std::vector<int32_t> reading_;  // the prompt, or the separator where it must be fed
  size_t read_ = 0;
  int64_t prefix_tokens_ = 0;  // of reading_ that were known
  bool fed_separator_ = false;
  std::vector<Branch> branches_;  // empty until reading is done
  int branches_done_ = 0;
  absl::Time started_;
  bool reader_has_room_ = true;
  bool reader_stalled_ = false;
  absl::Status save_error_;  // the first
  absl::Status failure_;
};

}  // namespace dreamstate::server
