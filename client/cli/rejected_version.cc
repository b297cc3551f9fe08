#include "client/cli/rejected_version.h"

namespace dreamstate::cli {

absl::StatusOr<std::optional<v1::ModelVersion>> FindRejected(client::Client& client,
                                                             const v1::Model& model,
                                                             client::CallOptions options) {
  client::Pages<v1::ModelVersion> versions = client.ModelVersions(model.name(), options);
  for (;;) {
    absl::StatusOr<std::optional<v1::ModelVersion>> next = versions.Next();  // newest first
    if (!next.ok() || !next->has_value()) return next;
    const v1::ModelVersion& version = **next;
    // A pin may ask for an older one than serves.
    if (!model.pinned_version().empty() && version.name() != model.pinned_version()) continue;
    if (version.name() == model.serving_version()) return std::nullopt;
    if (version.state() == v1::ModelVersion::FAILED) return next;
  }
}

}  // namespace dreamstate::cli
