// Where reading begins: the empty state, a stored state, or one that was sent along.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/rwkv/engine.h"
#include "core/state/record.h"
#include "nlohmann/json.hpp"
#include "server/inference/model_session.h"
#include "server/inference/serving_context.h"

namespace dreamstate::server {

struct Source {
  // Null: the empty state.
  std::shared_ptr<const state::Record> record;
  // Of a stored state; empty otherwise.
  std::string id;
  // Of a stored state: the version that it is read on, which has its backbone.
  std::shared_ptr<const ModelSession> session = nullptr;

  int64_t token_count() const { return record == nullptr ? 0 : record->token_count; }
  // Whether next-token logits are known without reading anything. Never of the empty state: there
  // the separator comes first.
  bool has_last_hidden() const { return record != nullptr && !record->last_hidden.empty(); }
  // Puts the state into a slot.
  void Load(rwkv::Engine& engine, int slot) const;
  // "empty", "inline" or the state's name, for lineage.
  std::string Description() const;
};

// FAILED_PRECONDITION with both fingerprints when `record` is of another backbone than `session`;
// INVALID_ARGUMENT when its shape is not the model's. `subject` names the state, a field path or a
// resource name.
absl::Status CheckBackbone(const state::Record& record, const ModelSession& session,
                           std::string_view subject);

// FAILED_PRECONDITION when a state that was read from `source` is no longer finite.
absl::Status CheckNotOverflowed(const state::Record& record, const Source& source);

// Gets state `id` from the store on the executor and gives it to `done` on the executor's thread,
// or the error (`done` is then called either there or before this returns). A state of another
// backbone than `session` has goes to the live version of the same model that has it, which is then
// the source's session: what was checked against `session` is to be checked again. Empty `id`: the
// empty state, at once. `done` must not throw.
void FetchSource(const ServingContext& context, std::shared_ptr<const ModelSession> session,
                 const std::string& id, std::function<void(absl::StatusOr<Source>)> done);

}  // namespace dreamstate::server
