// What an error answer says, for tests.
#pragma once

#include <optional>
#include <string>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/status.h"

namespace dreamstate::testing {

// The first detail of that type.
template <typename Detail>
std::optional<Detail> FindDetail(const grpc::Status& status) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return std::nullopt;
  for (const google::protobuf::Any& any : details.details()) {
    if (Detail detail; any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

// The path of the field at fault; "" when the answer names none.
inline std::string FieldOf(const grpc::Status& status) {
  const auto bad_request = FindDetail<google::rpc::BadRequest>(status);
  if (!bad_request || bad_request->field_violations_size() == 0) return "";
  return bad_request->field_violations(0).field();
}

}  // namespace dreamstate::testing
