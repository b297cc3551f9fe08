// How a manifest keeps what weight formats cost a backbone: in the configuration of its component,
// under "weight_formats":
//   {"text_bytes": 2048, "bits_per_byte": {"fp32": 1.1, "bf16": 1.1, "int8": 1.1,
//    "int8 att.key only": 1.1, …}, "int8": ["att.key", …]}
// The list decides what a server holds in int8; the numbers are why.
#pragma once

#include "absl/status/statusor.h"
#include "core/repository/manifest.h"
#include "core/rwkv/format_policy.h"
#include "nlohmann/json.hpp"

namespace dreamstate::repository {

inline constexpr char kFormatTableField[] = "weight_formats";

nlohmann::json FormatTableJson(const rwkv::FormatTable& table);

// What the backbone of `manifest` may hold in int8: FormatPolicy::Default() where nobody measured.
// INVALID_ARGUMENT naming the field, expected and found, for what is no such list.
absl::StatusOr<rwkv::FormatPolicy> FormatPolicyOf(const Manifest& manifest);

}  // namespace dreamstate::repository
