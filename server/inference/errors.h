// The one place where absl::Status becomes a gRPC status. Every handler answers through it.
//
//   INVALID_ARGUMENT     BadRequest with the field's path
//   NOT_FOUND, DATA_LOSS, ALREADY_EXISTS   ResourceInfo
//   FAILED_PRECONDITION  PreconditionFailure with both fingerprints
//   RESOURCE_EXHAUSTED   QuotaFailure, RetryInfo where waiting helps
//   UNAVAILABLE          RetryInfo always
//   ABORTED, CANCELLED, DEADLINE_EXCEEDED, UNIMPLEMENTED, UNAUTHENTICATED, PERMISSION_DENIED   no
//   details everything else      INTERNAL: our bug. Logged with an id; the answer carries the id
//   and nothing from inside,
//                        except DebugInfo when SetErrorDebugDetails(true) was called.
// Details travel as a serialised google.rpc.Status in error_details ("grpc-status-details-bin").
// Messages are cut to what fits into HTTP/2 trailers and are always valid UTF-8.
#pragma once

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace dreamstate::server {

// Whether answers to internal errors carry what went wrong. Set once, before serving.
void SetErrorDebugDetails(bool enabled);

// Thread-safe.
grpc::Status ToGrpcStatus(const absl::Status& status);

// The code alone, by the same table.
grpc::StatusCode ToGrpcCode(absl::StatusCode code);

// The name of a code as the contract writes it: "OK", "INVALID_ARGUMENT", …
const char* GrpcCodeName(grpc::StatusCode code);

}  // namespace dreamstate::server
