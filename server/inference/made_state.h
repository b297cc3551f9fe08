// What becomes of a state that was generated or edited: judged, and stored or sent.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/diffusion/safety.h"
#include "core/state/store.h"
#include "dreamstate/v1/state_service.pb.h"
#include "google/protobuf/message.h"
#include "nlohmann/json.hpp"
#include "server/inference/generation_context.h"

namespace dreamstate::server {

struct Judgement {
  double energy = 0;
  std::optional<diffusion::SafetyVerdict> verdict;  // none: the state DiT has no gate
};
// `operation`: "generate", "edit" for metrics, or empty. Waits for the loop.
absl::StatusOr<Judgement> Judge(const GenerationContext& context, const StateDit& dit,
                                const state::State& state, std::string_view operation);

void ToMessage(const diffusion::SafetyVerdict& verdict, v1::StateSafety* out);
// "norm of layer 2, head 0 is 3.1, expected 0.5 to 2": the checks that failed.
std::string Failures(const diffusion::SafetyVerdict& verdict);

// A record of what `session` made; everything but the lineage's operation, parents and arguments
// is set. Nothing but separators has been read: next-token logits are unknown.
state::Record MadeRecord(const ModelSession& session, state::State state);

// A request as JSON for a lineage: what makes the state again. The request_id is left out.
nlohmann::json RequestJson(const google::protobuf::Message& request);

// Stores the record, or with `inline_tensors` puts it into `tensors`; waits for the store.
absl::Status StoreOrSend(const GenerationContext& context, state::Record record,
                         const state::Annotations& annotations, bool inline_tensors,
                         v1::State* stored, v1::StateTensors* tensors);

}  // namespace dreamstate::server
