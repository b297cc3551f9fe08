// How errors are made and passed on. Every module answers with absl::Status; what a caller needs
// beyond the message travels as a payload, which the server turns into google.rpc details in one
// place (server/inference/errors.h).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace dreamstate {

// INVALID_ARGUMENT about one field of a request; `field` is a path such as "sampling.top_p" or
// "documents[3].positions[1]".
absl::Status FieldError(std::string_view field, std::string_view message);
// The same status with `prefix` put before its field path ("document" + "content.text"); other
// statuses unchanged.
absl::Status WithFieldPrefix(absl::Status status, std::string_view prefix);

// The same status with "prefix: " before its message; OK stays OK.
absl::Status WithPrefix(std::string_view prefix, const absl::Status& status);

// NOT_FOUND / DATA_LOSS / ALREADY_EXISTS about a named resource; `type` is "state", "model", …
absl::Status ResourceError(absl::StatusCode code, std::string_view type, std::string_view name,
                           std::string_view message);

// FAILED_PRECONDITION: a state of backbone `found` where `expected` is needed. Both are
// fingerprints; the message has the beginning of each, and what can be done where `remedy` says it.
absl::Status FingerprintError(std::string_view subject, std::string_view expected,
                              std::string_view found, std::string_view remedy = "");

// RESOURCE_EXHAUSTED: `subject` is what ran out ("state store bytes"); retry after `delay` when it
// is given.
absl::Status QuotaError(std::string_view subject, std::string_view message,
                        std::optional<absl::Duration> delay);

// UNAVAILABLE, worth a retry after `delay`.
absl::Status UnavailableError(std::string_view message, absl::Duration delay);

// The payloads, for the one place that reads them.
struct ErrorDetails {
  std::optional<std::string> field;
  struct Resource {
    std::string type, name;
  };
  std::optional<Resource> resource;
  struct Precondition {
    std::string subject, expected, found;
  };
  std::optional<Precondition> precondition;
  std::optional<std::string> quota_subject;
  std::optional<absl::Duration> retry_after;
};
ErrorDetails DetailsOf(const absl::Status& status);

}  // namespace dreamstate

#define DS_CONCAT_INNER(a, b) a##b
#define DS_CONCAT(a, b) DS_CONCAT_INNER(a, b)
// Returns the status of `expression` from this function when it is not OK.
#define DS_RETURN_IF_ERROR(expression)                                            \
  do {                                                                            \
    if (absl::Status ds_status = (expression); !ds_status.ok()) return ds_status; \
  } while (false)
// Declares or assigns `target` from a StatusOr, or returns its status.
#define DS_ASSIGN_OR_RETURN(target, expression) \
  DS_ASSIGN_OR_RETURN_INNER(DS_CONCAT(ds_status_or_, __LINE__), target, expression)
#define DS_ASSIGN_OR_RETURN_INNER(holder, target, expression) \
  auto holder = (expression);                                 \
  if (!holder.ok()) return std::move(holder).status();        \
  target = *std::move(holder)
