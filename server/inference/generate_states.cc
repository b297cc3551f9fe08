#include "server/inference/generate_states.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/engine_calls.h"
#include "server/inference/generation_validation.h"
#include "server/inference/made_state.h"
#include "server/inference/resource_names.h"
#include "server/inference/source.h"
#include "server/inference/state_messages.h"
#include "server/inference/store_call.h"
#include "server/inference/text_input.h"

namespace dreamstate::server {
namespace {

constexpr int kMaxSamples = 64;
constexpr int kMaxCandidates = 32;
constexpr int kMaxStates = 256;
constexpr int kMaxFirstSample = 1 << 20;
// Draws that take the place of one that failed the gate, and where in the seed's samples they are.
constexpr int kRedraws = 3;
constexpr int64_t kRedrawStride = int64_t{1} << 32;

// What a request asks for, checked.
struct Plan {
  std::shared_ptr<const ModelSession> session;
  std::shared_ptr<const StateDit> dit;
  GenerationPlan generation;
  int samples = 1, candidates = 1;
  int64_t first_sample = 0;
  std::vector<int32_t> scored;  // with several candidates
  int64_t scored_bytes = 0;
  state::Annotations annotations;
  // Inpainting.
  std::shared_ptr<const state::Record> from;
  state::HeadMask keep;
  std::vector<diffusion::StateCondition> conditions;
};

absl::Status ReadCounts(const v1::GenerateStatesRequest& request, Plan* plan) {
  if (request.samples() < 0 || request.samples() > kMaxSamples) {
    return FieldError("samples",
                      StrCat("expected 1 to ", kMaxSamples, ", found ", request.samples()));
  }
  plan->samples = std::max(1, request.samples());
  if (request.first_sample() < 0 || request.first_sample() >= kMaxFirstSample) {
    return FieldError("first_sample", StrCat("expected 0 to ", kMaxFirstSample - 1, ", found ",
                                             request.first_sample()));
  }
  plan->first_sample = request.first_sample();
  if (!request.has_best_of()) return absl::OkStatus();
  plan->candidates = request.best_of().candidates();
  if (plan->candidates < 2 || plan->candidates > kMaxCandidates) {
    return FieldError("best_of.candidates",
                      StrCat("expected 2 to ", kMaxCandidates, ", found ", plan->candidates));
  }
  if (plan->candidates * plan->samples > kMaxStates) {
    return FieldError("best_of.candidates",
                      StrCat("expected at most ", kMaxStates, " for all samples, found ",
                             plan->candidates * plan->samples));
  }
  if (plan->generation.options.mode == diffusion::GenerateMode::kMean) {
    return FieldError("best_of", "expected none: there is one mean state");
  }
  return absl::OkStatus();
}

// One GenerateStates call's work.
class Generation {
 public:
  Generation(const GenerationContext& context, const v1::GenerateStatesRequest& request,
             const CallTimes& times, GenerationSink* sink)
      : context_(context), request_(request), times_(times), sink_(*sink) {}

  absl::Status Run() {
    DS_RETURN_IF_ERROR(Prepare());
    const absl::Time start = context_.serving.clock->Now();
    SendStart(start);
    progress_steps_ = plan_.samples * StepsOfSample();
    // As many samples side by side as fit a batch with all their candidates.
    const int at_once = std::max(1, static_cast<int>(DiffusionLoop::kMaxBatch) / plan_.candidates);
    for (int first = 0; first < plan_.samples; first += at_once) {
      const int count = std::min(at_once, plan_.samples - first);
      DS_ASSIGN_OR_RETURN(std::vector<Chosen> chosen, Make(first, count));
      progress_done_ += count * StepsOfSample();
      for (int i = 0; i < count; ++i) {
        DS_RETURN_IF_ERROR(Finish(first + i, std::move(chosen[static_cast<size_t>(i)])));
      }
    }
    v1::GenerateStatesResponse end;
    end.mutable_summary()->set_states(plan_.samples);
    end.mutable_summary()->set_compute_seconds(absl::ToDoubleSeconds(compute_));
    end.mutable_summary()->set_seconds(
        absl::ToDoubleSeconds(context_.serving.clock->Now() - times_.arrival));
    sink_.Send(std::move(end));
    return absl::OkStatus();
  }

 private:
  struct Chosen {
    state::State state;
    double best = 0, worst = 0;  // bits per byte, with several candidates
  };

