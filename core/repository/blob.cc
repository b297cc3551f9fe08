#include "core/repository/blob.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <utility>

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/layout.h"
#include "core/tensors/safetensors.h"

namespace dreamstate::repository {
namespace {

absl::Status Damaged(const std::string& path, std::string_view problem) {
  return ResourceError(absl::StatusCode::kDataLoss, "blob", path, problem);
}

absl::StatusOr<std::string> HashOf(const MappedFile& file, const Stopping& stopping) {
  absl::StatusOr<std::string> hash = Sha256OfFile(file, stopping);
  if (absl::IsDataLoss(hash.status())) return Damaged(file.path(), "was cut while it was read");
  return hash;
}

absl::StatusOr<tensors::TensorSet> ParseBlob(std::shared_ptr<const MappedFile> file) {
  const std::string path = file->path();
  const std::span<const std::byte> bytes = file->bytes();
  absl::StatusOr<tensors::TensorSet> set = tensors::ParseSafetensors(path, bytes, std::move(file));
  if (!set.ok()) return Damaged(path, StdView(set.status().message()));
  return set;
}

absl::Status CheckFingerprint(const tensors::TensorSet& set, const std::string& digest,
                              const Stopping& stopping) {
  DS_ASSIGN_OR_RETURN(const std::string found, tensors::Fingerprint(set, stopping));
  if (found == digest) return absl::OkStatus();
  return Damaged(set.source(), StrCat("expected fingerprint ", digest, ", found ", found));
}

// Fills what only the file says, when the file is what its name promises.
absl::Status Describe(const std::string& path, Component* component) {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  DS_ASSIGN_OR_RETURN(const tensors::TensorSet set, ParseBlob(file));
  DS_RETURN_IF_ERROR(CheckFingerprint(set, component->digest, Stopping()));
  component->bytes = static_cast<int64_t>(file->bytes().size());
  DS_ASSIGN_OR_RETURN(component->file_sha256, HashOf(*file, Stopping()));
  return absl::OkStatus();
}

}  // namespace

bool BlobExists(const std::string& repository, const Component& component) {
  return access(BlobPath(repository, component.digest).c_str(), F_OK) == 0;
}

absl::Status StoreBlob(const std::string& repository, const tensors::TensorSet& tensors,
                       Component* component) {
  const std::string expected = std::exchange(component->digest, tensors::Fingerprint(tensors));
  if (!expected.empty() && component->digest != expected) {
    return absl::DataLossError(StrCat(component->kind, ": expected fingerprint ", expected,
                                      " as before, found ", component->digest, " (",
                                      tensors.source(), ")"));
  }
  const std::string path = BlobPath(repository, component->digest);
  // The same tensors give the same file: what is there already serves, made young for the collector
  // first.
  if (utimensat(AT_FDCWD, path.c_str(), nullptr, 0) == 0 && Describe(path, component).ok()) {
    return absl::OkStatus();
  }
  DS_RETURN_IF_ERROR(MakeDirectories(BlobDirectory(repository)));
  DS_RETURN_IF_ERROR(tensors::WriteSafetensors(path, tensors.tensors(), {}));
  return Describe(path, component);
}

absl::StatusOr<tensors::TensorSet> LoadBlob(const std::string& repository,
                                            const Component& component, const Stopping& stopping) {
  if (!IsDigest(component.digest)) {
    return absl::InvalidArgumentError(
        StrCat("component ", component.kind, ": expected a digest of 64 hexadecimal digits"));
  }
  const std::string path = BlobPath(repository, component.digest);
  absl::StatusOr<std::shared_ptr<const MappedFile>> file = MappedFile::Open(path);
  if (!file.ok()) {
    if (!absl::IsNotFound(file.status())) return file.status();
    return Damaged(path, StrCat("expected a file of ", component.bytes, " bytes, found none"));
  }
  const auto found = static_cast<int64_t>((*file)->bytes().size());
  if (found != component.bytes) {
    return Damaged(path, StrCat("expected ", component.bytes, " bytes, found ", found));
  }
  // What says in a moment that the file is none comes before what reads all of it.
  DS_ASSIGN_OR_RETURN(tensors::TensorSet set, ParseBlob(*file));
  DS_ASSIGN_OR_RETURN(const std::string hash, HashOf(**file, stopping));
  if (hash != component.file_sha256) {
    return Damaged(path, StrCat("expected SHA-256 ", component.file_sha256, ", found ", hash));
  }
  DS_RETURN_IF_ERROR(CheckFingerprint(set, component.digest, stopping));
  return set;
}

}  // namespace dreamstate::repository
