// Turns the options of an upload into a plan that holds nothing unchecked, and the file into the
// record that is stored. INVALID_ARGUMENT with the path of the field at fault, from the stream's
// message down ("options.dtype"); what is wrong with the file is said of "chunk".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/state/layouts.h"
#include "core/state/store.h"
#include "dreamstate/v1/state_service.pb.h"
#include "server/inference/model_session.h"
#include "server/inference/request_limits.h"

namespace dreamstate::server {

// What an upload is for. Holds no session, so that a slow upload keeps no model alive.
struct UploadPlan {
  std::string model;  // without "models/"
  std::string fingerprint;
  state::Shape shape;
  int64_t vocab = 0;
  state::LayoutOptions layout;
  state::Annotations annotations;
  int64_t token_count = 0;
  std::string request_id;
  int64_t most_bytes = 0;  // of a file that can be one
};

absl::StatusOr<UploadPlan> ValidateUploadOptions(const v1::UploadOptions& options,
                                                 const ModelDirectory& models,
                                                 const RequestLimits& limits);

// `sha256` is the file's. FAILED_PRECONDITION with both fingerprints for a record of another
// backbone. Of a record the tokens, the last hidden vector and the numerics are kept, and who made
// it is in the arguments of its new lineage, as "original": its parents are of the store that it
// came from.
absl::StatusOr<state::Record> RecordOfUpload(const UploadPlan& plan, std::string_view file,
                                             const std::string& sha256);

// Nothing for the unspecified one.
absl::StatusOr<std::optional<state::Layout>> FromMessage(std::string_view field,
                                                         v1::StateLayout layout);
absl::StatusOr<std::optional<tensors::DType>> FromMessage(std::string_view field,
                                                          v1::StateDType dtype);

}  // namespace dreamstate::server
