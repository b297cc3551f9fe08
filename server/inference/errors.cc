#include "server/inference/errors.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "core/base/random.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/text/utf8.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "spdlog/spdlog.h"

namespace dreamstate::server {
namespace {

// Trailers hold 8 KiB by default: the message twice (percent-encoded, and inside base64 details)
// and the field's description.
constexpr size_t kMaxMessageBytes = 800;
constexpr size_t kMaxNameBytes = 256;
constexpr absl::Duration kDefaultRetry = absl::Seconds(1);

std::atomic<bool> debug_details{false};

// Valid UTF-8 of at most `max_bytes` and a mark where it was cut.
std::string Printable(std::string_view text, size_t max_bytes) {
  text::Utf8Stream utf8;
  std::string result = utf8.Push(text.substr(0, max_bytes));
  if (text.size() <= max_bytes) result += utf8.Finish();
  if (text.size() <= max_bytes && result.size() <= max_bytes) return result;
  size_t end = std::min(result.size(), max_bytes);
  while (end > 0 && end < result.size() && (result[end] & 0xc0) == 0x80) --end;
  return result.substr(0, end) + "…";
}

void AddRetry(absl::Duration delay, google::rpc::Status* out) {
  google::rpc::RetryInfo retry;
  const int64_t seconds = absl::IDivDuration(delay, absl::Seconds(1), &delay);
  retry.mutable_retry_delay()->set_seconds(seconds);
  retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(delay)));
  out->add_details()->PackFrom(retry);
}

void AddDetails(const absl::Status& status, grpc::StatusCode code, google::rpc::Status* out) {
  const ErrorDetails details = DetailsOf(status);
  if (details.field) {
    google::rpc::BadRequest bad_request;
    auto* violation = bad_request.add_field_violations();
    violation->set_field(Printable(*details.field, kMaxNameBytes));
    violation->set_description(out->message());
    out->add_details()->PackFrom(bad_request);
  }
  if (details.resource) {
    google::rpc::ResourceInfo resource;
    resource.set_resource_type(Printable(details.resource->type, kMaxNameBytes));
    resource.set_resource_name(Printable(details.resource->name, kMaxNameBytes));
    resource.set_description(out->message());
    out->add_details()->PackFrom(resource);
  }
  if (details.precondition) {
    google::rpc::PreconditionFailure failure;
    auto* violation = failure.add_violations();
    violation->set_type("BACKBONE_FINGERPRINT");
    violation->set_subject(Printable(details.precondition->subject, kMaxNameBytes));
    violation->set_description(
        StrCat("expected ", Printable(details.precondition->expected, kMaxNameBytes), ", found ",
               Printable(details.precondition->found, kMaxNameBytes)));
    out->add_details()->PackFrom(failure);
  }
  if (details.quota_subject) {
    google::rpc::QuotaFailure failure;
    auto* violation = failure.add_violations();
    violation->set_subject(Printable(*details.quota_subject, kMaxNameBytes));
    violation->set_description(out->message());
    out->add_details()->PackFrom(failure);
  }
  if (details.retry_after) {
    AddRetry(*details.retry_after, out);
  } else if (code == grpc::StatusCode::UNAVAILABLE) {
    AddRetry(kDefaultRetry, out);
  }
}

void HideInternalError(const absl::Status& status, google::rpc::Status* out) {
  const std::string id = StrCat(absl::Hex(EntropyBits(), absl::kZeroPad16));
  spdlog::error("internal error {}: {}", id, status.ToString());
  out->set_message(StrCat("internal error ", id, "; the server's log has the cause"));
  if (debug_details.load(std::memory_order_relaxed)) {
    google::rpc::DebugInfo debug;
    debug.set_detail(Printable(status.ToString(), kMaxMessageBytes));
    out->add_details()->PackFrom(debug);
  }
}

}  // namespace

void SetErrorDebugDetails(bool enabled) { debug_details.store(enabled, std::memory_order_relaxed); }

grpc::StatusCode ToGrpcCode(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return grpc::StatusCode::OK;
    case absl::StatusCode::kInvalidArgument:
      return grpc::StatusCode::INVALID_ARGUMENT;
    case absl::StatusCode::kNotFound:
      return grpc::StatusCode::NOT_FOUND;
    case absl::StatusCode::kFailedPrecondition:
      return grpc::StatusCode::FAILED_PRECONDITION;
    case absl::StatusCode::kResourceExhausted:
      return grpc::StatusCode::RESOURCE_EXHAUSTED;
    case absl::StatusCode::kUnavailable:
      return grpc::StatusCode::UNAVAILABLE;
    case absl::StatusCode::kAlreadyExists:
      return grpc::StatusCode::ALREADY_EXISTS;
    case absl::StatusCode::kAborted:
      return grpc::StatusCode::ABORTED;
    case absl::StatusCode::kUnimplemented:
      return grpc::StatusCode::UNIMPLEMENTED;
    case absl::StatusCode::kDeadlineExceeded:
      return grpc::StatusCode::DEADLINE_EXCEEDED;
    case absl::StatusCode::kCancelled:
      return grpc::StatusCode::CANCELLED;
    case absl::StatusCode::kDataLoss:
      return grpc::StatusCode::DATA_LOSS;
    case absl::StatusCode::kUnauthenticated:
      return grpc::StatusCode::UNAUTHENTICATED;
    case absl::StatusCode::kPermissionDenied:
      return grpc::StatusCode::PERMISSION_DENIED;
    default:
      return grpc::StatusCode::INTERNAL;
  }
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const grpc::StatusCode code = ToGrpcCode(status.code());
  google::rpc::Status out;
  out.set_code(code);
  if (code == grpc::StatusCode::INTERNAL) {
    HideInternalError(status, &out);
  } else {
    out.set_message(
        Printable({status.message().data(), status.message().size()}, kMaxMessageBytes));
    AddDetails(status, code, &out);
  }
  return grpc::Status(code, out.message(), out.SerializeAsString());
}

const char* GrpcCodeName(grpc::StatusCode code) {
  static constexpr const char* kNames[] = {"OK",
                                           "CANCELLED",
                                           "UNKNOWN",
                                           "INVALID_ARGUMENT",
                                           "DEADLINE_EXCEEDED",
                                           "NOT_FOUND",
                                           "ALREADY_EXISTS",
                                           "PERMISSION_DENIED",
                                           "RESOURCE_EXHAUSTED",
                                           "FAILED_PRECONDITION",
                                           "ABORTED",
                                           "OUT_OF_RANGE",
                                           "UNIMPLEMENTED",
                                           "INTERNAL",
                                           "UNAVAILABLE",
                                           "DATA_LOSS",
                                           "UNAUTHENTICATED"};
  return code >= 0 && code <= 16 ? kNames[code] : "UNKNOWN";
}

}  // namespace dreamstate::server
