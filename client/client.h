// A dreamstate server, as a C++ program sees it.
//
//   absl::StatusOr<std::unique_ptr<Client>> client = Client::Create({.address =
//   "localhost:50051"}); v1::DecodeRequest request; request.mutable_prompt()->set_text("Once upon a
//   time"); absl::Status status = (*client)->Decode(request, {.on_piece = [](int branch, const
//   v1::TextPiece& piece) {
//     std::cout << piece.text();
//     return absl::OkStatus();
//   }});
//   if (!status.ok()) std::cerr << Explain(status) << "\n";
//
// Every call answers with what the server said, google.rpc details as payloads (rpc_status.h), or
// with CANCELLED or DEADLINE_EXCEEDED when its options ended it. Calls that can be repeated safely
// are repeated as retry.h says. Messages are those of dreamstate/v1; names may be shortened to ids
// only where a parameter says so. Thread-safe: any number of threads may call at once; calls share
// one connection. Handlers run on the calling thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/pages.h"
#include "client/retry.h"
#include "dreamstate/v1/decode_service.pb.h"
#include "dreamstate/v1/model_service.pb.h"
#include "dreamstate/v1/state_service.pb.h"

namespace grpc {
class ChannelCredentials;
}

namespace dreamstate::client {

inline constexpr int kDefaultPort = 50051;
// What one message may hold, in both directions; a document or prompt must fit with some room to
// spare.
inline constexpr int kMaxMessageBytes = 16 << 20;

struct ClientOptions {
  // host, host:port or any gRPC target ("dns:///…", "unix:/…"); the port is 50051 when none is
  // given.
  std::string address = "localhost:50051";
  // How the connection is secured; null = not at all.
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  RetryPolicy retry;
  // A connection that is not made in this time has failed.
  absl::Duration connect_timeout = absl::Seconds(5);
};

// What happens in a Decode, as it happens. A handler that is not set is skipped; one that answers
// with an error ends the call, which then answers with that error.
struct DecodeHandlers {
  std::function<absl::Status(const v1::DecodeStart& start)> on_start;  // once, first
  std::function<absl::Status(int branch, const v1::TextPiece& piece)>
      on_piece;  // text of one branch, in order
  std::function<absl::Status(const v1::DecodeFinish& finish)> on_finish;  // once a branch
};

// What happens in a harvest. The same rules.
struct HarvestHandlers {
  std::function<absl::Status(const v1::HarvestedState& state)> on_state;
  std::function<absl::Status(const v1::DocumentError& error)>
      on_error;  // that document only; the harvest goes on
  std::function<absl::Status(const v1::HarvestProgress& progress)> on_progress;
};

// The document at `index` (0, 1, 2, …), or nothing behind the last. Called on a thread of the
// harvest's own, one call at a time, ahead of what was read by no more than the connection's flow
// control lets through. A repeated harvest asks again from 0 and must get the same documents.
using DocumentAt = std::function<absl::StatusOr<std::optional<v1::Document>>(int64_t index)>;

class Client {
 public:
  // Does not connect yet: the first call does. INVALID_ARGUMENT when the address cannot be one.
  static absl::StatusOr<std::unique_ptr<Client>> Create(ClientOptions options);
  ~Client();

  // All models, in order of name.
  Pages<v1::Model> Models(CallOptions options = {});
  // NOT_FOUND.
  absl::StatusOr<v1::Model> GetModel(absl::string_view name_or_id, CallOptions options = {});
  // Versions of a model, newest first.
  Pages<v1::ModelVersion> ModelVersions(absl::string_view name_or_id, CallOptions options = {});

  // States that `filter` lets through; its page_token is ignored.
  Pages<v1::State> States(v1::ListStatesRequest filter, CallOptions options = {});
  absl::StatusOr<v1::State> GetState(absl::string_view name_or_id, CallOptions options = {});
  // ABORTED when the request's etag is not the present one.
  absl::StatusOr<v1::State> UpdateState(const v1::UpdateStateRequest& request,
                                        CallOptions options = {});
  // `etag` may be empty. A repeat that finds the state gone is OK.
  absl::Status DeleteState(absl::string_view name_or_id, absl::string_view etag,
                           CallOptions options = {});

  // Reads documents and keeps their states. Writes and reads side by side. A request_id is drawn
  // when `harvest` has none, so that a repeat makes no state twice. An error of `documents` ends
  // the call, which answers with it.
  absl::StatusOr<v1::HarvestSummary> Harvest(v1::HarvestOptions harvest,
                                             const DocumentAt& documents,
                                             const HarvestHandlers& handlers,
                                             CallOptions options = {});

  // Continues a text. OK only after every branch has finished.
  absl::Status Decode(const v1::DecodeRequest& request, const DecodeHandlers& handlers,
                      CallOptions options = {});

  absl::StatusOr<v1::ScoreResponse> Score(const v1::ScoreRequest& request,
                                          CallOptions options = {});

 private:
  struct Connection;
  explicit Client(std::unique_ptr<Connection> connection);

  const std::unique_ptr<Connection> connection_;
};

}  // namespace dreamstate::client
