#include "server/inference/harvest_job.h"

#include <algorithm>
#include <utility>

#include "server/inference/resource_names.h"
#include "server/inference/scheduler_observer.h"
#include "server/inference/state_messages.h"

namespace dreamstate::server {
namespace {

// States of one document that may be on their way to the store: each holds a copy of the state.
constexpr int kMaxWrites = 2;

}  // namespace

HarvestJob::HarvestJob(const ServingContext& context, std::shared_ptr<const HarvestPlan> plan,
                       DocumentTask task, const CallTimes& times,
                       std::shared_ptr<HarvestMemory::Lease> lease, HarvestSink* sink)
    : plan_(std::move(plan)),
      task_(std::move(task)),
      times_(times),
      lease_(std::move(lease)),
      sink_(sink),
      writer_(context, plan_->session->scheduler->waker()),
      prefix_(context.prefixes, *plan_->session, plan_->source) {}

void HarvestJob::Start(JobContext& context) {
  job_ = &context;
  context.observer().OnPrefixReused(plan_->source.token_count());
  slot_ = context.slots()[0];
  // The first state that is asked for is made from what has been read by then, so what is known
  // beyond it is of no use.
  const std::span<const int32_t> until_first_mark =
      std::span(task_.tokens).first(static_cast<size_t>(task_.marks[0].tokens));
  read_ = prefix_.Begin(context, slot_, until_first_mark, PrefixKeep::kPartings);
  if (read_ == 0) return;
  sink_->TokensRead(read_);
  if (read_ == task_.marks[0].tokens) KeepState();
}

void HarvestJob::Poll() {
  for (StoreWriter::Reply& reply : writer_.Take()) {
    job_->observer().OnStoreCall("put", reply.description.status(), reply.duration);
    if (!reply.description.ok()) {
      if (failure_.ok()) failure_ = reply.description.status();
      continue;
    }
    v1::HarvestedState message;
    message.set_document_id(task_.id);
    message.set_position(task_.marks[static_cast<size_t>(reply.tag)].position);
    *message.mutable_state() = ToMessage(*reply.description);
    sink_->StateMade(std::move(message));
  }
  reader_has_room_ = sink_->HasRoom();
}

void HarvestJob::Offer(WorkList& work) {
  if (AllRead() || !failure_.ok() || !reader_has_room_ || writer_.outstanding() >= kMaxWrites)
    return;
  work.Add(0, WorkKind::kPrefill, prefix_.ReadTo(read_, task_.marks[mark_].tokens) - read_);
}

void HarvestJob::Fill(int /*tag*/, int tokens, rwkv::Segment* segment) {
  segment->slot = slot_;
  segment->tokens =
      std::span(task_.tokens).subspan(static_cast<size_t>(read_), static_cast<size_t>(tokens));
  if (read_ + tokens == task_.marks[mark_].tokens || prefix_.Keeps(read_ + tokens)) {
    segment->last_hidden = job_->last_hidden(slot_).data();
  }
}

void HarvestJob::Read(int /*tag*/, int tokens) {
  read_ += tokens;
  sink_->TokensRead(tokens);
  prefix_.Read(*job_, slot_, std::span(task_.tokens).first(static_cast<size_t>(read_)));
  if (read_ == task_.marks[mark_].tokens) KeepState();
}

state::Record HarvestJob::MakeRecord() const {
  const ModelSession& session = *plan_->session;
  state::Record record;
  record.model = session.model;
  record.fingerprint = session.weights->fingerprint;
  record.numerics = session.scheduler->numerics();
  record.token_count = plan_->source.token_count() + read_;
  if (plan_->migrates) {
    record.lineage.operation = "migrate";
    record.lineage.parents = {plan_->migrates->id};
    record.lineage.arguments = {{"model_version", session.VersionName()},
                                {"source", StateResourceName(plan_->migrates->id)},
                                {"source_fingerprint", plan_->migrates->fingerprint}};
  } else {
    record.lineage.operation = "harvest";
    if (!plan_->source.id.empty()) record.lineage.parents.push_back(plan_->source.id);
    record.lineage.arguments = {{"model_version", session.VersionName()},
                                {"source", plan_->source.Description()},
                                {"document", task_.id},
                                {"position", task_.marks[mark_].position},
                                {"append_separator", task_.append_separator}};
  }
  record.state = state::State::Empty(state::Shape::Of(job_->engine().config()));
  job_->engine().slots().Store(slot_, record.state.shift, record.state.wkv);
  const std::span<const float> hidden = job_->last_hidden(slot_);
  record.last_hidden.assign(hidden.begin(), hidden.end());
  return record;
}

void HarvestJob::KeepState() {
  state::Record record = MakeRecord();
  failure_ = CheckNotOverflowed(record, plan_->source);
  if (!failure_.ok()) return;
  const int64_t position = task_.marks[mark_].position;
  if (plan_->inline_tensors) {
    v1::HarvestedState message;
    message.set_document_id(task_.id);
    message.set_position(position);
    *message.mutable_tensors() = ToTensorsMessage(record);
    sink_->StateMade(std::move(message));
  } else {
    std::vector<int32_t> tokens(task_.tokens.begin(),
                                task_.tokens.begin() + static_cast<ptrdiff_t>(read_));
    writer_.Put(static_cast<int>(mark_), std::move(record), std::move(tokens), plan_->keep_tokens,
                task_.annotations,
                [lease = lease_, id = task_.id, position](const state::Description& description) {
                  // A state that is durable is told, also when there is no memory to remember it.
                  if (lease == nullptr) return;
                  WithoutExceptions([&] {
                    lease->Remember(id, position, description.record.id);
                    return absl::OkStatus();
                  }).IgnoreError();
                });
  }
  ++mark_;
  if (AllRead()) job_->ReleaseSlot(slot_);
}

void HarvestJob::End(const absl::Status& status) {
  // A retry may follow the stream's end at once.
  lease_.reset();
  sink_->DocumentDone(task_, status);
}

}  // namespace dreamstate::server
