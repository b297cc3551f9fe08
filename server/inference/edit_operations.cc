#include "server/inference/edit_operations.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/resource_names.h"
#include "server/inference/source.h"
#include "server/inference/state_messages.h"
#include "server/inference/store_call.h"

namespace dreamstate::server {
namespace {

using Request = v1::EditStateRequest;
using Result = absl::StatusOr<state::State>;

constexpr int kMaxStates = 64;
constexpr float kMaxWeight = 10;
constexpr float kMaxScale = 4;
constexpr float kProjectNoise = 0.1f;
constexpr float kTranslateNoise = 1;

absl::StatusOr<double> ReadWeight(const std::string& field, float value) {
  if (std::abs(value) <= kMaxWeight) return double{value};
  return FieldError(
      field, StrCat("expected a number in [-", kMaxWeight, ", ", kMaxWeight, "], found ", value));
}

absl::Status CheckCount(const std::string& field, int count) {
  if (count >= 1 && count <= kMaxStates) return absl::OkStatus();
  return FieldError(field, StrCat("expected 1 to ", kMaxStates, ", found ", count));
}

absl::Status CheckSampling(const std::string& field, const GenerationPlan& plan) {
  if (plan.options.mode == diffusion::GenerateMode::kSample) return absl::OkStatus();
  return FieldError(StrCat(field, ".mode"), "expected SAMPLE or none");
}

// What the loop makes of one request.
Result GenerateOne(Editing& editing, const std::shared_ptr<const StateDit>& dit,
                   const diffusion::StateRequest& request,
                   const diffusion::GenerateOptions& options) {
  DS_ASSIGN_OR_RETURN(std::vector<state::State> made,
                      editing.context().serving.diffusion->Generate(dit, std::span(&request, 1),
                                                                    options, editing.wanted()));
  return std::move(made[0]);
}

// Options that end when nobody waits any more; `why` is what ended them.
diffusion::GenerateOptions Watched(const Editing& editing, diffusion::GenerateOptions options,
                                   absl::Status* why) {
  options.on_step = [&editing, why](int, int) {
    *why = editing.wanted()();
    return why->ok();
  };
  return options;
}

Result Interpolate(Editing& editing) {
  const Request::Interpolate& message = editing.request().interpolate();
  const bool linear = message.path() == Request::Interpolate::LINEAR ||
                      message.path() == Request::Interpolate::PATH_UNSPECIFIED;
  const bool flow = message.path() == Request::Interpolate::FLOW;
  if (!Request::Interpolate::Path_IsValid(message.path())) {
    return FieldError("interpolate.path", "expected LINEAR, SPHERICAL or FLOW");
  }
  const float least = linear ? -1 : 0, most = linear ? 2 : 1;
  if (!(message.fraction() >= least && message.fraction() <= most)) {
    return FieldError("interpolate.fraction",
                      StrCat("expected ", least, " to ", most, ", found ", message.fraction()));
  }
  if (message.has_steps() && !flow) {
    return FieldError("interpolate.steps", "expected none but with path FLOW");
  }
  DS_ASSIGN_OR_RETURN(const auto other, editing.Other("interpolate.other", message.other()));
  const double fraction = double{message.fraction()};
  if (linear) return state::Linear(editing.state(), other->state, fraction);
  if (!flow) return state::Spherical(editing.state(), other->state, fraction);
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const StateDit> dit, editing.Dit());
  v1::GenerationOptions with_steps;
  if (message.has_steps()) with_steps.set_steps(message.steps());
  DS_ASSIGN_OR_RETURN(const GenerationPlan plan, ReadOptions("interpolate", with_steps));
  state::State made;
  absl::Status why;
  const absl::Status status = editing.context().serving.diffusion->Run([&]() -> absl::Status {
    DS_ASSIGN_OR_RETURN(
        std::vector<state::State> path,
        dit->generator->AlongFlow(editing.state(), other->state, std::span(&fraction, 1),
                                  Watched(editing, plan.options, &why)));
    made = std::move(path[0]);
    return absl::OkStatus();
  });
  DS_RETURN_IF_ERROR(why);
  DS_RETURN_IF_ERROR(status);
  return made;
}

Result Blend(Editing& editing) {
  const Request::Blend& message = editing.request().blend();
  DS_RETURN_IF_ERROR(CheckCount("blend.others", message.others_size()));
  const float share = 1.0f / static_cast<float>(message.others_size() + 1);
  std::vector<std::shared_ptr<const state::Record>> held;
  std::vector<state::WeightedState> states(1);
  states[0].state = &editing.state();
  DS_ASSIGN_OR_RETURN(states[0].weight,
                      ReadWeight("blend.weight", message.has_weight() ? message.weight() : share));
  for (int i = 0; i < message.others_size(); ++i) {
    const Request::WeightedState& one = message.others(i);
    const std::string field = StrCat("blend.others[", i, "]");
    DS_ASSIGN_OR_RETURN(const double weight, ReadWeight(StrCat(field, ".weight"),
                                                        one.has_weight() ? one.weight() : share));
    DS_ASSIGN_OR_RETURN(auto other, editing.Other(StrCat(field, ".state"), one.state()));
    states.push_back({&other->state, weight});
    held.push_back(std::move(other));
  }
  if (std::ranges::all_of(states, [](const auto& one) { return one.weight == 0; })) {
    return FieldError("blend", "expected a weight other than 0: all are");
  }
  return state::WeightedSum(states);
}

Result Project(Editing& editing) {
  return ProjectState(editing, "project", editing.request().project(), editing.state());
}

Result Translate(Editing& editing) {
  const Request::Translate& message = editing.request().translate();
  if (message.to().empty()) {
    return FieldError("translate.to", "expected at least one condition, found none");
  }
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const StateDit> dit, editing.Dit());
  DS_ASSIGN_OR_RETURN(const GenerationPlan plan,
                      editing.Options("translate.options", message.options()));
  DS_RETURN_IF_ERROR(CheckSampling("translate.options", plan));
  if (message.options().solver() == v1::GenerationOptions::HEUN) {
    return FieldError("translate.options.solver", "expected EULER or none");
  }
  diffusion::TranslateRequest request = {.state = &editing.state(), .seed = plan.seed};
  DS_ASSIGN_OR_RETURN(
      request.noise,
      ReadNoise("translate.noise", message.has_noise() ? message.noise() : kTranslateNoise, true));
  DS_ASSIGN_OR_RETURN(request.from, editing.Conditions("translate.from", message.from()));
  DS_ASSIGN_OR_RETURN(request.to, editing.Conditions("translate.to", message.to()));
  state::State made;
  absl::Status why;
  const absl::Status status = editing.context().serving.diffusion->Run([&]() -> absl::Status {
    DS_ASSIGN_OR_RETURN(made,
                        dit->generator->Translate(request, Watched(editing, plan.options, &why)));
    return absl::OkStatus();
  });
  DS_RETURN_IF_ERROR(why);
  DS_RETURN_IF_ERROR(status);
  return made;
}