  absl::Status Prepare() {
    DS_ASSIGN_OR_RETURN(plan_.session, context_.serving.models->Find(request_.model()));
    DS_ASSIGN_OR_RETURN(plan_.generation, ReadOptions("options", request_.options()));
    DS_RETURN_IF_ERROR(ReadCounts(request_, &plan_));
    absl::StatusOr<state::Annotations> annotations = FromMessage(request_.annotations());
    if (!annotations.ok()) return WithFieldPrefix(annotations.status(), "annotations");
    plan_.annotations = *std::move(annotations);
    DS_RETURN_IF_ERROR(ReadInpainting());
    DS_ASSIGN_OR_RETURN(plan_.dit, RequireStateDit(*plan_.session, request_.state_dit_digest()));
    if (request_.strict() && plan_.dit->generator->gate() == nullptr) {
      return absl::FailedPreconditionError(StrCat("strict: the state DiT of ",
                                                  plan_.session->VersionName(),
                                                  " was published without a safety gate"));
    }
    if (request_.has_best_of()) {
      DS_ASSIGN_OR_RETURN(plan_.scored,
                          ReadTextInput(request_.best_of().text(), *plan_.session,
                                        context_.serving.limits.max_text_tokens, "best_of.text"));
      plan_.scored_bytes = TextBytes(plan_.scored, *plan_.session->tokenizer);
      if (plan_.scored_bytes == 0) return FieldError("best_of.text", "expected some text");
    }
    DS_ASSIGN_OR_RETURN(plan_.conditions,
                        ReadConditions("conditions", request_.conditions(), plan_.session,
                                       context_.serving.limits, times_));
    return absl::OkStatus();
  }

  // Needs to be first of what uses the session: the state says which backbone is meant.
  absl::Status ReadInpainting() {
    if (!request_.has_inpainting()) return absl::OkStatus();
    const v1::GenerateStatesRequest::Inpainting& inpainting = request_.inpainting();
    if (plan_.generation.options.mode == diffusion::GenerateMode::kMean) {
      return FieldError("inpainting", "expected none with mode MEAN");
    }
    DS_ASSIGN_OR_RETURN(const std::string id,
                        ParseStateName("inpainting.state", inpainting.state()));
    DS_ASSIGN_OR_RETURN(plan_.from, Measured(*context_.metrics, "get", [&] {
                          return context_.serving.store->Get(kTenant, id);
                        }));
    if (plan_.from->fingerprint != plan_.session->weights->fingerprint) {
      if (auto other = context_.serving.models->FindBackbone(plan_.session->model,
                                                             plan_.from->fingerprint)) {
        plan_.session = std::move(other);
      }
    }
    DS_RETURN_IF_ERROR(CheckBackbone(*plan_.from, *plan_.session, inpainting.state()));
    DS_ASSIGN_OR_RETURN(plan_.keep,
                        ReadMask("inpainting.keep", inpainting.keep(), plan_.from->state.shape));
    if (std::ranges::all_of(plan_.keep, [](bool kept) { return kept; })) {
      return FieldError("inpainting.keep",
                        "expected some layers or heads to be left out: nothing is left to make");
    }
    return absl::OkStatus();
  }

  int StepsOfSample() const { return plan_.candidates * plan_.generation.options.steps; }

  void SendStart(absl::Time now) {
    v1::GenerateStatesResponse message;
    v1::GenerationStart* const start = message.mutable_start();
    start->set_model_version(plan_.session->VersionName());
    start->set_state_dit_digest(plan_.dit->digest);
    start->set_seed(plan_.generation.seed);
    start->set_samples(plan_.samples * plan_.candidates);
    start->set_queue_seconds(absl::ToDoubleSeconds(now - times_.arrival));
    sink_.Send(std::move(message));
  }

  absl::Status Wanted() {
    DS_RETURN_IF_ERROR(plan_.session->end->status());
    return sink_.Wanted();
  }

  diffusion::StateRequest RequestOf(int64_t sample) const {
    diffusion::StateRequest request = {
        .conditions = plan_.conditions, .seed = plan_.generation.seed, .sample = sample};
    if (plan_.from != nullptr) {
      request.from = &plan_.from->state;
      request.keep = plan_.keep;
    }
    return request;
  }

  absl::StatusOr<std::vector<state::State>> Draw(std::span<const diffusion::StateRequest> requests,
                                                 diffusion::GenerateOptions options) {
    const absl::Time start = context_.serving.clock->Now();
    auto made = context_.serving.diffusion->Generate(plan_.dit, requests, options,
                                                     [this] { return Wanted(); });
    compute_ += context_.serving.clock->Now() - start;
    return made;
  }

  // Samples first .. first + count - 1, the best of the candidates of each.
  absl::StatusOr<std::vector<Chosen>> Make(int first, int count) {
    std::vector<diffusion::StateRequest> requests;
    for (int i = 0; i < count * plan_.candidates; ++i) {
      requests.push_back(RequestOf((plan_.first_sample + first) * plan_.candidates + i));
    }
    diffusion::GenerateOptions options = plan_.generation.options;
    options.on_step = [&](int step, int /*steps*/) {
      sink_.Progress(progress_done_ + step * count * plan_.candidates, progress_steps_);
      return true;
    };
    DS_ASSIGN_OR_RETURN(std::vector<state::State> made, Draw(requests, options));
    std::vector<Chosen> chosen;
    if (plan_.candidates == 1) {
      for (state::State& state : made) chosen.push_back({.state = std::move(state)});
      return chosen;
    }
    DS_ASSIGN_OR_RETURN(const std::vector<double> bits, Score(&made));
    for (int i = 0; i < count; ++i) {
      const auto begin = bits.begin() + i * plan_.candidates;
      const auto [best, worst] = std::minmax_element(begin, begin + plan_.candidates);
      chosen.push_back({.state = std::move(made[static_cast<size_t>(best - bits.begin())]),
                        .best = *best,
                        .worst = *worst});
    }
    return chosen;
  }

