#include "core/state/page_token.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "core/base/hash.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/identifier.h"

namespace dreamstate::state {
namespace {

constexpr std::string_view kVersion = "1";
constexpr size_t kDigestDigits = 16;

// Binds the id to tenant and query. Not a secret: keys carry the tenant whatever a token says.
std::string Digest(std::string_view tenant, const ListQuery& query, std::string_view last_id) {
  std::vector<std::string> labels = query.labels;
  std::sort(labels.begin(), labels.end());
  labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
  const std::string created_before = absl::FormatTime(query.created_before, absl::UTCTimeZone());
  Sha256 sha;
  const auto add = [&sha](std::string_view text) {
    sha.Update(StrCat(text.size(), ":"));
    sha.Update(text);
  };
  for (const std::string_view text :
       {tenant, std::string_view(query.model), std::string_view(query.parent),
        std::string_view(query.fingerprint), std::string_view(query.oldest_first ? "+" : "-"),
        std::string_view(query.stubs ? "stubs" : ""), std::string_view(created_before), last_id}) {
    add(text);
  }
  for (const std::string& label : labels) add(label);
  return sha.HexDigest().substr(0, kDigestDigits);
}

}  // namespace

std::string MakePageToken(std::string_view tenant, const ListQuery& query,
                          std::string_view last_id) {
  std::string token;
  absl::WebSafeBase64Escape(StrCat(kVersion, last_id, Digest(tenant, query, last_id)), &token);
  return token;
}

absl::StatusOr<std::string> ReadPageToken(std::string_view tenant, const ListQuery& query) {
  if (query.page_token.empty()) return std::string();
  std::string text;
  // Of several spellings that decode alike only our own is taken.
  if (absl::WebSafeBase64Unescape(query.page_token, &text) &&
      text.size() == kVersion.size() + kIdBytes + kDigestDigits &&
      text.compare(0, kVersion.size(), kVersion) == 0) {
    const std::string id = text.substr(kVersion.size(), kIdBytes);
    if (IsStateId(id) && MakePageToken(tenant, query, id) == query.page_token) return id;
  }
  return FieldError("page_token",
                    "expected a token from a listing with the same filters and order");
}

}  // namespace dreamstate::state
