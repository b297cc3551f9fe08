#include "core/repository/repository.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/blob.h"
#include "core/repository/layout.h"

namespace dreamstate::repository {
namespace {

// Oldest first; empty when the directory is missing.
absl::StatusOr<std::vector<int64_t>> VersionNumbers(const std::string& directory) {
  std::vector<int64_t> versions;
  const absl::StatusOr<std::vector<std::string>> names = ListDirectory(directory);
  if (absl::IsNotFound(names.status())) return versions;
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    if (const auto version = VersionOfFile(name)) versions.push_back(*version);
  }
  std::sort(versions.begin(), versions.end());
  return versions;
}

absl::StatusOr<Manifest> ReadManifest(const std::string& repository, const std::string& model,
                                      int64_t version) {
  const std::string path = ManifestPath(repository, model, version);
  DS_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxManifestBytes));
  DS_ASSIGN_OR_RETURN(Manifest manifest, ParseManifest(path, text));
  if (manifest.model != model || manifest.version != version) {
    return absl::InvalidArgumentError(StrCat("manifest: expected ", model, " version ", version,
                                             ", found ", manifest.model, " version ",
                                             manifest.version, " (", path, ")"));
  }
  return manifest;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Repository>> Repository::Open(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    const absl::Status reason = absl::ErrnoToStatus(errno, StrCat("model repository ", path));
    return absl::FailedPreconditionError(reason.message());
  }
  if (!S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(
        StrCat("model repository ", path, ": expected a directory, found something else"));
  }
  return std::unique_ptr<Repository>(new Repository(path));
}

absl::StatusOr<std::unique_ptr<Repository>> Repository::Create(const std::string& path) {
  DS_RETURN_IF_ERROR(MakeDirectories(path));
  return Open(path);
}

absl::StatusOr<std::vector<std::string>> Repository::ListModels() const {
  std::vector<std::string> models;
  const absl::StatusOr<std::vector<std::string>> names = ListDirectory(BundlesDirectory(path_));
  if (absl::IsNotFound(names.status())) return models;  // nothing was published yet
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    if (!ValidateModelName(name).ok()) continue;
    // A publisher makes the directory before its first version.
    const auto versions = VersionNumbers(ModelDirectory(path_, name));
    if (versions.ok() && !versions->empty()) models.push_back(name);
  }
  return models;
}

absl::StatusOr<std::vector<int64_t>> Repository::ListVersionNumbers(
    const std::string& model) const {
  DS_RETURN_IF_ERROR(ValidateModelName(model));
  DS_ASSIGN_OR_RETURN(std::vector<int64_t> versions, VersionNumbers(ModelDirectory(path_, model)));
  if (versions.empty()) {
    return ResourceError(absl::StatusCode::kNotFound, "model", model,
                         StrCat("no version of it in ", path_));
  }
  std::reverse(versions.begin(), versions.end());
  return versions;
}

absl::StatusOr<Manifest> Repository::ReadVersion(const std::string& model, int64_t version) const {
  DS_RETURN_IF_ERROR(ValidateModelName(model));
  return ReadManifest(path_, model, version);
}

absl::StatusOr<std::vector<VersionInfo>> Repository::ListVersions(const std::string& model) const {
  DS_ASSIGN_OR_RETURN(const std::vector<int64_t> versions, ListVersionNumbers(model));
  std::vector<VersionInfo> list;
  for (const int64_t version : versions) {
    list.push_back({version, ReadManifest(path_, model, version)});
  }
  return list;
}

absl::Status Repository::Verify(const Manifest& manifest) const {
  for (const Component& component : manifest.components) {
    DS_RETURN_IF_ERROR(LoadBlob(path_, component).status());
  }
  return absl::OkStatus();
}

absl::StatusOr<tensors::TensorSet> Repository::LoadComponent(const Manifest& manifest,
                                                             std::string_view kind,
                                                             const Stopping& stopping) const {
  const Component* component = manifest.Find(kind);
  if (component == nullptr) {
    return ResourceError(
        absl::StatusCode::kNotFound, "component", kind,
        StrCat("version ", manifest.version, " of model ", manifest.model, " has none"));
  }
  return LoadBlob(path_, *component, stopping);
}

}  // namespace dreamstate::repository
