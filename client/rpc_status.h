// The outcome of a call as absl::Status, and what a person should read of it.
//
// The details that a server sends (google.rpc.BadRequest, PreconditionFailure, RetryInfo, …) become
// payloads of the status, each under its type URL with its serialized bytes, so that programs can
// read them with the generated classes. Everything from the server is untrusted: malformed details
// are ignored, messages are printed without control characters.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace google::rpc {
class Status;
}
namespace grpc {
class Status;
}

namespace dreamstate::client {

absl::Status FromRpc(const grpc::Status& status);
// The outcome of one part of a call, which came inside a message.
absl::Status FromMessage(const google::rpc::Status& status);

// How long the server asks to wait before another try; unset when it did not say. Never negative.
std::optional<absl::Duration> RetryDelay(const absl::Status& status);

// True when no server answered: refused, unknown or lost connections. A server that answers
// UNAVAILABLE itself (it drains, it has no model yet) says when to retry, and is not unreachable.
bool IsUnreachable(const absl::Status& status);

// One line for a person: what went wrong, the field, resource or fingerprints it is about, when to
// retry. For example
//   invalid argument: sampling.top_p: must be in [0, 1], found 2
//   not possible: states/01h… belongs to another backbone (state 1f…, model 9c…)
//   no room: queue full; try again in 2s
// No trailing period, no newline, no control characters. "ok" for an OK status.
std::string Explain(const absl::Status& status);

// `text` on one line: control characters become spaces, bytes that are not UTF-8 become "?".
std::string OneLine(absl::string_view text);

}  // namespace dreamstate::client
