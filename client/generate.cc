// Client::GenerateStates and Client::EditState.
#include <optional>
#include <utility>

#include "client/client.h"
#include "client/connection.h"
#include "client/request_id.h"
#include "client/rpc_status.h"

namespace dreamstate::client {
namespace {

absl::Status Take(const v1::GenerateStatesResponse& response, const GenerateHandlers& handlers,
                  std::optional<v1::GenerationSummary>* summary) {
  switch (response.message_case()) {
    case v1::GenerateStatesResponse::kStart:
      return handlers.on_start ? handlers.on_start(response.start()) : absl::OkStatus();
    case v1::GenerateStatesResponse::kProgress:
      return handlers.on_progress ? handlers.on_progress(response.progress()) : absl::OkStatus();
    case v1::GenerateStatesResponse::kState:
      return handlers.on_state ? handlers.on_state(response.state()) : absl::OkStatus();
    case v1::GenerateStatesResponse::kSummary:
      *summary = response.summary();
      return absl::OkStatus();
    default:
      return absl::OkStatus();  // a kind of message that a newer server may send
  }
}

}  // namespace

absl::StatusOr<v1::GenerationSummary> Client::GenerateStates(v1::GenerateStatesRequest request,
                                                             const GenerateHandlers& handlers,
                                                             CallOptions options) {
  if (request.request_id().empty()) request.set_request_id(DrawRequestId());
  std::optional<v1::GenerationSummary> summary;
  const absl::Status status = RunWithRetries(
      connection_->retry, Repeatable::kAlways, options,
      [&](grpc::ClientContext& context, bool* begun) -> absl::Status {
        const auto reader = connection_->generation.GenerateStates(&context, request);
        v1::GenerateStatesResponse response;
        absl::Status handled;
        while (handled.ok() && reader->Read(&response)) {
          *begun = true;
          handled = Take(response, handlers, &summary);
        }
        if (!handled.ok()) {
          context.TryCancel();
          while (reader->Read(&response)) {
          }
          (void)reader->Finish();
          return handled;
        }
        return FromRpc(reader->Finish());
      });
  if (!status.ok()) return status;
  if (!summary) return absl::InternalError("the server ended the stream without a summary");
  return *std::move(summary);
}

absl::StatusOr<v1::EditStateResponse> Client::EditState(v1::EditStateRequest request,
                                                        CallOptions options) {
  if (request.request_id().empty()) request.set_request_id(DrawRequestId());
  v1::EditStateResponse response;
  const absl::Status status = RunWithRetries(
      connection_->retry, Repeatable::kAlways, options, [&](grpc::ClientContext& context, bool*) {
        return FromRpc(connection_->generation.EditState(&context, request, &response));
      });
  if (!status.ok()) return status;
  return response;
}

}  // namespace dreamstate::client
