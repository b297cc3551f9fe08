#include "core/repository/layout.h"

#include <algorithm>
#include <charconv>

#include "core/base/strings.h"

namespace dreamstate::repository {
namespace {

constexpr std::string_view kManifestSuffix = ".json";
constexpr std::string_view kRetiredSuffix = ".json.retired";

std::optional<int64_t> VersionBefore(std::string_view name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return std::nullopt;
  name.remove_suffix(suffix.size());
  int64_t version = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), version);
  // One spelling a number.
  if (error != std::errc() || StrCat(version) != name || version < 1 || version > kMostVersion) {
    return std::nullopt;
  }
  return version;
}

}  // namespace

bool IsDigest(std::string_view text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::set<std::string> DigestsIn(std::string_view text) {
  constexpr size_t kDigits = 64;
  std::set<std::string> digests;
  for (size_t i = 0; i + kDigits <= text.size();) {
    const std::string_view run = text.substr(i, kDigits);
    if (IsDigest(run)) {
      digests.emplace(run);
      i += kDigits;
    } else {
      ++i;
    }
  }
  return digests;
}

std::string BlobDirectory(const std::string& repository) {
  return StrCat(repository, "/blobs/sha256");
}

std::string BlobPath(const std::string& repository, const std::string& digest) {
  return StrCat(BlobDirectory(repository), "/", digest);
}

std::string BundlesDirectory(const std::string& repository) {
  return StrCat(repository, "/bundles");
}

std::string ModelDirectory(const std::string& repository, const std::string& model) {
  return StrCat(BundlesDirectory(repository), "/", model);
}

std::string ManifestPath(const std::string& repository, const std::string& model, int64_t version) {
  return StrCat(ModelDirectory(repository, model), "/", version, kManifestSuffix);
}

std::string PinPath(const std::string& repository, const std::string& model) {
  return StrCat(ModelDirectory(repository, model), "/pin");
}

std::string RetiredPath(const std::string& repository, const std::string& model, int64_t version) {
  return StrCat(ModelDirectory(repository, model), "/", version, kRetiredSuffix);
}

std::optional<int64_t> VersionOfFile(std::string_view name) {
  return VersionBefore(name, kManifestSuffix);
}

std::optional<int64_t> VersionOfRetiredFile(std::string_view name) {
  return VersionBefore(name, kRetiredSuffix);
}

}  // namespace dreamstate::repository
