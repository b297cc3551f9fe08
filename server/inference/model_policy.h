// Which version to load next: a pure function over a snapshot, so that every rule is a row of a
// table test.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dreamstate::server {

// Where a version of a model stands. Anything may turn into kFailed.
enum class VersionState {
  kDiscovered,
  kVerifying,
  kLoading,
  kWarmingUp,
  kServing,
  kDraining,
  kReleased,
  kFailed,
};
// "discovered", "verifying", …
std::string_view VersionStateName(VersionState state);

struct VersionView {
  int64_t version;
  VersionState state;
};

struct ModelView {
  std::string model;
  std::vector<VersionView> versions;  // newest first
};

struct LoadTarget {
  std::string model;
  int64_t version;
  friend bool operator==(const LoadTarget&, const LoadTarget&) = default;
};

// One load at a time. A model that serves keeps its version; one that does not gets its newest
// version that has not failed. Models are looked at in the order given.
std::optional<LoadTarget> NextLoad(std::span<const ModelView> models);

}  // namespace dreamstate::server
