// Reads a backbone from any file and gives its tensors one normal form, so that a model has one
// fingerprint whatever file it comes from: the official names and layout (RWKV-LM checkpoints)
// without what trainers put before them ("_forward_module.", "model."), vectors as [D] (checkpoints
// have [1, 1, D]), r_k as [H, N], low-rank matrices as [in, out], and without the value residual of
// layer 0, which nothing reads. A format is one file here and one line in import.cc.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::tensors {

// The normal form of tensors that have official names. Copies no data: the result shares the memory
// of `set`.
absl::StatusOr<TensorSet> NormalForm(const TensorSet& set);

// rwkv.cpp's "ggmf" file, version 101, types f32 and f16. Undoes its layout: fused time-shift mixes
// are taken apart, low-rank matrices transposed back to [in, out].
absl::StatusOr<TensorSet> ReadGgmf(const std::string& path);

// The same of bytes that stay alive as long as `memory`; `source` names them in errors.
absl::StatusOr<TensorSet> ParseGgmf(std::string source, std::span<const std::byte> bytes,
                                    std::shared_ptr<const void> memory);

// Any importable file, in normal form; the format is told by its first bytes. INVALID_ARGUMENT
// listing the formats when none fits.
absl::StatusOr<TensorSet> ImportBackbone(const std::string& path);

// DATA_LOSS naming the file when a file that tensors of `set` are mapped from was cut and then read
// where it no longer reached: zeros came in place of what was there (core/base/mapping_guard.h).
absl::Status CheckNothingLost(const TensorSet& set);

}  // namespace dreamstate::tensors
