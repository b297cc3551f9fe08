// The version of a model that should serve and does not, because it was rejected.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "client/client.h"

namespace dreamstate::cli {

// The newest rejected version of those that would come before the one that serves: of the pinned
// one alone while a version is pinned, else of all that are newer. Nothing where none was rejected.
absl::StatusOr<std::optional<v1::ModelVersion>> FindRejected(client::Client& client,
                                                             const v1::Model& model,
                                                             client::CallOptions options);

}  // namespace dreamstate::cli
