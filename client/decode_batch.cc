// Client::DecodeBatch.
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/connection.h"
#include "client/request_id.h"
#include "client/rpc_status.h"

namespace dreamstate::client {
namespace {

using Stream = grpc::ClientReaderWriter<v1::DecodeBatchRequest, v1::DecodeBatchResponse>;

// The decodes that were sent and have not ended. Thread-safe.
class Running {
 public:
  void Add(const std::string& id) {
    const std::lock_guard lock(mutex_);
    ids_.insert(id);
  }
  bool Has(const std::string& id) const {
    const std::lock_guard lock(mutex_);
    return ids_.count(id) > 0;
  }
  void Remove(const std::string& id) {
    const std::lock_guard lock(mutex_);
    ids_.erase(id);
  }
  absl::Status CheckNone() const {
    const std::lock_guard lock(mutex_);
    if (ids_.empty()) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("the server ended the stream before '",
                                            OneLine(*ids_.begin()), "' had ended"));
  }

 private:
  mutable std::mutex mutex_;
  std::set<std::string> ids_;  // guarded by mutex_
};

// Sends every request; an error of `requests` cancels the call. A stream that ended early is no
// error here: its status says why.
absl::Status WriteAll(const BatchRequestAt& requests, const std::string& call_id,
                      grpc::ClientContext& context, Running& running, Stream& stream) {
  for (int64_t index = 0;; ++index) {
    absl::StatusOr<std::optional<v1::DecodeBatchRequest>> request = requests(index);
    if (!request.ok()) {
      context.TryCancel();
      return request.status();
    }
    if (!request->has_value()) break;
    v1::DecodeRequest& decode = *(*request)->mutable_request();
    if (decode.has_save_state() && decode.save_state().request_id().empty()) {
      // The same one in a repeat.
      decode.mutable_save_state()->set_request_id(absl::StrCat(call_id, "-", index));
    }
    running.Add((*request)->id());
    if (!stream.Write(**request)) return absl::OkStatus();
  }
  stream.WritesDone();
  return absl::OkStatus();
}

absl::Status Take(const v1::DecodeBatchResponse& response, const DecodeBatchHandlers& handlers,
                  Running& running) {
  const std::string& id = response.id();
  if (!running.Has(id)) {
    return absl::InternalError(
        absl::StrCat("the server sent a message of '", OneLine(id), "', which does not run"));
  }
  absl::Status outcome;
  switch (response.result_case()) {
    case v1::DecodeBatchResponse::kResponse:
      return handlers.on_response ? handlers.on_response(id, response.response())
                                  : absl::OkStatus();
    case v1::DecodeBatchResponse::kError:
      outcome = FromMessage(response.error());
      if (outcome.ok()) outcome = absl::UnknownError("failed without a reason");
      break;
    case v1::DecodeBatchResponse::kDone:
      break;
    default:
      return absl::OkStatus();  // a kind of message that a newer server may send
  }
  running.Remove(id);
  return handlers.on_end ? handlers.on_end(id, outcome) : absl::OkStatus();
}

}  // namespace

absl::Status Client::DecodeBatch(const BatchRequestAt& requests,
                                 const DecodeBatchHandlers& handlers, CallOptions options) {
  const std::string call_id = DrawRequestId();
  return RunWithRetries(connection_->retry, Repeatable::kAlways, options,
                        [&](grpc::ClientContext& context, bool* begun) -> absl::Status {
                          Running running;
                          const auto stream = connection_->decode.DecodeBatch(&context);
                          absl::Status written;
                          std::thread writer([&] {
                            written = WriteAll(requests, call_id, context, running, *stream);
                          });
                          v1::DecodeBatchResponse response;
                          absl::Status handled;
                          // Reads to the end even after a handler's error, so that the writer is
                          // never left waiting for room.
                          while (stream->Read(&response)) {
                            *begun = true;
                            if (!handled.ok()) continue;
                            handled = Take(response, handlers, running);
                            if (!handled.ok()) context.TryCancel();
                          }
                          writer.join();
                          const absl::Status ended = FromRpc(stream->Finish());
                          if (!handled.ok()) return handled;
                          if (!written.ok()) {
                            *begun = true;  // the caller's own error: not for another attempt
                            return written;
                          }
                          return ended.ok() ? running.CheckNone() : ended;
                        });
}

}  // namespace dreamstate::client