Result Inpaint(Editing& editing) {
  const Request::Inpaint& message = editing.request().inpaint();
  if (!editing.request().has_mask() ||
      std::ranges::all_of(editing.mask(), [](bool in) { return in; })) {
    return FieldError("mask", "expected the layers or heads that are made anew, and not all");
  }
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const StateDit> dit, editing.Dit());
  DS_ASSIGN_OR_RETURN(const GenerationPlan plan,
                      editing.Options("inpaint.options", message.options()));
  DS_RETURN_IF_ERROR(CheckSampling("inpaint.options", plan));
  diffusion::StateRequest request = {.from = &editing.state(), .seed = plan.seed};
  request.keep = editing.mask();
  request.keep.flip();
  DS_ASSIGN_OR_RETURN(request.conditions,
                      editing.Conditions("inpaint.conditions", message.conditions()));
  return GenerateOne(editing, dit, request, plan.options);
}

Result Arithmetic(Editing& editing) {
  const Request::Arithmetic& message = editing.request().arithmetic();
  DS_RETURN_IF_ERROR(CheckCount("arithmetic.directions", message.directions_size()));
  std::vector<std::shared_ptr<const state::Record>> held;
  std::vector<state::WeightedState> states = {{&editing.state(), 1}};
  for (int i = 0; i < message.directions_size(); ++i) {
    const auto& direction = message.directions(i);
    const std::string field = StrCat("arithmetic.directions[", i, "]");
    DS_ASSIGN_OR_RETURN(
        const double weight,
        ReadWeight(StrCat(field, ".weight"), direction.has_weight() ? direction.weight() : 1));
    if (direction.plus().empty() && direction.minus().empty()) {
      return FieldError(field, "expected a state to add or to take away, found none");
    }
    const auto add = [&](const char* end, const std::string& name, double factor) -> absl::Status {
      if (name.empty()) return absl::OkStatus();
      DS_ASSIGN_OR_RETURN(auto other, editing.Other(StrCat(field, ".", end), name));
      states.push_back({&other->state, factor});
      held.push_back(std::move(other));
      return absl::OkStatus();
    };
    DS_RETURN_IF_ERROR(add("plus", direction.plus(), weight));
    DS_RETURN_IF_ERROR(add("minus", direction.minus(), -weight));
  }
  return state::WeightedSum(states);
}

