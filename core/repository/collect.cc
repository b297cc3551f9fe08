#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <set>
#include <string_view>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/layout.h"
#include "core/repository/repository.h"

namespace dreamstate::repository {
namespace {

// Names in a directory that may be missing.
absl::StatusOr<std::vector<std::string>> NamesIn(const std::string& path) {
  absl::StatusOr<std::vector<std::string>> names = ListDirectory(path);
  if (absl::IsNotFound(names.status())) return std::vector<std::string>();
  return names;
}

// Looks into a directory whose files go on changing their names.
constexpr int kMostLooks = 100;

// A link to nothing: listed, and never to be opened.
bool IsLink(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0 && S_ISLNK(info.st_mode);
}

class Collector {
 public:
  Collector(const std::string& repository, absl::Duration grace)
      : repository_(repository), oldest_kept_(Clock::Real().Now() - grace) {}

  absl::StatusOr<CollectReport> Run() {
    DS_ASSIGN_OR_RETURN(const std::vector<std::string> blobs, NamesIn(BlobDirectory(repository_)));
    std::error_code error;
    // A mount or a link that is missing just now is not a repository without models.
    if (!std::filesystem::is_directory(BundlesDirectory(repository_), error)) return report_;
    // Manifests after the list of blobs: a blob that appears in between is not looked at.
    DS_RETURN_IF_ERROR(ReadManifests());
    for (const std::string& name : blobs) {
      const std::string path = BlobPath(repository_, name);
      if (IsTemporaryName(name)) {
        DS_RETURN_IF_ERROR(RemoveTemporary(path));
      } else if (IsDigest(name) && !named_.contains(name)) {
        DS_ASSIGN_OR_RETURN(const int64_t bytes, RemoveWhenOld(path));
        if (bytes < 0) continue;
        ++report_.blobs_removed;
        report_.bytes_freed += bytes;
      }
    }
    return report_;
  }

 private:
  absl::Status ReadManifests() {
    const std::string bundles = BundlesDirectory(repository_);
    DS_ASSIGN_OR_RETURN(const std::vector<std::string> models, NamesIn(bundles));
    // Also of a model that a person put aside under a name that is none.
    for (const std::string& model : models) {
      std::error_code error;
      const std::string directory = StrCat(bundles, "/", model);
      if (!std::filesystem::is_directory(directory, error)) continue;
      DS_RETURN_IF_ERROR(ReadModel(directory));
    }
    return absl::OkStatus();
  }

  // Retain changes names meanwhile (retire, and take back what somebody pinned): a file that was
  // listed and is gone may be there under another name. So the directory is looked into until a
  // look finds nothing that was not read before.
  absl::Status ReadModel(const std::string& directory) {
    std::set<std::string> read;
    for (int look = 0; look < kMostLooks; ++look) {
      DS_ASSIGN_OR_RETURN(const std::vector<std::string> names, NamesIn(directory));
      bool settled = true;
      for (const std::string& name : names) {
        const std::string path = StrCat(directory, "/", name);
        if (IsTemporaryName(name)) {
          if (look == 0) DS_RETURN_IF_ERROR(RemoveTemporary(path));
          continue;
        }
        if (read.contains(name)) continue;
        settled = false;
        // Any other file may name blobs, also one that a person put aside.
        const auto file = MappedFile::Open(path);
        if (absl::IsNotFound(file.status()) && !IsLink(path)) continue;
        read.insert(name);
        if (absl::IsNotFound(file.status()) || absl::IsFailedPrecondition(file.status())) continue;
        if (!file.ok()) return file.status();
        named_.merge(DigestsIn(
            {reinterpret_cast<const char*>((*file)->bytes().data()), (*file)->bytes().size()}));
      }
      if (settled) return absl::OkStatus();
    }
    return absl::AbortedError(StrCat("files appear and go in ", directory, ", seen ", kMostLooks,
                                     " times: nothing was removed that they may name"));
  }

  absl::Status RemoveTemporary(const std::string& path) {
    DS_ASSIGN_OR_RETURN(const int64_t bytes, RemoveWhenOld(path));
    if (bytes >= 0) {
      ++report_.temporary_files_removed;
      report_.bytes_freed += bytes;
    }
    return absl::OkStatus();
  }

  // The bytes of a file that was removed; -1 when it is too young or gone. Looks at the age just
  // before it removes: a publisher that reuses a blob makes it young.
  absl::StatusOr<int64_t> RemoveWhenOld(const std::string& path) {
    struct stat info;
    if (stat(path.c_str(), &info) != 0) {
      if (errno == ENOENT) return -1;
      return absl::ErrnoToStatus(errno, StrCat("cannot read ", path));
    }
    if (absl::TimeFromTimespec(info.st_mtim) > oldest_kept_ || !S_ISREG(info.st_mode)) return -1;
    if (unlink(path.c_str()) != 0) {
      if (errno == ENOENT) return -1;  // another collector
      return absl::ErrnoToStatus(errno, StrCat("cannot remove ", path));
    }
    return int64_t{info.st_size};
  }

  const std::string& repository_;
  const absl::Time oldest_kept_;
  std::set<std::string> named_;
  CollectReport report_;
};

}  // namespace

absl::StatusOr<CollectReport> Repository::Collect(absl::Duration grace) const {
  return Collector(path_, grace).Run();
}

}  // namespace dreamstate::repository
