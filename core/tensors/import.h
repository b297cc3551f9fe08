// Reads a backbone from another engine's file and gives its tensors the official names, shapes and layout (RWKV-LM checkpoints).
// A format is one file here and one line in import.cc.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::tensors {

// rwkv.cpp's "ggmf" file, version 101, types f32 and f16. Undoes its layout: fused time-shift mixes are taken apart, low-rank
// matrices transposed back to [in, out].
absl::StatusOr<TensorSet> ReadGgmf(const std::string& path);

// Any importable file; the format is told by its first bytes. INVALID_ARGUMENT listing the formats when none fits.
absl::StatusOr<TensorSet> ImportBackbone(const std::string& path);

}  // namespace dreamstate::tensors
