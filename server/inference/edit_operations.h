// What EditState does to a state: one function an operation, in one table.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/state/algebra.h"
#include "dreamstate/v1/generation_service.pb.h"
#include "server/inference/generation_context.h"
#include "server/inference/generation_validation.h"

namespace dreamstate::server {

// One EditState call as its operation sees it. Operations wait for the store, the engine and the
// state DiT's loop.
class Editing {
 public:
  // All outlives this. `record` is the state that is edited.
  Editing(const GenerationContext& context, const v1::EditStateRequest& request,
          const CallTimes& times, DiffusionLoop::Wanted wanted,
          std::shared_ptr<const state::Record> record);

  const GenerationContext& context() const { return context_; }
  const v1::EditStateRequest& request() const { return request_; }
  const CallTimes& times() const { return times_; }
  const state::Record& record() const { return *record_; }
  const state::State& state() const { return record_->state; }
  const state::HeadMask& mask() const { return mask_; }
  const DiffusionLoop::Wanted& wanted() const { return wanted_; }

  // Reads the mask.
  absl::Status Begin();

  // A served version of the state's backbone. FAILED_PRECONDITION when there is none.
  absl::StatusOr<std::shared_ptr<const ModelSession>> Session();
  // Its state DiT.
  absl::StatusOr<std::shared_ptr<const StateDit>> Dit();
  // Another state that the request names, of the same backbone and shape. Named parents become the
  // new state's.
  absl::StatusOr<std::shared_ptr<const state::Record>> Other(const std::string& field,
                                                             const std::string& name);
  // Options that are drawn from; the seed is remembered for the answer.
  absl::StatusOr<GenerationPlan> Options(const std::string& field,
                                         const v1::GenerationOptions& message);
  absl::StatusOr<std::vector<diffusion::StateCondition>> Conditions(
      const std::string& field, const ConditionMessages& messages);

  const std::vector<std::string>& parents() const { return parents_; }
  const std::optional<uint64_t>& seed() const { return seed_; }

 private:
  const GenerationContext& context_;
  const v1::EditStateRequest& request_;
  const CallTimes& times_;
  const DiffusionLoop::Wanted wanted_;
  const std::shared_ptr<const state::Record> record_;
  state::HeadMask mask_;
  std::shared_ptr<const ModelSession> session_;
  std::vector<std::string> parents_;  // ids
  std::optional<uint64_t> seed_;
};

// The state after the request's operation, before mask and projection. INVALID_ARGUMENT naming the
// field; FAILED_PRECONDITION where a state DiT is needed and there is none.
absl::StatusOr<state::State> ApplyOperation(Editing& editing);

// A state noised and made anew (EditStateRequest.Project); `field` is where the message stands.
absl::StatusOr<state::State> ProjectState(Editing& editing, const std::string& field,
                                          const v1::EditStateRequest::Project& message,
                                          const state::State& state);

}  // namespace dreamstate::server
