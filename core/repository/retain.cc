// A version is retired in two steps: its manifest gets another name, then, when still nobody has
// pinned it, goes. Whoever pins writes the pin first and looks for the manifest then, so that one
// of the two sees the other.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <span>

#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/layout.h"
#include "core/repository/repository.h"

namespace dreamstate::repository {
namespace {

absl::Status Rename(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, StrCat("cannot rename ", from));
}

// Makes the blobs that a manifest names young, so that Collect's grace counts from now.
absl::Status TouchBlobs(const std::string& repository, const std::string& manifest) {
  const auto file = MappedFile::Open(manifest);
  if (absl::IsNotFound(file.status())) return absl::OkStatus();  // another's work
  if (!file.ok()) return file.status();
  const std::span<const std::byte> bytes = (*file)->bytes();
  for (const std::string& digest :
       DigestsIn({reinterpret_cast<const char*>(bytes.data()), bytes.size()})) {
    const std::string blob = BlobPath(repository, digest);
    if (utimensat(AT_FDCWD, blob.c_str(), nullptr, 0) != 0 && errno != ENOENT) {
      return absl::ErrnoToStatus(errno, StrCat("cannot change the time of ", blob));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CollectReport> Repository::Retain(const std::string& model, int keep) {
  if (keep < 1) {
    return absl::InvalidArgumentError(StrCat("versions to keep: expected 1 or more, found ", keep));
  }
  DS_ASSIGN_OR_RETURN(const std::vector<int64_t> versions, ListVersionNumbers(model));
  DS_ASSIGN_OR_RETURN(std::optional<int64_t> pinned, Pinned(model));
  const size_t kept = std::min(versions.size(), static_cast<size_t>(keep));
  for (size_t i = kept; i < versions.size(); ++i) {
    if (versions[i] == pinned) continue;
    DS_RETURN_IF_ERROR(
        Rename(ManifestPath(path_, model, versions[i]), RetiredPath(path_, model, versions[i])));
  }
  // Those of a run before that was cut off are among them.
  const std::string directory = ModelDirectory(path_, model);
  DS_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(directory));
  DS_ASSIGN_OR_RETURN(pinned, Pinned(model));
  CollectReport report;
  for (const std::string& name : names) {
    const std::optional<int64_t> version = VersionOfRetiredFile(name);
    if (!version) continue;
    const std::string retired = RetiredPath(path_, model, *version);
    if (version == pinned) {
      DS_RETURN_IF_ERROR(Rename(retired, ManifestPath(path_, model, *version)));
      continue;
    }
    DS_RETURN_IF_ERROR(TouchBlobs(path_, retired));
    if (unlink(retired.c_str()) == 0) {
      ++report.versions_removed;
    } else if (errno != ENOENT) {
      return absl::ErrnoToStatus(errno, StrCat("cannot remove ", retired));
    }
  }
  DS_RETURN_IF_ERROR(SyncDirectory(directory));
  return report;
}

}  // namespace dreamstate::repository
