// One component's file in the store of blobs.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/stopping.h"
#include "core/repository/manifest.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::repository {

// Makes sure that the blob of `tensors` lies in the repository, whole and young enough for the
// collector to leave it alone; a damaged one is replaced. Fills digest, bytes and file_sha256 of
// `component`. DATA_LOSS when it has a digest already that is not the tensors', or when they change
// meanwhile (they may lie in a file that somebody writes).
absl::Status StoreBlob(const std::string& repository, const tensors::TensorSet& tensors,
                       Component* component);

// Whether the blob's name is there; says nothing about its contents.
bool BlobExists(const std::string& repository, const Component& component);

// Maps the blob after checking size, hash and fingerprint. DATA_LOSS naming the file, expected and
// found; CANCELLED when it is told to stop.
absl::StatusOr<tensors::TensorSet> LoadBlob(const std::string& repository,
                                            const Component& component,
                                            const Stopping& stopping = {});

}  // namespace dreamstate::repository
