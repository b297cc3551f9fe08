#include "server/inference/describe_state.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/state/geometry.h"
#include "server/inference/made_state.h"
#include "server/inference/resource_names.h"
#include "server/inference/state_dit.h"
#include "server/inference/state_messages.h"
#include "server/inference/store_call.h"
#include "server/inference/unary_call.h"

namespace dreamstate::server {
namespace {

absl::StatusOr<std::shared_ptr<const state::Record>> Get(state::StateStore& store, Metrics& metrics,
                                                         const std::string& id) {
  return Measured(metrics, "get", [&] { return store.Get(kTenant, id); });
}

void ToMessage(const state::Difference& difference, v1::HeadDifference* out) {
  out->set_cosine(static_cast<float>(difference.cosine));
  out->set_relative_distance(static_cast<float>(difference.relative_distance));
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

absl::Status DescribeEnergy(const ServingContext& context, Metrics& metrics,
                            const state::Record& record, v1::DescribeStateResponse* response) {
  if (context.diffusion == nullptr) return absl::OkStatus();
  const std::shared_ptr<const StateDit> dit = FindStateDit(*context.models, record);
  if (dit == nullptr) return absl::OkStatus();
  DS_ASSIGN_OR_RETURN(const Judgement judgement,
                      Judge({context, nullptr, &metrics}, *dit, record.state, ""));
  response->set_energy(judgement.energy);
  if (judgement.verdict) server::ToMessage(*judgement.verdict, response->mutable_safety());
  return absl::OkStatus();
}

}  // namespace

absl::Status DescribeState(const ServingContext& context, Metrics& metrics,
                           const grpc::CallbackServerContext& call,
                           const v1::DescribeStateRequest& request,
                           v1::DescribeStateResponse* response) {
  state::StateStore& store = *context.store;
  DS_ASSIGN_OR_RETURN(const std::string id, ParseStateName("name", request.name()));
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const state::Record> record, Get(store, metrics, id));
  DS_ASSIGN_OR_RETURN(const state::Description description,
                      Measured(metrics, "describe", [&] { return store.Describe(kTenant, id); }));
  *response->mutable_state() = server::ToMessage(description);
  const state::State& state = record->state;
  for (int layer = 0; layer < state.shape.layers; ++layer) {
    DS_RETURN_IF_ERROR(CheckWanted(call));
    for (int head = 0; head < state.shape.heads; ++head) {
      const state::HeadGeometry geometry =
          state::GeometryOf(state::HeadOf(state, layer, head), state.shape.head_size);
      v1::HeadGeometry* const message = response->add_heads();
      message->set_rms(static_cast<float>(geometry.rms));
      message->set_spectral_norm(static_cast<float>(geometry.spectral_norm));
      message->set_stable_rank(static_cast<float>(geometry.stable_rank));
    }
    response->add_time_mix_shift_rms(
        static_cast<float>(state::RootMeanSquare(state::ShiftOf(state, layer, 0))));
    response->add_channel_mix_shift_rms(
        static_cast<float>(state::RootMeanSquare(state::ShiftOf(state, layer, 1))));
  }
  return DescribeEnergy(context, metrics, *record, response);
}

absl::Status CompareStates(state::StateStore& store, Metrics& metrics,
                           const v1::CompareStatesRequest& request,
                           v1::CompareStatesResponse* response) {
  DS_ASSIGN_OR_RETURN(const std::string first_id, ParseStateName("first", request.first()));
  DS_ASSIGN_OR_RETURN(const std::string second_id, ParseStateName("second", request.second()));
  DS_ASSIGN_OR_RETURN(const auto first, Get(store, metrics, first_id));
  DS_ASSIGN_OR_RETURN(const auto second, Get(store, metrics, second_id));
  if (first->fingerprint != second->fingerprint) {
    return FingerprintError(request.second(), first->fingerprint, second->fingerprint);
  }
  if (first->state.shape != second->state.shape) {
    return FieldError("second", "expected a state of the same shape as the first");
  }
  const state::StateDifference difference = state::Compare(first->state, second->state);
  ToMessage(difference.total, response->mutable_total());
  for (const state::Difference& head : difference.heads) ToMessage(head, response->add_heads());
  for (const state::Difference& shift : difference.time_mix_shift) {
    ToMessage(shift, response->add_time_mix_shift());
  }
  for (const state::Difference& shift : difference.channel_mix_shift) {
    ToMessage(shift, response->add_channel_mix_shift());
  }
  response->set_identical(SameBits(first->state.shift, second->state.shift) &&
                          SameBits(first->state.wkv, second->state.wkv) &&
                          SameBits(first->last_hidden, second->last_hidden));
  return absl::OkStatus();
}

}  // namespace dreamstate::server
