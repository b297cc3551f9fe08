// The model repository: how the trainer hands models to servers. Files only, safe on a shared
// volume.
//   blobs/sha256/<digest>            one immutable safetensors file a component
//   bundles/<model>/<version>.json   manifest
//   bundles/<model>/pin              the version that every server is to serve, as a number; no
//   file,
//                                    no pin
// A reader never sees half of anything: blobs are written under a temporary name, synced and
// renamed; the manifest comes last, by link(), which never overwrites: of two publishers the loser
// takes the next number. Thread-safe; several processes may publish, read and collect at once.
// Errors name the file.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/stopping.h"
#include "core/repository/manifest.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::repository {

struct ComponentSource {
  std::string kind;
  const tensors::TensorSet* tensors;
  nlohmann::json config = nlohmann::json::object();
  // The fingerprint that the tensors had when they were tested; empty: whichever they have.
  std::string digest = {};
};

struct VersionInfo {
  int64_t version = 0;
  // The manifest, or why it cannot be read.
  absl::StatusOr<Manifest> manifest;
};

struct CollectReport {
  int versions_removed = 0;
  int blobs_removed = 0;
  int64_t bytes_freed = 0;
  int temporary_files_removed = 0;
};

class Repository {
 public:
  // `path` must be a directory (FAILED_PRECONDITION otherwise); nothing is written.
  static absl::StatusOr<std::unique_ptr<Repository>> Open(const std::string& path);
  // Makes the directory when it is missing.
  static absl::StatusOr<std::unique_ptr<Repository>> Create(const std::string& path);

  const std::string& path() const { return path_; }

  // Publishes the next version of `manifest.model` (version, created, components of `manifest` are
  // filled in here). Refused when the newest version has a component kind that this lacks, unless
  // `allow_losing_components`. DATA_LOSS, and nothing published, when tensors change under it.
  absl::StatusOr<Manifest> Publish(Manifest manifest,
                                   const std::vector<ComponentSource>& components,
                                   bool allow_losing_components = false);

  // Sorted by name; names that are not model names are skipped.
  absl::StatusOr<std::vector<std::string>> ListModels() const;
  // Newest first, unreadable ones included. NOT_FOUND when there is no such model.
  absl::StatusOr<std::vector<VersionInfo>> ListVersions(const std::string& model) const;

  // The numbers alone, newest first, without reading a manifest; as ListVersions otherwise.
  absl::StatusOr<std::vector<int64_t>> ListVersionNumbers(const std::string& model) const;
  // One version's manifest; INVALID_ARGUMENT naming file, field, expected and found.
  absl::StatusOr<Manifest> ReadVersion(const std::string& model, int64_t version) const;

  // The version that is pinned, or nothing. A pin file that holds no version number is
  // INVALID_ARGUMENT: somebody wanted to pin, so whoever asks must not act as if nobody had.
  absl::StatusOr<std::optional<int64_t>> Pinned(const std::string& model) const;
  // Pins a version, in place of the one before. NOT_FOUND when there is no such version, also when
  // it is retired meanwhile; then what was pinned before still is. FAILED_PRECONDITION when the
  // repository is read-only.
  absl::Status Pin(const std::string& model, int64_t version);
  // Removes the pin, a damaged one too; OK when there is none. Errors as Pin.
  absl::Status Unpin(const std::string& model);

  // Checks sizes, file hashes and fingerprints of all components; the error names file, expected
  // and found.
  absl::Status Verify(const Manifest& manifest) const;
  // A verified component's tensors, mapped. CANCELLED when it is told to stop.
  absl::StatusOr<tensors::TensorSet> LoadComponent(const Manifest& manifest, std::string_view kind,
                                                   const Stopping& stopping = {}) const;

  // Removes all versions of `model` but the newest `keep` (>= 1) and the pinned one; their blobs
  // are Collect's, and as young as if they had been written now. A pin that cannot be read stops
  // it. What servers have loaded needs no file any more.
  absl::StatusOr<CollectReport> Retain(const std::string& model, int keep);
  // Removes blobs that no manifest names and temporary files, when older than `grace` (longer than
  // a load takes), counted from when they were written or their last version retired. ABORTED when
  // manifests change too fast to be read.
  absl::StatusOr<CollectReport> Collect(absl::Duration grace) const;

 private:
  explicit Repository(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace dreamstate::repository
