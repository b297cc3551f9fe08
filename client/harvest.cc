// Client::Harvest.
#include <thread>
#include <utility>

#include "client/client.h"
#include "client/connection.h"
#include "client/request_id.h"
#include "client/rpc_status.h"

namespace dreamstate::client {
namespace {

using Stream = grpc::ClientReaderWriter<v1::HarvestStatesRequest, v1::HarvestStatesResponse>;

// Sends the options and every document; an error of `documents` cancels the call. A stream that
// ended early is no error here: its status says why.
absl::Status WriteAll(const v1::HarvestOptions& harvest, const DocumentAt& documents,
                      grpc::ClientContext& context, Stream& stream) {
  v1::HarvestStatesRequest request;
  *request.mutable_options() = harvest;
  if (!stream.Write(request)) return absl::OkStatus();
  for (int64_t index = 0;; ++index) {
    absl::StatusOr<std::optional<v1::Document>> document = documents(index);
    if (!document.ok()) {
      context.TryCancel();
      return document.status();
    }
    if (!document->has_value()) break;
    *request.mutable_document() = *std::move(*document);
    if (!stream.Write(request)) return absl::OkStatus();
  }
  stream.WritesDone();
  return absl::OkStatus();
}

absl::Status Take(const v1::HarvestStatesResponse& response, const HarvestHandlers& handlers,
                  std::optional<v1::HarvestSummary>* summary) {
  switch (response.message_case()) {
    case v1::HarvestStatesResponse::kState:
      return handlers.on_state ? handlers.on_state(response.state()) : absl::OkStatus();
    case v1::HarvestStatesResponse::kError:
      return handlers.on_error ? handlers.on_error(response.error()) : absl::OkStatus();
    case v1::HarvestStatesResponse::kProgress:
      return handlers.on_progress ? handlers.on_progress(response.progress()) : absl::OkStatus();
    case v1::HarvestStatesResponse::kSummary:
      *summary = response.summary();
      return absl::OkStatus();
    default:
      return absl::OkStatus();  // a kind of message that a newer server may send
  }
}

}  // namespace

absl::StatusOr<v1::HarvestSummary> Client::Harvest(v1::HarvestOptions harvest,
                                                   const DocumentAt& documents,
                                                   const HarvestHandlers& handlers,
                                                   CallOptions options) {
  if (harvest.request_id().empty()) harvest.set_request_id(DrawRequestId());
  std::optional<v1::HarvestSummary> summary;
  const absl::Status status = RunWithRetries(
      connection_->retry, Repeatable::kAlways, options,
      [&](grpc::ClientContext& context, bool* begun) -> absl::Status {
        const auto stream = connection_->states.HarvestStates(&context);
        absl::Status written;
        std::thread writer([&] { written = WriteAll(harvest, documents, context, *stream); });
        v1::HarvestStatesResponse response;
        absl::Status handled;
        // Reads to the end even after a handler's error, so that the writer is never left waiting
        // for room.
        while (stream->Read(&response)) {
          *begun = true;
          if (!handled.ok()) continue;
          handled = Take(response, handlers, &summary);
          if (!handled.ok()) context.TryCancel();
        }
        writer.join();
        const absl::Status ended = FromRpc(stream->Finish());
        if (!handled.ok()) return handled;
        if (!written.ok()) {
          *begun = true;  // the caller's own error: not for another attempt
          return written;
        }
        return ended;
      });
  if (!status.ok()) return status;
  if (!summary) return absl::InternalError("the server ended the stream without a summary");
  return *std::move(summary);
}

}  // namespace dreamstate::client
