#include "server/inference/resource_names.h"

#include <algorithm>
#include <charconv>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/manifest.h"

namespace dreamstate::server {
namespace {

constexpr std::string_view kModels = "models/";
constexpr std::string_view kStates = "states/";
constexpr size_t kMaxStateIdBytes = 64;

}  // namespace

absl::StatusOr<std::string> ParseModelName(std::string_view field, std::string_view name) {
  if (!name.starts_with(kModels) ||
      !repository::ValidateModelName(name.substr(kModels.size())).ok()) {
    return FieldError(
        field,
        "expected models/{model}, a model being 1 to 63 of a-z 0-9 - . _ that begin with a letter "
        "or digit");
  }
  return std::string(name.substr(kModels.size()));
}

absl::StatusOr<VersionName> ParseVersionName(std::string_view field, std::string_view name) {
  constexpr std::string_view kVersions = "/versions/";
  const size_t at = name.find(kVersions);
  if (at != std::string_view::npos) {
    const absl::StatusOr<std::string> model = ParseModelName(field, name.substr(0, at));
    const std::string_view number = name.substr(at + kVersions.size());
    int64_t version = 0;
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), version);
    if (model.ok() && error == std::errc() && version >= 1 && StrCat(version) == number) {
      return VersionName{*model, version};
    }
  }
  return FieldError(field,
                    "expected models/{model}/versions/{version}, a version being a number from 1");
}

absl::StatusOr<std::string> ParseStateName(std::string_view field, std::string_view name) {
  const auto malformed = [&] {
    return FieldError(field, "expected states/{state}, a state being 1 to 64 of a-z 0-9");
  };
  if (!name.starts_with(kStates)) return malformed();
  const std::string_view id = name.substr(kStates.size());
  const bool known_characters = std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
  });
  if (id.empty() || id.size() > kMaxStateIdBytes || !known_characters) return malformed();
  return std::string(id);
}

std::string ModelResourceName(std::string_view model) { return StrCat(kModels, model); }

std::string VersionResourceName(std::string_view model, int64_t version) {
  return StrCat(kModels, model, "/versions/", version);
}

std::string StateResourceName(std::string_view id) { return StrCat(kStates, id); }

}  // namespace dreamstate::server
