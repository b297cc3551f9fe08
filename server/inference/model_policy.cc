#include "server/inference/model_policy.h"

#include <algorithm>

namespace dreamstate::server {
namespace {

bool InProgress(VersionState state) {
  return state == VersionState::kVerifying || state == VersionState::kLoading ||
         state == VersionState::kWarmingUp;
}

}  // namespace

std::string_view VersionStateName(VersionState state) {
  static constexpr std::string_view kNames[] = {"discovered", "verifying", "loading",  "warming up",
                                                "serving",    "draining",  "released", "failed"};
  return kNames[static_cast<int>(state)];
}

std::optional<LoadTarget> NextLoad(std::span<const ModelView> models) {
  const auto any = [](const ModelView& model, auto&& predicate) {
    return std::any_of(model.versions.begin(), model.versions.end(),
                       [&](const VersionView& version) { return predicate(version.state); });
  };
  for (const ModelView& model : models) {
    if (any(model, InProgress)) return std::nullopt;
  }
  for (const ModelView& model : models) {
    if (any(model, [](VersionState state) { return state == VersionState::kServing; })) continue;
    const auto next = std::find_if(
        model.versions.begin(), model.versions.end(),
        [](const VersionView& version) { return version.state == VersionState::kDiscovered; });
    if (next != model.versions.end()) return LoadTarget{model.model, next->version};
  }
  return std::nullopt;
}

}  // namespace dreamstate::server
