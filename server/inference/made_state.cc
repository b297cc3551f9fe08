#include "server/inference/made_state.h"

#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "google/protobuf/util/json_util.h"
#include "kernels/runtime/cpu.h"
#include "server/inference/state_dit.h"
#include "server/inference/state_messages.h"
#include "server/inference/store_call.h"

namespace dreamstate::server {

absl::StatusOr<Judgement> Judge(const GenerationContext& context, const StateDit& dit,
                                const state::State& state, std::string_view operation) {
  Judgement judgement;
  DS_RETURN_IF_ERROR(context.serving.diffusion->Run([&]() -> absl::Status {
    const state::State* const states[] = {&state};
    DS_ASSIGN_OR_RETURN(const std::vector<double> energy, dit.generator->Energy(states));
    judgement.energy = energy[0];
    return absl::OkStatus();
  }));
  const diffusion::SafetyGate* const gate = dit.generator->gate();
  if (gate != nullptr) judgement.verdict = gate->Check(state, judgement.energy);
  if (!operation.empty()) {
    context.metrics->OnEnergy(operation, judgement.energy);
    if (judgement.verdict) context.metrics->OnSafetyVerdict(operation, judgement.verdict->passed);
  }
  return judgement;
}

void ToMessage(const diffusion::SafetyVerdict& verdict, v1::StateSafety* out) {
  out->set_passed(verdict.passed);
  for (const diffusion::SafetyCheck& check : verdict.checks) {
    v1::StateSafety::Check* const message = out->add_checks();
    message->set_name(check.name);
    message->set_passed(check.passed);
    message->set_value(check.value);
    message->set_least(check.least);
    message->set_most(check.most);
    message->set_layer(check.layer);
    message->set_head(check.head);
  }
}

std::string Failures(const diffusion::SafetyVerdict& verdict) {
  std::string failures;
  for (const diffusion::SafetyCheck& check : verdict.checks) {
    if (check.passed) continue;
    absl::StrAppend(&failures, failures.empty() ? "" : "; ", check.name);
    if (check.layer >= 0) {
      absl::StrAppend(&failures, " of layer ", check.layer, ", head ", check.head);
    }
    absl::StrAppend(&failures, " is ", check.value, ", expected ", check.least, " to ", check.most);
  }
  return failures;
}

state::Record MadeRecord(const ModelSession& session, state::State state) {
  state::Record record;
  record.model = session.model;
  record.fingerprint = session.weights->fingerprint;
  record.numerics = StrCat("torch/", kernels::IsaName(kernels::ActiveIsa()));
  record.state = std::move(state);
  record.lineage.tokens_sha256 = state::TokensSha256({});
  return record;
}

nlohmann::json RequestJson(const google::protobuf::Message& request) {
  const std::unique_ptr<google::protobuf::Message> copy(request.New());
  copy->CopyFrom(request);
  copy->GetReflection()->ClearField(copy.get(),
                                    copy->GetDescriptor()->FindFieldByName("request_id"));
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(*copy, &text, options).ok()) return {};
  return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
}

absl::Status StoreOrSend(const GenerationContext& context, state::Record record,
                         const state::Annotations& annotations, bool inline_tensors,
                         v1::State* stored, v1::StateTensors* tensors) {
  if (inline_tensors) {
    *tensors = ToTensorsMessage(record);
    const int64_t limit = context.serving.limits.max_message_bytes;
    if (static_cast<int64_t>(tensors->ByteSizeLong()) + 4096 <= limit) return absl::OkStatus();
    return FieldError("inline_tensors",
                      StrCat("expected states that fit into a message of ", limit, " bytes"));
  }
  DS_ASSIGN_OR_RETURN(const state::Description description, Measured(*context.metrics, "put", [&] {
                        return context.serving.store->Put(kTenant, std::move(record), annotations);
                      }));
  *stored = ToMessage(description);
  return absl::OkStatus();
}

}  // namespace dreamstate::server