Result Scale(Editing& editing) {
  const float factor = editing.request().scale().factor();
  if (!(factor >= 0 && factor <= kMaxScale)) {
    return FieldError("scale.factor", StrCat("expected 0 to ", kMaxScale, ", found ", factor));
  }
  state::State scaled = editing.state();
  for (float& value : scaled.wkv) value *= factor;
  return scaled;
}

// The operations. A new one is a function and a line here.
struct Operation {
  Request::OperationCase kind;
  Result (*apply)(Editing&);
};
constexpr Operation kOperations[] = {
    {Request::kInterpolate, Interpolate},
    {Request::kBlend, Blend},
    {Request::kProject, Project},
    {Request::kTranslate, Translate},
    {Request::kInpaint, Inpaint},
    {Request::kArithmetic, Arithmetic},
    {Request::kScale, Scale},
};

}  // namespace

Editing::Editing(const GenerationContext& context, const v1::EditStateRequest& request,
                 const CallTimes& times, DiffusionLoop::Wanted wanted,
                 std::shared_ptr<const state::Record> record)
    : context_(context),
      request_(request),
      times_(times),
      wanted_(std::move(wanted)),
      record_(std::move(record)),
      parents_({record_->id}) {}

absl::Status Editing::Begin() {
  DS_ASSIGN_OR_RETURN(mask_, ReadMask("mask", request_.mask(), record_->state.shape));
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const ModelSession>> Editing::Session() {
  if (session_ != nullptr) return session_;
  DS_ASSIGN_OR_RETURN(session_, context_.serving.models->Find(ModelResourceName(record_->model)));
  if (record_->fingerprint != session_->weights->fingerprint) {
    auto other = context_.serving.models->FindBackbone(session_->model, record_->fingerprint);
    if (other != nullptr) session_ = std::move(other);
  }
  absl::Status fits = CheckBackbone(*record_, *session_, request_.state());
  if (!fits.ok()) {
    session_ = nullptr;
    return fits;
  }
  return session_;
}

absl::StatusOr<std::shared_ptr<const StateDit>> Editing::Dit() {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const ModelSession> session, Session());
  return RequireStateDit(*session, request_.state_dit_digest());
}

absl::StatusOr<std::shared_ptr<const state::Record>> Editing::Other(const std::string& field,
                                                                    const std::string& name) {
  DS_ASSIGN_OR_RETURN(const std::string id, ParseStateName(field, name));
  DS_ASSIGN_OR_RETURN(
      std::shared_ptr<const state::Record> other,
      Measured(*context_.metrics, "get", [&] { return context_.serving.store->Get(kTenant, id); }));
  if (other->fingerprint != record_->fingerprint) {
    return FingerprintError(name, record_->fingerprint, other->fingerprint);
  }
  if (other->state.shape != record_->state.shape) {
    return FieldError(field, "expected a state of the same shape as the one that is edited");
  }
  if (std::ranges::find(parents_, id) == parents_.end()) parents_.push_back(id);
  return other;
}

absl::StatusOr<GenerationPlan> Editing::Options(const std::string& field,
                                                const v1::GenerationOptions& message) {
  DS_ASSIGN_OR_RETURN(GenerationPlan plan, ReadOptions(field, message));
  if (seed_ && !message.has_seed()) plan.seed = *seed_;
  seed_ = plan.seed;
  return plan;
}

absl::StatusOr<std::vector<diffusion::StateCondition>> Editing::Conditions(
    const std::string& field, const ConditionMessages& messages) {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const ModelSession> session, Session());
  return ReadConditions(field, messages, session, context_.serving.limits, times_);
}

absl::StatusOr<state::State> ApplyOperation(Editing& editing) {
  for (const Operation& operation : kOperations) {
    if (operation.kind == editing.request().operation_case()) return operation.apply(editing);
  }
  return FieldError("operation", "expected an operation, found none");
}

absl::StatusOr<state::State> ProjectState(Editing& editing, const std::string& field,
                                          const v1::EditStateRequest::Project& message,
                                          const state::State& state) {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const StateDit> dit, editing.Dit());
  DS_ASSIGN_OR_RETURN(const GenerationPlan plan,
                      editing.Options(StrCat(field, ".options"), message.options()));
  DS_RETURN_IF_ERROR(CheckSampling(StrCat(field, ".options"), plan));
  diffusion::StateRequest request = {.from = &state, .seed = plan.seed};
  DS_ASSIGN_OR_RETURN(request.noise,
                      ReadNoise(StrCat(field, ".noise"),
                                message.has_noise() ? message.noise() : kProjectNoise, false));
  DS_ASSIGN_OR_RETURN(request.conditions,
                      editing.Conditions(StrCat(field, ".conditions"), message.conditions()));
  DS_ASSIGN_OR_RETURN(state::State made, GenerateOne(editing, dit, request, plan.options));
  made.shift = state.shift;
  return made;
}

}  // namespace dreamstate::server
