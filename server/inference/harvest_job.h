// One document of a harvest on the engine: reads it as prefill work, cut at the positions where the
// state is kept.
#pragma once

#include <memory>

#include "dreamstate/v1/state_service.pb.h"
#include "server/inference/caller_watch.h"
#include "server/inference/harvest_memory.h"
#include "server/inference/harvest_validation.h"
#include "server/inference/job.h"
#include "server/inference/prefix_reuse.h"
#include "server/inference/serving_context.h"
#include "server/inference/store_writer.h"

namespace dreamstate::server {

// Where the results of a stream's documents go. Called on the loop thread; must not block.
class HarvestSink {
 public:
  virtual ~HarvestSink() = default;
  // False while the reader is too slow: documents pause. Looked at in every turn of the loop.
  virtual bool HasRoom() = 0;
  // When HasRoom wants to be asked again although nothing happened.
  virtual absl::Time alarm() = 0;
  virtual void TokensRead(int64_t tokens) = 0;
  virtual void StateMade(v1::HarvestedState state) = 0;
  // The last call of a document, once.
  virtual void DocumentDone(const DocumentTask& task, const absl::Status& status) = 0;
};

class HarvestJob final : public Job {
 public:
  // `plan.source` is resolved. `lease` may be null. `sink` lives until DocumentDone.
  HarvestJob(const ServingContext& context, std::shared_ptr<const HarvestPlan> plan,
             DocumentTask task, const CallTimes& times, std::shared_ptr<HarvestMemory::Lease> lease,
             HarvestSink* sink);

  std::string_view kind() const override { return "harvest"; }
  JobClass job_class() const override { return JobClass::kBulk; }
  absl::Time arrival() const override { return times_.arrival; }
  absl::Time deadline() const override { return times_.deadline; }
  bool cancelled() const override { return times_.cancelled->load(std::memory_order_relaxed); }
  absl::Status version_end() const override { return plan_->session->end->status(); }
  void Start(JobContext& context) override;
  void Poll() override;
  void Offer(WorkList& work) override;
  void Fill(int tag, int tokens, rwkv::Segment* segment) override;
  void Read(int tag, int tokens) override;
  bool done() const override { return AllRead() && writer_.outstanding() == 0; }
  absl::Time alarm() const override { return sink_->alarm(); }
  // States that are being stored are told first.
  absl::Status failure() const override {
    return writer_.outstanding() == 0 ? failure_ : absl::OkStatus();
  }
  void End(const absl::Status& status) override;

 private:
  bool AllRead() const { return mark_ == task_.marks.size(); }
  void KeepState();
  state::Record MakeRecord() const;

  const std::shared_ptr<const HarvestPlan> plan_;
  const DocumentTask task_;
  const CallTimes times_;
  std::shared_ptr<HarvestMemory::Lease> lease_;
  HarvestSink* const sink_;
  StoreWriter writer_;
  PrefixReuse prefix_;
  JobContext* job_ = nullptr;
  int slot_ = -1;
  int64_t read_ = 0;
  size_t mark_ = 0;  // the next of task_.marks
  bool reader_has_room_ = true;
  absl::Status failure_;
};

}  // namespace dreamstate::server
