// States between their stored form and the public contract's messages.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/state/store.h"
#include "dreamstate/v1/state_service.pb.h"

namespace dreamstate::server {

// The tenant of every caller until there are several.
inline constexpr char kTenant[] = "default";

// "states/{id}" -> id. INVALID_ARGUMENT with `field` when the name has another form.
absl::StatusOr<std::string> ParseStateName(std::string_view name, std::string_view field);
std::string StateName(std::string_view id);

void ToMessage(const state::Description& description, v1::State* message);
// The tensors of a record (shape, fingerprint, values, last_hidden, token count).
void ToMessage(const state::Record& record, v1::StateTensors* message);
// Values are checked (sizes, finite, token_count >= 0); INVALID_ARGUMENT with the field's path under `field`.
absl::StatusOr<state::Record> FromMessage(const v1::StateTensors& message, std::string_view field);

absl::StatusOr<state::Annotations> FromMessage(const v1::Annotations& message, std::string_view field);

}  // namespace dreamstate::server
