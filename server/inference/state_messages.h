// States between their stored form and the public contract's messages. Field paths in errors are
// relative to the message.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/state/store.h"
#include "dreamstate/v1/common.pb.h"
#include "dreamstate/v1/state_service.pb.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "nlohmann/json.hpp"

namespace dreamstate::server {

// The tenant of every caller until there are several.
inline constexpr char kTenant[] = "default";

google::protobuf::Timestamp ToTimestampMessage(absl::Time time);
// Anything but an object gives an empty struct.
void ToStructMessage(const nlohmann::json& object, google::protobuf::Struct* out);
v1::StateShape ToMessage(const state::Shape& shape);
v1::State ToMessage(const state::Description& description);
// The tensors of a record, with shape, fingerprint and token count.
v1::StateTensors ToTensorsMessage(const state::Record& record);

// 64 lower-case hexadecimal digits.
bool IsFingerprint(std::string_view text);

// Untrusted: sizes, finite values, fingerprint and token count are checked.
absl::StatusOr<state::Record> FromTensorsMessage(const v1::StateTensors& message);
absl::StatusOr<absl::Duration> FromDurationMessage(std::string_view field,
                                                   const google::protobuf::Duration& message);
absl::StatusOr<absl::Time> FromTimestampMessage(std::string_view field,
                                                const google::protobuf::Timestamp& message);
absl::StatusOr<state::Annotations> FromMessage(const v1::Annotations& message);

}  // namespace dreamstate::server
