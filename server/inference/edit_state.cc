#include "server/inference/edit_state.h"

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/algebra.h"
#include "server/inference/edit_operations.h"
#include "server/inference/engine_calls.h"
#include "server/inference/made_state.h"
#include "server/inference/resource_names.h"
#include "server/inference/state_messages.h"
#include "server/inference/store_call.h"
#include "server/inference/text_input.h"

namespace dreamstate::server {
namespace {

using Request = v1::EditStateRequest;

// The request that makes the state again: with the seed that was drawn.
Request Again(const Request& request, const Editing& editing, const std::string& digest) {
  Request again = request;
  again.clear_annotations();
  again.clear_inline_tensors();
  again.clear_probe();
  if (!digest.empty()) again.set_state_dit_digest(digest);
  if (!editing.seed()) return again;
  const uint64_t seed = *editing.seed();
  if (again.has_project()) again.mutable_project()->mutable_options()->set_seed(seed);
  if (again.has_translate()) again.mutable_translate()->mutable_options()->set_seed(seed);
  if (again.has_inpaint()) again.mutable_inpaint()->mutable_options()->set_seed(seed);
  if (again.has_then_project() && !again.then_project().options().has_seed()) {
    again.mutable_then_project()->mutable_options()->set_seed(seed);
  }
  return again;
}

// Whether the operation, or what follows it, runs the state DiT.
bool UsesStateDit(const Request& request) {
  if (request.has_then_project() || request.strict()) return true;
  return request.has_project() || request.has_translate() || request.has_inpaint() ||
         (request.has_interpolate() && request.interpolate().path() == Request::Interpolate::FLOW);
}

// Energy and verdict, where the served version of the backbone has a state DiT.
absl::Status JudgeEdit(Editing& editing, const StateDit* dit, const state::State& before,
                       const state::State& after, v1::EditStateResponse* response) {
  const bool strict = editing.request().strict();
  if (dit == nullptr) return absl::OkStatus();
  if (strict && dit->generator->gate() == nullptr) {
    return absl::FailedPreconditionError(
        "strict: the model's state DiT was published without a safety gate");
  }
  DS_ASSIGN_OR_RETURN(const Judgement was, Judge(editing.context(), *dit, before, ""));
  DS_ASSIGN_OR_RETURN(const Judgement is, Judge(editing.context(), *dit, after, "edit"));
  response->set_energy_before(was.energy);
  response->set_energy_after(is.energy);
  if (!is.verdict) return absl::OkStatus();
  ToMessage(*is.verdict, response->mutable_safety());
  if (!strict || is.verdict->passed) return absl::OkStatus();
  return absl::FailedPreconditionError(
      StrCat("the result failed the safety gate and was not returned: ", Failures(*is.verdict)));
}

absl::Status Probe(Editing& editing, const state::State& after, v1::EditStateResponse* response) {
  if (!editing.request().has_probe()) return absl::OkStatus();
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const ModelSession> session, editing.Session());
  DS_ASSIGN_OR_RETURN(const std::vector<int32_t> text,
                      ReadTextInput(editing.request().probe(), *session,
                                    editing.context().serving.limits.max_text_tokens, "probe"));
  const int64_t bytes = TextBytes(text, *session->tokenizer);
  if (bytes == 0) return FieldError("probe", "expected some text");
  // Both by the same rule: behind a separator, as the edited one has no logits of its own.
  const std::shared_ptr<const state::Record> states[] = {
      std::make_shared<state::Record>(MadeRecord(*session, editing.state())),
      std::make_shared<state::Record>(MadeRecord(*session, after))};
  DS_ASSIGN_OR_RETURN(const std::vector<double> nats,
                      ScoreStates(session, states, text, editing.times()));
  const double scale = std::log(2.0) * static_cast<double>(bytes);
  response->set_probe_bits_per_byte_before(nats[0] / scale);
  response->set_probe_bits_per_byte_after(nats[1] / scale);
  return absl::OkStatus();
}

}  // namespace

absl::Status EditState(const GenerationContext& context, const Request& request,
                       const CallTimes& times, const DiffusionLoop::Wanted& wanted,
                       v1::EditStateResponse* response) {
  DS_ASSIGN_OR_RETURN(const std::string id, ParseStateName("state", request.state()));
  absl::StatusOr<state::Annotations> annotations = FromMessage(request.annotations());
  if (!annotations.ok()) return WithFieldPrefix(annotations.status(), "annotations");
  DS_ASSIGN_OR_RETURN(
      const std::shared_ptr<const state::Record> record,
      Measured(*context.metrics, "get", [&] { return context.serving.store->Get(kTenant, id); }));
  Editing editing(context, request, times, wanted, record);
  DS_RETURN_IF_ERROR(editing.Begin());

  // What serves the backbone is only needed by some edits; others tell what it can say.
  std::shared_ptr<const StateDit> dit;
  if (UsesStateDit(request)) {
    DS_ASSIGN_OR_RETURN(dit, editing.Dit());
  } else if (const auto session = editing.Session(); session.ok()) {
    dit = (*session)->state_dit;
  }
  DS_ASSIGN_OR_RETURN(state::State changed, ApplyOperation(editing));
  changed = state::Masked(record->state, std::move(changed), editing.mask());
  if (request.has_then_project()) {
    DS_ASSIGN_OR_RETURN(changed,
                        ProjectState(editing, "then_project", request.then_project(), changed));
    changed = state::Masked(record->state, std::move(changed), editing.mask());
  }
  if (!changed.Validate().ok()) {
    return absl::FailedPreconditionError("the result overflowed: it is not finite");
  }
  const double norm = state::NormOf(record->state);
  response->set_relative_norm(norm > 0 ? state::NormOf(changed) / norm : 0);
  response->set_relative_change(norm > 0 ? state::DistanceOf(changed, record->state) / norm : 0);
  DS_RETURN_IF_ERROR(JudgeEdit(editing, dit.get(), record->state, changed, response));
  DS_RETURN_IF_ERROR(Probe(editing, changed, response));
  DS_RETURN_IF_ERROR(wanted());

  state::Record made;
  made.model = record->model;
  made.fingerprint = record->fingerprint;
  made.numerics = record->numerics;
  made.token_count = record->token_count;
  made.state = std::move(changed);
  made.lineage.operation = "edit";
  made.lineage.parents = editing.parents();
  made.lineage.tokens_sha256 = state::TokensSha256({});
  const std::string digest = UsesStateDit(request) ? dit->digest : "";
  made.lineage.arguments = {{"request", RequestJson(Again(request, editing, digest))}};
  if (const auto session = editing.Session(); session.ok()) {
    made.lineage.arguments["model_version"] = (*session)->VersionName();
    response->set_model_version((*session)->VersionName());
  }
  response->set_seed(editing.seed().value_or(0));
  v1::State stored;
  v1::StateTensors tensors;
  DS_RETURN_IF_ERROR(StoreOrSend(context, std::move(made), *annotations, request.inline_tensors(),
                                 &stored, &tensors));
  if (request.inline_tensors()) {
    *response->mutable_tensors() = std::move(tensors);
  } else {
    *response->mutable_state() = std::move(stored);
  }
  return absl::OkStatus();
}

}  // namespace dreamstate::server
