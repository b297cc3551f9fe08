#include "client/rpc_status.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/utf8.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/status.h"

namespace dreamstate::client {
namespace {

constexpr absl::string_view kTypePrefix = "type.googleapis.com/";
constexpr int kMaxDetails = 16;
constexpr absl::Duration kLongestDelay = absl::Hours(24);

template <typename Detail>
std::optional<Detail> DetailOf(const absl::Status& status) {
  const auto payload =
      status.GetPayload(absl::StrCat(kTypePrefix, Detail::descriptor()->full_name()));
  if (!payload) return std::nullopt;
  Detail detail;
  if (!detail.ParseFromString(std::string(*payload))) return std::nullopt;
  return detail;
}

absl::string_view Phrase(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return "ok";
    case absl::StatusCode::kCancelled:
      return "cancelled";
    case absl::StatusCode::kInvalidArgument:
      return "invalid argument";
    case absl::StatusCode::kDeadlineExceeded:
      return "out of time";
    case absl::StatusCode::kNotFound:
      return "not found";
    case absl::StatusCode::kAlreadyExists:
      return "already exists";
    case absl::StatusCode::kPermissionDenied:
      return "not allowed";
    case absl::StatusCode::kUnauthenticated:
      return "not authenticated";
    case absl::StatusCode::kResourceExhausted:
      return "no room";
    case absl::StatusCode::kFailedPrecondition:
      return "not possible";
    case absl::StatusCode::kAborted:
      return "changed meanwhile";
    case absl::StatusCode::kOutOfRange:
      return "out of range";
    case absl::StatusCode::kUnimplemented:
      return "not in this server";
    case absl::StatusCode::kInternal:
      return "internal error";
    case absl::StatusCode::kUnavailable:
      return "not available";
    case absl::StatusCode::kDataLoss:
      return "data lost";
    default:
      return "failed";
  }
}

// Messages of gRPC's own connection failures nest; the last part is the one that says what
// happened.
absl::string_view LastError(absl::string_view message) {
  constexpr absl::string_view kMark = "last error: ";
  if (const size_t at = message.rfind(kMark); at != absl::string_view::npos) {
    message.remove_prefix(at + kMark.size());
    absl::ConsumePrefix(&message, "UNKNOWN: ");
    absl::ConsumePrefix(&message, "UNAVAILABLE: ");
  }
  return message;
}

// Adds `text` unless the line says it already.
void Add(absl::string_view separator, absl::string_view text, std::string* line) {
  if (!text.empty() && !absl::StrContains(*line, text)) absl::StrAppend(line, separator, text);
}

// `code` is not that of OK; `details` is where its details are.
absl::Status MadeOf(int code, const std::string& message, const google::rpc::Status& details) {
  const bool known = code > 0 && code <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  absl::Status result(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
                      message);
  const int count = std::min(details.details_size(), kMaxDetails);
  for (int i = 0; i < count; ++i) {
    const auto& detail = details.details(i);
    if (absl::StartsWith(detail.type_url(), kTypePrefix)) {
      result.SetPayload(detail.type_url(), absl::Cord(detail.value()));
    }
  }
  return result;
}

}  // namespace

absl::Status FromRpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) details.Clear();
  return MadeOf(static_cast<int>(status.error_code()), status.error_message(), details);
}

absl::Status FromMessage(const google::rpc::Status& status) {
  return status.code() == 0 ? absl::OkStatus() : MadeOf(status.code(), status.message(), status);
}

std::optional<absl::Duration> RetryDelay(const absl::Status& status) {
  const auto info = DetailOf<google::rpc::RetryInfo>(status);
  if (!info || !info->has_retry_delay()) return std::nullopt;
  const absl::Duration delay =
      absl::Seconds(info->retry_delay().seconds()) + absl::Nanoseconds(info->retry_delay().nanos());
  return std::clamp(delay, absl::ZeroDuration(), kLongestDelay);
}

bool IsUnreachable(const absl::Status& status) {
  return absl::IsUnavailable(status) && !RetryDelay(status).has_value();
}

std::string OneLine(absl::string_view text) {
  std::string line = ToValidUtf8(text, "?");
  for (size_t i = 0; i < line.size(); ++i) {
    const auto byte = static_cast<unsigned char>(line[i]);
    if (byte < 0x20 || byte == 0x7f) line[i] = ' ';
    // C1 controls, U+0080 to U+009F.
    if (byte == 0xc2 && i + 1 < line.size() && static_cast<unsigned char>(line[i + 1]) < 0xa0) {
      line.erase(i, 1);
      line[i] = ' ';
    }
  }
  return line;
}

std::string Explain(const absl::Status& status) {
  if (status.ok()) return "ok";
  if (IsUnreachable(status)) {
    return absl::StrCat("no server answers: ", OneLine(LastError(status.message())));
  }
  std::string line(status.message());
  if (const auto bad = DetailOf<google::rpc::BadRequest>(status)) {
    std::vector<std::string> violations;
    for (const auto& violation : bad->field_violations()) {
      if (violations.size() == 4) break;
      if (!absl::StrContains(line, violation.field())) {
        violations.push_back(absl::StrContains(line, violation.description())
                                 ? violation.field()
                                 : absl::StrCat(violation.field(), ": ", violation.description()));
      }
    }
    if (!violations.empty()) {
      const std::string fields = absl::StrJoin(violations, "; ");
      line = line.empty() ? fields : absl::StrCat(fields, ": ", line);
    }
  }
  if (const auto precondition = DetailOf<google::rpc::PreconditionFailure>(status)) {
    // A message that names the subject tells what is wrong with it, too.
    if (precondition->violations_size() > 0 &&
        !absl::StrContains(line, precondition->violations(0).subject())) {
      Add("; ", precondition->violations(0).subject(), &line);
      Add(": ", precondition->violations(0).description(), &line);
    }
  }
  if (const auto resource = DetailOf<google::rpc::ResourceInfo>(status)) {
    Add("; ", resource->resource_name(), &line);
  }
  if (const auto quota = DetailOf<google::rpc::QuotaFailure>(status)) {
    if (quota->violations_size() > 0) Add("; ", quota->violations(0).subject(), &line);
  }
  std::string explained(Phrase(status.code()));
  if (!line.empty()) absl::StrAppend(&explained, ": ", OneLine(line));
  if (const auto delay = RetryDelay(status); delay && *delay > absl::ZeroDuration()) {
    absl::StrAppend(&explained, "; try again in ",
                    absl::FormatDuration(absl::Ceil(*delay, absl::Milliseconds(1))));
  }
  return explained;
}

}  // namespace dreamstate::client
