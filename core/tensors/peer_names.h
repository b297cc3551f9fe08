// Safetensors of other engines, given the official names and layout. Only what differs is copied:
// low-rank matrices, which some store transposed; all else stays where it is.
#pragma once

#include "absl/status/statusor.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::tensors {

// Tensors as the file has them -> with official names and layout. What is official already comes
// back unchanged; INVALID_ARGUMENT naming tensor, expected and found for known names with other
// shapes. Knows
// - Hugging Face models of flash-linear-attention ("model.layers.0.attn.w_lora.lora.0.weight"),
// - web-rwkv's .st files: official names, low-rank matrices as [out, in].
absl::StatusOr<TensorSet> OfficialNames(const TensorSet& set);

}  // namespace dreamstate::tensors
