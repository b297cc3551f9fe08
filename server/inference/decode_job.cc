#include "server/inference/decode_job.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/decode_retry.h"
#include "server/inference/scheduler_observer.h"
#include "server/inference/state_messages.h"
#include "server/inference/text_input.h"

namespace dreamstate::server {
namespace {

// A decode with more branches is a choice of one: the ends of the others would push out what is
// used.
constexpr int kMostEndsKept = 4;

// A number that a person reads as it was given (0.996, not 0.99599999189376831) and that is the
// same float when it is read back.
double Readable(float value) {
  char text[64];
  const std::to_chars_result end = std::to_chars(text, text + sizeof text, value);
  double result = value;
  std::from_chars(text, end.ptr, result);
  return result;
}

}  // namespace

DecodeJob::Branch::Branch(const DecodeTask& task, int index, int slot_number)
    : slot(slot_number),
      sampler(task.sampling, static_cast<uint32_t>(index), task.session->weights->config.vocab,
              task.session->tokenizer),
      output(task.stop) {}

DecodeJob::DecodeJob(const ServingContext& context, DecodeTask task, const CallTimes& times,
                     DecodeSink* sink)
    : context_(context),
      task_(std::move(task)),
      times_(times),
      sink_(sink),
      writer_(context, task_.session->scheduler->waker()),
      prefix_(context.prefixes, *task_.session, task_.source),
      keeps_ends_(prefix_.on() && task_.branches <= kMostEndsKept),
      stall_(context.limits.reader_stall),
      reading_(task_.prompt) {
  if (reading_.empty() && !task_.source.has_last_hidden()) {
    reading_.push_back(task_.session->separator_token);
    fed_separator_ = true;
  }
}

void DecodeJob::Start(JobContext& context) {
  job_ = &context;
  started_ = context.now();
  context.observer().OnPrefixReused(task_.source.token_count());
  const int slot = context.slots()[0];
  prefix_tokens_ = prefix_.Begin(context, slot, reading_, PrefixKeep::kPrompt);
  read_ = static_cast<size_t>(prefix_tokens_);
  if (read_ < reading_.size()) return;
  const std::span<float> hidden = context.last_hidden(slot);
  if (reading_.empty()) std::ranges::copy(task_.source.record->last_hidden, hidden.begin());
  context.engine().Logits(hidden.data(), 1, context.logits(slot).data());
  BeginBranches();
}

void DecodeJob::Poll() {
  for (StoreWriter::Reply& reply : writer_.Take()) {
    Branch& branch = branches_[static_cast<size_t>(reply.tag)];
    job_->observer().OnStoreCall("put", reply.description.status(), reply.duration);
    if (reply.description.ok()) {
      SendFinish(reply.tag, &*reply.description);
    } else if (save_error_.ok()) {
      save_error_ = reply.description.status();
    }
    BranchDone(branch);
  }
  const ReaderProgress reader = sink_->reader();
  reader_has_room_ = reader.has_room;
  if (!stall_.Check(reader, job_->now()) && failure_.ok()) {
    reader_stalled_ = true;
    failure_ = QuotaError(
        "stream reader",
        StrCat("nothing was read for ", absl::FormatDuration(context_.limits.reader_stall)), {});
  }
}

void DecodeJob::Offer(WorkList& work) {
  if (branches_.empty()) {
    const int64_t read = static_cast<int64_t>(read_);
    work.Add(0, WorkKind::kPrefill,
             prefix_.ReadTo(read, static_cast<int64_t>(reading_.size())) - read);
    return;
  }
  for (size_t i = 0; i < branches_.size(); ++i) {
    const Branch& branch = branches_[i];
    if (branch.phase == Branch::Phase::kDecoding && reader_has_room_) {
      work.Add(static_cast<int>(i), WorkKind::kDecode, 1);
    } else if (branch.phase == Branch::Phase::kCatchingUp) {
      work.Add(static_cast<int>(i), WorkKind::kPrefill,
               static_cast<int64_t>(branch.rereading.size() - branch.reread));
    }
  }
}

void DecodeJob::Fill(int tag, int tokens, rwkv::Segment* segment) {
  const size_t count = static_cast<size_t>(tokens);
  bool wants_logits = true;
  // Of the prompt's end, too: a branch that ends at once has read no more, and its end may be kept.
  const bool wants_hidden = task_.save || keeps_ends_ || branches_.empty();
  bool last = true;
  if (branches_.empty()) {
    segment->slot = job_->slots()[0];
    segment->tokens = std::span(reading_).subspan(read_, count);
    last = read_ + count == reading_.size();
    if (prefix_.Keeps(static_cast<int64_t>(read_ + count))) {
      wants_logits = last;
      last = true;
    }
  } else {
    Branch& branch = branches_[static_cast<size_t>(tag)];
    segment->slot = branch.slot;
    if (branch.phase == Branch::Phase::kDecoding) {
      segment->tokens = {&branch.next, 1};
    } else {
      segment->tokens = std::span(branch.rereading).subspan(branch.reread, count);
      last = branch.reread + count == branch.rereading.size();
      wants_logits = false;
    }
  }
  if (!last) return;
  if (wants_logits) segment->logits = job_->logits(segment->slot).data();
  if (wants_hidden) segment->last_hidden = job_->last_hidden(segment->slot).data();
}

void DecodeJob::Read(int tag, int tokens) {
  if (branches_.empty()) {
    read_ += static_cast<size_t>(tokens);
    prefix_.Read(*job_, job_->slots()[0], std::span(reading_).first(read_));
    if (read_ == reading_.size()) BeginBranches();
    return;
  }
  Branch& branch = branches_[static_cast<size_t>(tag)];
  if (branch.phase == Branch::Phase::kDecoding) {
    Sample(tag);
    return;
  }
  branch.reread += static_cast<size_t>(tokens);
  if (branch.reread == branch.rereading.size()) SaveState(tag);
}

void DecodeJob::BeginBranches() {
  const absl::Time now = job_->now();
  v1::DecodeResponse message;
  v1::DecodeStart* start = message.mutable_start();
  start->set_model_version(task_.session->VersionName());
  start->set_seed(task_.sampling.seed);
  start->set_reused_tokens(task_.source.token_count() + prefix_tokens_);
  start->set_prefix_tokens(prefix_tokens_);
  start->set_prompt_tokens(static_cast<int64_t>(reading_.size()) - prefix_tokens_);
  start->set_prefill_seconds(absl::ToDoubleSeconds(now - started_));
  start->set_queue_seconds(absl::ToDoubleSeconds(started_ - times_.arrival));
  sink_->Send(std::move(message));

  // Slots are released as branches finish, which may be while this loop runs: take their numbers
  // first.
  const std::vector<int> slots(job_->slots().begin(), job_->slots().end());
  const std::span<float> logits = job_->logits(slots[0]);
  const std::span<float> hidden = job_->last_hidden(slots[0]);
  branches_.reserve(slots.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    branches_.emplace_back(task_, static_cast<int>(i), slots[i]);
    if (i == 0) continue;
    job_->engine().slots().Copy(slots[0], slots[i]);
    std::copy(logits.begin(), logits.end(), job_->logits(slots[i]).begin());
    std::copy(hidden.begin(), hidden.end(), job_->last_hidden(slots[i]).begin());
  }
  for (int i = 0; i < task_.branches; ++i) Sample(i);
  job_->observer().OnFirstToken(job_->now() - times_.arrival);
}

void DecodeJob::Sample(int index) {
  Branch& branch = branches_[static_cast<size_t>(index)];
  const std::span<float> logits = job_->logits(branch.slot);
  // Log-probabilities are of the model's own distribution; the sampler may only choose what has a
  // meaning.
  std::vector<float> untouched;
  if (task_.top_log_probs) untouched.assign(logits.begin(), logits.end());
  const int32_t end_token = task_.session->end_token;
  for (size_t id = static_cast<size_t>(task_.session->tokenizer->vocab_size()); id < logits.size();
       ++id) {
    if (static_cast<int32_t>(id) != end_token) logits[id] = std::numeric_limits<float>::lowest();
  }
  const int32_t token = branch.sampler.Sample(logits);
  if (token == rwkv::Sampler::kNotFinite) {
    failure_ = absl::FailedPreconditionError(StrCat("the state overflowed: next-token logits from ",
                                                    task_.source.Description(), " are not finite"));
    return;
  }
  branch.last_token = job_->now();
  if (branch.sampled == 0) branch.first_token = branch.last_token;
  if (token == end_token) {
    Conclude(index, v1::DecodeFinish::END, 0);
    return;
  }
  ++branch.sampled;
  branch.next = token;
  if (task_.save || keeps_ends_) branch.generated.push_back(token);
  std::optional<rwkv::LogProbs> log_probs;
  if (task_.top_log_probs) {
    log_probs = rwkv::ComputeLogProbs(untouched, token, *task_.top_log_probs);
  }
  const std::optional<int> stop =
      branch.output.Push(token, TokenBytes(token, *task_.session->tokenizer), std::move(log_probs));
  if (stop) {
    Conclude(index, v1::DecodeFinish::STOP, *stop);
  } else if (branch.sampled == task_.max_tokens) {
    Conclude(index, v1::DecodeFinish::MAX_TOKENS, 0);
  } else {
    SendPiece(index);
  }
}

void DecodeJob::SendPiece(int index) {
  v1::DecodeResponse message;
  v1::DecodePiece* piece = message.mutable_piece();
  if (!branches_[static_cast<size_t>(index)].output.Take(piece->mutable_piece())) return;
  piece->set_branch(index);
  sink_->Send(std::move(message));
}

void DecodeJob::Conclude(int index, v1::DecodeFinish::Reason reason, int stop_index) {
  Branch& branch = branches_[static_cast<size_t>(index)];
  if (reason != v1::DecodeFinish::STOP) branch.output.Finish();
  SendPiece(index);
  const absl::Duration duration = branch.last_token - branch.first_token;
  branch.finish.set_branch(index);
  branch.finish.set_reason(reason);
  branch.finish.set_stop_index(stop_index);
  branch.finish.set_generated_tokens(branch.output.returned_tokens());
  branch.finish.set_decode_seconds(absl::ToDoubleSeconds(duration));
  job_->observer().OnBranchDone(branch.output.returned_tokens(), duration);
  if (keeps_ends_) {
    std::vector<int32_t> tokens = reading_;
    const auto begin = branch.generated.begin();
    tokens.insert(tokens.end(), begin, begin + static_cast<ptrdiff_t>(Consumed(branch)));
    prefix_.Keep(*job_, branch.slot, tokens);
  }
  if (task_.save) {
    SettleState(index);
  } else {
    SendFinish(index, nullptr);
    BranchDone(branch);
  }
}

size_t DecodeJob::Consumed(const Branch& branch) const {
  return branch.generated.size() - (branch.finish.reason() == v1::DecodeFinish::END ? 0 : 1);
}

void DecodeJob::SettleState(int index) {
  Branch& branch = branches_[static_cast<size_t>(index)];
  const size_t consumed = Consumed(branch);
  const size_t returned = static_cast<size_t>(branch.output.returned_tokens());
  branch.generated.resize(std::max(returned, consumed));
  if (consumed == returned) {
    SaveState(index);
    return;
  }
  if (consumed < returned) {
    branch.rereading.assign(branch.generated.begin() + static_cast<ptrdiff_t>(consumed),
                            branch.generated.end());
  } else {
    // The state has read tokens that were trimmed: make it again. Exact, because splits are.
    branch.generated.resize(returned);
    branch.rereading = reading_;
    branch.rereading.insert(branch.rereading.end(), branch.generated.begin(),
                            branch.generated.end());
    branch.reread = static_cast<size_t>(
        prefix_.Begin(*job_, branch.slot, branch.rereading, PrefixKeep::kNothing));
    if (branch.reread == branch.rereading.size()) {
      if (branch.rereading.empty()) {
        std::ranges::copy(task_.source.record->last_hidden, job_->last_hidden(branch.slot).begin());
      }
      SaveState(index);
      return;
    }
  }
  branch.phase = Branch::Phase::kCatchingUp;
}

nlohmann::json DecodeJob::LineageArguments(int index) const {
  const rwkv::SamplingOptions& sampling = task_.sampling;
  nlohmann::json bias = nlohmann::json::array();
  for (const auto& [token, value] : sampling.logit_bias) bias.push_back({token, Readable(value)});
  // The seed as text: 64 bits do not fit the numbers of JSON readers.
  return {{"model_version", task_.session->VersionName()},
          {"source", task_.source.Description()},
          {"prompt_tokens", task_.prompt.size()},
          {"separator_fed", fed_separator_},
          {"branch", index},
          {"seed", StrCat(sampling.seed)},
          {"max_tokens", task_.max_tokens},
          {"stop", task_.stop},
          {"sampling",
           {{"temperature", Readable(sampling.temperature)},
            {"top_k", sampling.top_k},
            {"top_p", Readable(sampling.top_p)},
            {"min_p", Readable(sampling.min_p)},
            {"presence_penalty", Readable(sampling.presence_penalty)},
            {"frequency_penalty", Readable(sampling.frequency_penalty)},
            {"penalty_decay", Readable(sampling.penalty_decay)},
            {"logit_bias", std::move(bias)}}}};
}

void DecodeJob::SaveState(int index) {
  Branch& branch = branches_[static_cast<size_t>(index)];
  std::vector<int32_t> tokens = reading_;
  tokens.insert(tokens.end(), branch.generated.begin(), branch.generated.end());

  state::Record record;
  record.model = task_.session->model;
  record.fingerprint = task_.session->weights->fingerprint;
  record.numerics = task_.session->scheduler->numerics();
  record.token_count = task_.source.token_count() + static_cast<int64_t>(tokens.size());
  record.lineage.operation = "decode";
  if (!task_.source.id.empty()) record.lineage.parents.push_back(task_.source.id);
  record.lineage.arguments = LineageArguments(index);
  record.state = state::State::Empty(state::Shape::Of(job_->engine().config()));
  job_->engine().slots().Store(branch.slot, record.state.shift, record.state.wkv);
  const std::span<const float> hidden = job_->last_hidden(branch.slot);
  record.last_hidden.assign(hidden.begin(), hidden.end());

  if (const absl::Status status = CheckNotOverflowed(record, task_.source); !status.ok()) {
    if (save_error_.ok()) save_error_ = status;
    BranchDone(branch);
    return;
  }
  // The slot stays taken until the store has answered: so no more states wait to be written than
  // there are slots.
  branch.phase = Branch::Phase::kStoring;
  const std::shared_ptr<DecodeRetry> retry = task_.save->retry;
  std::function<void(const state::Description&)> stored;
  if (retry != nullptr) {
    stored = [retry, index](const state::Description& description) {
      // A state that is durable is told, also when there is no memory to remember it.
      WithoutExceptions([&] {
        retry->Saved(index, description.record.id);
        return absl::OkStatus();
      }).IgnoreError();
    };
  }
  writer_.Put(index, std::move(record), std::move(tokens), task_.save->keep_tokens,
              task_.save->annotations, std::move(stored),
              retry == nullptr ? std::string() : retry->Known(index));
}

void DecodeJob::SendFinish(int index, const state::Description* saved) {
  Branch& branch = branches_[static_cast<size_t>(index)];
  if (saved != nullptr) *branch.finish.mutable_saved_state() = ToMessage(*saved);
  v1::DecodeResponse message;
  *message.mutable_finish() = std::move(branch.finish);
  sink_->Send(std::move(message));
}

void DecodeJob::BranchDone(Branch& branch) {
  job_->ReleaseSlot(branch.slot);
  branch.phase = Branch::Phase::kDone;
  ++branches_done_;
  if (branches_done_ == task_.branches && failure_.ok()) failure_ = save_error_;
}

void DecodeJob::End(const absl::Status& status) {
  if (status.ok() && task_.save && task_.save->retry != nullptr) task_.save->retry->Succeeded();
  const bool nobody_reads =
      reader_stalled_ || absl::IsCancelled(status) || absl::IsDeadlineExceeded(status);
  sink_->Finish(status, nobody_reads ? Unread::kDrop : Unread::kSend);
}

}  // namespace dreamstate::server
