#include "core/base/status.h"

#include "absl/strings/cord.h"
#include "absl/types/optional.h"
#include "core/base/strings.h"

namespace dreamstate {
namespace {

// One payload a value, so that no value needs quoting.
constexpr char kField[] = "dreamstate/field";
constexpr char kResourceType[] = "dreamstate/resource.type";
constexpr char kResourceName[] = "dreamstate/resource.name";
constexpr char kPreconditionSubject[] = "dreamstate/precondition.subject";
constexpr char kPreconditionExpected[] = "dreamstate/precondition.expected";
constexpr char kPreconditionFound[] = "dreamstate/precondition.found";
constexpr char kQuotaSubject[] = "dreamstate/quota.subject";
constexpr char kRetryAfter[] = "dreamstate/retry_after";

void Attach(absl::Status* status, const char* url, std::string_view value) {
  status->SetPayload(url, absl::Cord(AbslView(value)));
}

std::optional<std::string> Read(const absl::Status& status, const char* url) {
  const absl::optional<absl::Cord> payload = status.GetPayload(url);
  if (!payload.has_value()) return std::nullopt;
  return std::string(*payload);
}

}  // namespace

absl::Status FieldError(std::string_view field, std::string_view message) {
  absl::Status status = absl::InvalidArgumentError(StrCat(field, ": ", message));
  Attach(&status, kField, field);
  return status;
}

absl::Status WithFieldPrefix(absl::Status status, std::string_view prefix) {
  const std::optional<std::string> field = Read(status, kField);
  if (!field.has_value() || prefix.empty()) return status;
  const std::string path = field->empty() ? std::string(prefix) : StrCat(prefix, ".", *field);
  // The message begins with the path: FieldError made both.
  std::string_view message = StdView(status.message());
  if (message.substr(0, field->size()) == *field) message.remove_prefix(field->size());
  absl::Status result(status.code(), StrCat(path, message));
  status.ForEachPayload(
      [&result](absl::string_view url, const absl::Cord& value) { result.SetPayload(url, value); });
  Attach(&result, kField, path);
  return result;
}

absl::Status WithPrefix(std::string_view prefix, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), StrCat(prefix, ": ", StdView(status.message())));
}

absl::Status ResourceError(absl::StatusCode code, std::string_view type, std::string_view name,
                           std::string_view message) {
  absl::Status status(code, StrCat(type, " ", name, ": ", message));
  Attach(&status, kResourceType, type);
  Attach(&status, kResourceName, name);
  return status;
}

absl::Status FingerprintError(std::string_view subject, std::string_view expected,
                              std::string_view found, std::string_view remedy) {
  constexpr size_t kShown = 12;
  absl::Status status = absl::FailedPreconditionError(StrCat(
      subject, ": expected a state of backbone ", expected.substr(0, kShown),
      ", found one of backbone ", found.substr(0, kShown), remedy.empty() ? "" : "; ", remedy));
  Attach(&status, kPreconditionSubject, subject);
  Attach(&status, kPreconditionExpected, expected);
  Attach(&status, kPreconditionFound, found);
  return status;
}

absl::Status QuotaError(std::string_view subject, std::string_view message,
                        std::optional<absl::Duration> delay) {
  absl::Status status = absl::ResourceExhaustedError(StrCat(subject, ": ", message));
  Attach(&status, kQuotaSubject, subject);
  if (delay.has_value()) Attach(&status, kRetryAfter, absl::FormatDuration(*delay));
  return status;
}

absl::Status UnavailableError(std::string_view message, absl::Duration delay) {
  absl::Status status = absl::UnavailableError(AbslView(message));
  Attach(&status, kRetryAfter, absl::FormatDuration(delay));
  return status;
}

ErrorDetails DetailsOf(const absl::Status& status) {
  ErrorDetails details;
  details.field = Read(status, kField);
  if (auto type = Read(status, kResourceType)) {
    details.resource = ErrorDetails::Resource{*type, Read(status, kResourceName).value_or("")};
  }
  if (auto subject = Read(status, kPreconditionSubject)) {
    details.precondition =
        ErrorDetails::Precondition{*subject, Read(status, kPreconditionExpected).value_or(""),
                                   Read(status, kPreconditionFound).value_or("")};
  }
  details.quota_subject = Read(status, kQuotaSubject);
  if (const auto text = Read(status, kRetryAfter)) {
    absl::Duration delay;
    if (absl::ParseDuration(*text, &delay)) details.retry_after = delay;
  }
  return details;
}

}  // namespace dreamstate