  // Bits per byte of the scored text after each state.
  absl::StatusOr<std::vector<double>> Score(std::vector<state::State>* states) {
    std::vector<std::shared_ptr<const state::Record>> records;
    for (state::State& state : *states) {
      records.push_back(std::make_shared<state::Record>(MadeRecord(*plan_.session, state)));
    }
    DS_ASSIGN_OR_RETURN(std::vector<double> nats,
                        ScoreStates(plan_.session, records, plan_.scored, times_));
    for (double& value : nats) {
      value /= std::log(2.0) * static_cast<double>(plan_.scored_bytes);
    }
    return nats;
  }

  // Judges a sample, replaces it where the call is strict, and stores and tells it.
  absl::Status Finish(int index, Chosen chosen) {
    const int64_t sample = plan_.first_sample + index;
    v1::GenerateStatesResponse message;
    v1::GeneratedState* const result = message.mutable_state();
    result->set_sample(static_cast<int>(sample));
    DS_ASSIGN_OR_RETURN(Judgement judgement, Judge(context_, *plan_.dit, chosen.state, "generate"));
    const auto failed = [&] { return judgement.verdict && !judgement.verdict->passed; };
    for (int redraw = 1; request_.strict() && failed() && !result->replaced_by_mean(); ++redraw) {
      const bool mean =
          redraw > kRedraws || plan_.generation.options.mode == diffusion::GenerateMode::kMean;
      if (mean && plan_.from != nullptr) break;
      DS_RETURN_IF_ERROR(Wanted());
      const diffusion::StateRequest request = RequestOf(sample + redraw * kRedrawStride);
      diffusion::GenerateOptions options = plan_.generation.options;
      if (mean) options.mode = diffusion::GenerateMode::kMean;
      DS_ASSIGN_OR_RETURN(std::vector<state::State> made, Draw(std::span(&request, 1), options));
      result->set_rejected(result->rejected() + 1);
      result->set_replaced_by_mean(mean);
      chosen = {.state = std::move(made[0])};
      DS_ASSIGN_OR_RETURN(judgement, Judge(context_, *plan_.dit, chosen.state, "generate"));
    }
    if (request_.strict() && failed()) {
      return absl::FailedPreconditionError(StrCat(
          "sample ", sample, " was not returned: ", result->rejected() + 1,
          " states failed the safety gate, the last because ", Failures(*judgement.verdict)));
    }
    if (judgement.verdict) ToMessage(*judgement.verdict, result->mutable_safety());
    if (plan_.candidates > 1 && result->rejected() == 0) {
      result->set_best_bits_per_byte(chosen.best);
      result->set_worst_bits_per_byte(chosen.worst);
    }
    state::Record record = MadeRecord(*plan_.session, std::move(chosen.state));
    record.lineage.operation = "generate";
    if (plan_.from != nullptr) record.lineage.parents = {plan_.from->id};
    record.lineage.arguments = Arguments(sample);
    DS_RETURN_IF_ERROR(StoreOrSend(context_, std::move(record), plan_.annotations,
                                   request_.inline_tensors(), result->mutable_state(),
                                   result->mutable_tensors()));
    if (request_.inline_tensors()) {
      result->clear_state();
    } else {
      result->clear_tensors();
    }
    sink_.Send(std::move(message));
    return absl::OkStatus();
  }

  // The request that makes one sample again, with what was drawn or chosen for it.
  nlohmann::json Arguments(int64_t sample) const {
    v1::GenerateStatesRequest again = request_;
    again.set_model(plan_.session->ModelName());
    again.set_samples(1);
    again.set_first_sample(static_cast<int>(sample));
    again.mutable_options()->set_seed(plan_.generation.seed);
    again.set_state_dit_digest(plan_.dit->digest);
    again.clear_annotations();
    again.clear_inline_tensors();
    return {{"model_version", plan_.session->VersionName()},
            {"seed", plan_.generation.seed},
            {"sample", sample},
            {"request", RequestJson(again)}};
  }

  const GenerationContext context_;
  const v1::GenerateStatesRequest& request_;
  const CallTimes times_;
  GenerationSink& sink_;
  Plan plan_;
  int progress_done_ = 0, progress_steps_ = 0;
  absl::Duration compute_;
};

}  // namespace

absl::Status GenerateStates(const GenerationContext& context,
                            const v1::GenerateStatesRequest& request, const CallTimes& times,
                            GenerationSink* sink) {
  return Generation(context, request, times, sink).Run();
}

}  // namespace dreamstate::server
