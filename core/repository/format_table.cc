#include "core/repository/format_table.h"

#include <string>

#include "absl/status/status.h"
#include "core/base/strings.h"

namespace dreamstate::repository {

nlohmann::json FormatTableJson(const rwkv::FormatTable& table) {
  nlohmann::json losses = {{"fp32", table.fp32}, {"bf16", table.bf16}, {"int8", table.int8}};
  nlohmann::json kinds = nlohmann::json::array();
  for (int kind = 0; kind < rwkv::kMatrixKinds; ++kind) {
    const std::string name(rwkv::MatrixKindName(static_cast<rwkv::MatrixKind>(kind)));
    losses[StrCat("int8 ", name, " only")] = table.kinds[kind];
    if (table.policy.int8[kind]) kinds.push_back(name);
  }
  return {{"text_bytes", table.bytes}, {"bits_per_byte", losses}, {"int8", kinds}};
}

absl::StatusOr<rwkv::FormatPolicy> FormatPolicyOf(const Manifest& manifest) {
  const Component* backbone = manifest.Find("backbone");
  if (backbone == nullptr || !backbone->config.is_object() ||
      !backbone->config.contains(kFormatTableField)) {
    return rwkv::FormatPolicy::Default();
  }
  const nlohmann::json& table = backbone->config[kFormatTableField];
  const auto error = [](std::string_view found) {
    return absl::InvalidArgumentError(
        StrCat("manifest: backbone config weight_formats.int8: expected a list of matrix kinds "
               "(att.receptance, …, head), found ",
               found));
  };
  if (!table.is_object() || !table.contains("int8") || !table["int8"].is_array()) {
    return error("none");
  }
  rwkv::FormatPolicy policy;
  for (const nlohmann::json& entry : table["int8"]) {
    if (!entry.is_string()) return error(entry.type_name());
    const std::string& name = entry.get_ref<const std::string&>();
    bool known = false;
    for (int kind = 0; kind < rwkv::kMatrixKinds; ++kind) {
      if (name != rwkv::MatrixKindName(static_cast<rwkv::MatrixKind>(kind))) continue;
      policy.int8[kind] = known = true;
    }
    if (!known) return error(StrCat("\"", name.substr(0, 64), "\""));
  }
  return policy;
}

}  // namespace dreamstate::repository
