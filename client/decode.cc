// Client::Decode.
#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/connection.h"
#include "client/request_id.h"
#include "client/rpc_status.h"

namespace dreamstate::client {
namespace {

// Checks that a stream keeps the contract, and hands its messages to the handlers.
class DecodeStream {
 public:
  DecodeStream(int branches, const DecodeHandlers& handlers)
      : handlers_(handlers), finished_(branches, false) {}

  absl::Status Take(const v1::DecodeResponse& response) {
    switch (response.message_case()) {
      case v1::DecodeResponse::kStart:
        return handlers_.on_start ? handlers_.on_start(response.start()) : absl::OkStatus();
      case v1::DecodeResponse::kPiece: {
        const int branch = response.piece().branch();
        if (absl::Status status = CheckRunning(branch); !status.ok()) return status;
        return handlers_.on_piece ? handlers_.on_piece(branch, response.piece().piece())
                                  : absl::OkStatus();
      }
      case v1::DecodeResponse::kFinish: {
        const int branch = response.finish().branch();
        if (absl::Status status = CheckRunning(branch); !status.ok()) return status;
        finished_[branch] = true;
        return handlers_.on_finish ? handlers_.on_finish(response.finish()) : absl::OkStatus();
      }
      default:
        return absl::OkStatus();  // a kind of message that a newer server may send
    }
  }

  absl::Status CheckComplete() const {
    const auto missing = std::find(finished_.begin(), finished_.end(), false);
    if (missing == finished_.end()) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("the server ended the stream before branch ",
                                            missing - finished_.begin(), " finished"));
  }

 private:
  absl::Status CheckRunning(int branch) const {
    if (branch >= 0 && branch < static_cast<int>(finished_.size()) && !finished_[branch])
      return absl::OkStatus();
    return absl::InternalError(
        absl::StrCat("the server sent a message of branch ", branch, ", which does not run"));
  }

  const DecodeHandlers& handlers_;
  std::vector<bool> finished_;
};

}  // namespace

absl::Status Client::Decode(v1::DecodeRequest request, const DecodeHandlers& handlers,
                            CallOptions options) {
  // So that a repeat finds the states that a call whose answer was lost has saved.
  if (request.has_save_state() && request.save_state().request_id().empty()) {
    request.mutable_save_state()->set_request_id(DrawRequestId());
  }
  const int branches = std::clamp(request.branches(), 1, 64);
  return RunWithRetries(connection_->retry, Repeatable::kAlways, options,
                        [&](grpc::ClientContext& context, bool* begun) -> absl::Status {
                          DecodeStream stream(branches, handlers);
                          const auto reader = connection_->decode.Decode(&context, request);
                          v1::DecodeResponse response;
                          absl::Status handled;
                          while (handled.ok() && reader->Read(&response)) {
                            *begun = true;
                            handled = stream.Take(response);
                          }
                          if (!handled.ok()) {
                            context.TryCancel();
                            while (reader->Read(&response)) {
                            }
                            (void)reader->Finish();
                            return handled;
                          }
                          const absl::Status status = FromRpc(reader->Finish());
                          return status.ok() ? stream.CheckComplete() : status;
                        });
}

}  // namespace dreamstate::client
