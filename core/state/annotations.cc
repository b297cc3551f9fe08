#include <algorithm>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/store.h"
#include "core/text/utf8.h"

namespace dreamstate::state {
namespace {

constexpr size_t kMaxLabels = 64;
constexpr size_t kMaxLabelBytes = 128;
constexpr absl::Duration kMaxTimeToLive = absl::Hours(24 * 365 * 10 + 24 * 3);

// C0 and C1 controls and DEL, in valid UTF-8.
bool HasControls(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20 || byte == 0x7F) return true;
    if (byte == 0xC2 && static_cast<unsigned char>(text[i + 1]) < 0xA0) return true;
  }
  return false;
}

absl::Status CheckLabel(size_t index, const std::string& label) {
  const std::string field = StrCat("labels[", index, "]");
  if (label.empty() || label.size() > kMaxLabelBytes) {
    return FieldError(field,
                      StrCat("expected 1 to ", kMaxLabelBytes, " bytes, found ", label.size()));
  }
  if (!text::IsValidUtf8(label)) return FieldError(field, "expected UTF-8");
  if (HasControls(label)) return FieldError(field, "expected no control characters");
  return absl::OkStatus();
}

}  // namespace

absl::Status NormaliseAnnotations(Annotations* annotations) {
  std::vector<std::string>& labels = annotations->labels;
  for (size_t i = 0; i < labels.size(); ++i) DS_RETURN_IF_ERROR(CheckLabel(i, labels[i]));
  std::sort(labels.begin(), labels.end());
  labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
  if (labels.size() > kMaxLabels) {
    return FieldError("labels", StrCat("expected at most ", kMaxLabels, ", found ", labels.size()));
  }
  const absl::Duration time_to_live = annotations->time_to_live;
  if (time_to_live < absl::ZeroDuration() || time_to_live > kMaxTimeToLive) {
    return FieldError("time_to_live",
                      StrCat("expected 0 to 10 years, found ", absl::FormatDuration(time_to_live)));
  }
  return absl::OkStatus();
}

}  // namespace dreamstate::state
