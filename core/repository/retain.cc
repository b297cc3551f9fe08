// A version is retired in two steps: its manifest gets another name, then, when still nobody has
// pinned it, goes. Whoever pins writes the pin first and looks for the manifest then, so that one
// of the two sees the other.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

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
    } else if (unlink(retired.c_str()) == 0) {
      ++report.versions_removed;
    } else if (errno != ENOENT) {
      return absl::ErrnoToStatus(errno, StrCat("cannot remove ", retired));
    }
  }
  DS_RETURN_IF_ERROR(SyncDirectory(directory));
  return report;
}

}  // namespace dreamstate::repository
