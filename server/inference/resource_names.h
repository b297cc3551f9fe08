// Names of resources as requests write them: "models/{model}", "models/{model}/versions/{version}",
// "states/{state}". INVALID_ARGUMENT names the field and the form that was expected.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace dreamstate::server {

// The model's name without "models/".
absl::StatusOr<std::string> ParseModelName(std::string_view field, std::string_view name);
struct VersionName {
  std::string model;
  int64_t version = 0;
};
absl::StatusOr<VersionName> ParseVersionName(std::string_view field, std::string_view name);
// The state's id without "states/": 1 to 64 of a-z 0-9.
absl::StatusOr<std::string> ParseStateName(std::string_view field, std::string_view name);

std::string ModelResourceName(std::string_view model);
std::string VersionResourceName(std::string_view model, int64_t version);
std::string StateResourceName(std::string_view id);

}  // namespace dreamstate::server
