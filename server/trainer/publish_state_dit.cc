#include "server/trainer/publish_state_dit.h"

#include <memory>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/repository.h"

namespace dreamstate::trainer {

absl::StatusOr<repository::Manifest> FindBackbone(const std::string& path, const std::string& model,
                                                  const std::string& fingerprint) {
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<repository::Repository> repository,
                      repository::Repository::Open(path));
  DS_ASSIGN_OR_RETURN(const std::vector<repository::VersionInfo> versions,
                      repository->ListVersions(model));
  for (const repository::VersionInfo& info : versions) {
    if (!info.manifest.ok()) continue;
    const repository::Component* backbone = info.manifest->Find("backbone");
    if (backbone != nullptr && backbone->digest == fingerprint) return *info.manifest;
  }
  return absl::FailedPreconditionError(StrCat("model ", model, " of ", path,
                                              ": expected a version with the backbone ",
                                              fingerprint, ", found none"));
}

absl::StatusOr<int64_t> PublishStateDit(const tensors::TensorSet& set,
                                        const StateDitPublication& publication) {
  DS_ASSIGN_OR_RETURN(
      repository::Manifest manifest,
      FindBackbone(publication.repository, publication.model, publication.backbone));
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<repository::Repository> repository,
                      repository::Repository::Open(publication.repository));
  std::vector<tensors::TensorSet> kept;
  std::vector<repository::ComponentSource> components;
  kept.reserve(manifest.components.size());
  int64_t parameters = 0;
  for (const tensors::Tensor& tensor : set.tensors()) {
    if (tensor.name.starts_with("dit.")) parameters += tensor.elements();
  }
  for (const repository::Component& component : manifest.components) {
    if (component.kind == "state_dit") continue;
    DS_ASSIGN_OR_RETURN(tensors::TensorSet tensors,
                        repository->LoadComponent(manifest, component.kind));
    kept.push_back(std::move(tensors));
    components.push_back({.kind = component.kind,
                          .tensors = &kept.back(),
                          .config = component.config,
                          .digest = component.digest});
  }
  components.push_back({.kind = "state_dit",
                        .tensors = &set,
                        .config = {{"parameters", parameters},
                                   {"labels", publication.labels},
                                   {"taps", publication.taps}}});
  manifest.parents = {manifest.version};
  manifest.metrics["state_dit"] = publication.metrics;
  manifest.metrics["state_dit"]["step"] = publication.step;
  DS_ASSIGN_OR_RETURN(
      const repository::Manifest published,
      repository->Publish(std::move(manifest), components, publication.allow_losing_components));
  return published.version;
}

}  // namespace dreamstate::trainer
