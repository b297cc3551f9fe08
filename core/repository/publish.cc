#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_format.h"
#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/random.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/blob.h"
#include "core/repository/layout.h"
#include "core/repository/repository.h"

namespace dreamstate::repository {
namespace {

// The newest version in the repository, and the newest that can be read.
struct Newest {
  int64_t version = 0;
  const Manifest* manifest = nullptr;
};

Newest FindNewest(const std::vector<VersionInfo>& versions) {
  Newest newest;
  if (!versions.empty()) newest.version = versions.front().version;
  for (const VersionInfo& info : versions) {
    if (info.manifest.ok()) {
      newest.manifest = &*info.manifest;
      break;
    }
  }
  return newest;
}

absl::Status CheckKeepsComponents(const Manifest& before, const Manifest& now) {
  for (const Component& component : before.components) {
    if (now.Find(component.kind) == nullptr) {
      return absl::FailedPreconditionError(
          StrCat("model ", now.model, ": version ", before.version, " has a ", component.kind,
                 ", this one lacks it; publishing it must be asked for"));
    }
  }
  return absl::OkStatus();
}

// Gives the manifest its name, unless another publisher was quicker: then ALREADY_EXISTS.
absl::Status LinkManifest(const std::string& repository, const Manifest& manifest) {
  const std::string path = ManifestPath(repository, manifest.model, manifest.version);
  const std::string temporary = absl::StrFormat("%s.tmp-%016x", path, EntropyBits());
  DS_RETURN_IF_ERROR(WriteFileAtomically(temporary, SerializeManifest(manifest)));
  absl::Status status;
  if (link(temporary.c_str(), path.c_str()) != 0) {
    status = errno == EEXIST ? absl::AlreadyExistsError(path)
                             : absl::ErrnoToStatus(errno, StrCat("cannot link ", path));
  }
  // Left behind, it only waits for the collector.
  unlink(temporary.c_str());
  return status;
}

}  // namespace

absl::StatusOr<Manifest> Repository::Publish(Manifest manifest,
                                             const std::vector<ComponentSource>& components,
                                             bool allow_losing_components) {
  DS_RETURN_IF_ERROR(ValidateModelName(manifest.model));
  manifest.components.clear();
  for (const ComponentSource& source : components) {
    Component component;
    component.kind = source.kind;
    component.config = source.config;
    component.digest = source.digest;
    DS_RETURN_IF_ERROR(StoreBlob(path_, *source.tensors, &component));
    manifest.components.push_back(std::move(component));
  }
  const std::string directory = ModelDirectory(path_, manifest.model);
  DS_RETURN_IF_ERROR(MakeDirectories(directory));
  manifest.created = Clock::Real().Now();
  for (;;) {
    absl::StatusOr<std::vector<VersionInfo>> versions = ListVersions(manifest.model);
    if (absl::IsNotFound(versions.status())) versions = std::vector<VersionInfo>();
    if (!versions.ok()) return versions.status();
    const Newest newest = FindNewest(*versions);
    if (newest.manifest != nullptr && !allow_losing_components) {
      DS_RETURN_IF_ERROR(CheckKeepsComponents(*newest.manifest, manifest));
    }
    if (newest.version >= kMostVersion) {
      return absl::FailedPreconditionError(
          StrCat("model ", manifest.model, ": no number is left above version ", newest.version));
    }
    manifest.version = newest.version + 1;
    // What a reader would refuse is not published.
    DS_RETURN_IF_ERROR(
        ParseManifest("the manifest to publish", SerializeManifest(manifest)).status());
    const absl::Status linked = LinkManifest(path_, manifest);
    if (linked.ok()) break;
    // The number is taken: some other publisher got on, so this loop ends.
    if (!absl::IsAlreadyExists(linked)) return linked;
  }
  DS_RETURN_IF_ERROR(SyncDirectory(directory));
  // A collector that looked before the manifest was there may have taken a blob that had been there
  // for long.
  for (size_t i = 0; i < components.size(); ++i) {
    if (!BlobExists(path_, manifest.components[i])) {
      DS_RETURN_IF_ERROR(StoreBlob(path_, *components[i].tensors, &manifest.components[i]));
    }
  }
  return manifest;
}

}  // namespace dreamstate::repository
