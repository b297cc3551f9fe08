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
#include "dreamstate/v1/generation_service.pb.h"
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

// The request at `index` (0, 1, 2, …), or nothing behind the last; the same rules as DocumentAt.
using BatchRequestAt =
    std::function<absl::StatusOr<std::optional<v1::DecodeBatchRequest>>(int64_t index)>;

// What happens in a DecodeBatch. The same rules.
struct DecodeBatchHandlers {
  std::function<absl::Status(const std::string& id, const v1::DecodeResponse& response)>
      on_response;
  // Once a decode, last: OK, or why it failed. A failed one does not end the batch.
  std::function<absl::Status(const std::string& id, const absl::Status& outcome)> on_end;
};

// The bytes of a file from `offset` on, at most `most` of them; empty at its end. Called on the
// calling thread, with growing offsets. A repeated upload asks again from 0 and must get the same
// bytes.
using FileBytesAt = std::function<absl::StatusOr<std::string>(int64_t offset, size_t most)>;

// What arrives of a download. The same rules. When a download is repeated, on_header is called
// again: then what came before is void.
struct DownloadHandlers {
  std::function<absl::Status(const v1::DownloadHeader& header)> on_header;
  std::function<absl::Status(absl::string_view bytes)> on_bytes;
};

// What happens in a GenerateStates. The same rules.
struct GenerateHandlers {
  std::function<absl::Status(const v1::GenerationStart& start)> on_start;
  std::function<absl::Status(const v1::GenerationProgress& progress)> on_progress;
  std::function<absl::Status(const v1::GeneratedState& state)> on_state;
};

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
  // Lets the server look into its repository now; with `wait`, answers when nothing is left to
  // load.
  absl::StatusOr<v1::ReloadModelResponse> ReloadModel(absl::string_view name_or_id, bool wait,
                                                      CallOptions options = {});
  // `version_name` is models/{model}/versions/{version}. FAILED_PRECONDITION when the server may
  // not write to its repository.
  absl::StatusOr<v1::Model> PinModelVersion(absl::string_view version_name,
                                            CallOptions options = {});
  absl::StatusOr<v1::Model> UnpinModel(absl::string_view name_or_id, CallOptions options = {});

  // States that `filter` lets through; its page_token is ignored.
  Pages<v1::State> States(v1::ListStatesRequest filter, CallOptions options = {});
  absl::StatusOr<v1::State> GetState(absl::string_view name_or_id, CallOptions options = {});
  // ABORTED when the request's etag is not the present one. Here and below a request_id is drawn
  // when the request has none, so that a repeat changes nothing twice.
  absl::StatusOr<v1::State> UpdateState(v1::UpdateStateRequest request, CallOptions options = {});
  // `etag` may be empty. A repeat that finds the state gone is OK.
  absl::Status DeleteState(absl::string_view name_or_id, absl::string_view etag,
                           CallOptions options = {});
  // Deletes what fits the request's filter, or counts it (dry_run).
  absl::StatusOr<v1::DeleteStatesResponse> DeleteStates(v1::DeleteStatesRequest request,
                                                        CallOptions options = {});

  // A state made again on the backbone that its model serves now. FAILED_PRECONDITION says what is
  // missing.
  absl::StatusOr<v1::State> MigrateState(v1::MigrateStateRequest request, CallOptions options = {});

  // Numbers of every matrix of a state.
  absl::StatusOr<v1::DescribeStateResponse> DescribeState(absl::string_view name_or_id,
                                                          CallOptions options = {});
  // FAILED_PRECONDITION when the two belong to different backbones.
  absl::StatusOr<v1::CompareStatesResponse> CompareStates(absl::string_view first,
                                                          absl::string_view second,
                                                          CallOptions options = {});
  // Two numbers for each of 3 to 2000 states of one backbone; it takes the server a minute for the
  // most.
  absl::StatusOr<v1::ProjectStatesResponse> ProjectStates(const v1::ProjectStatesRequest& request,
                                                          CallOptions options = {});
  absl::StatusOr<v1::GetLineageResponse> GetLineage(const v1::GetLineageRequest& request,
                                                    CallOptions options = {});

  // Keeps a state that a file holds. An error of `file` ends the call, which answers with it.
  absl::StatusOr<v1::State> UploadState(v1::UploadOptions upload, const FileBytesAt& file,
                                        CallOptions options = {});
  // A state as a file. OK only after as many bytes arrived as the header says and their SHA-256 is
  // the header's; DATA_LOSS otherwise.
  absl::Status DownloadState(const v1::DownloadStateRequest& request,
                             const DownloadHandlers& handlers, CallOptions options = {});

  // Reads documents and keeps their states. Writes and reads side by side. An error of `documents`
  // ends the call, which answers with it.
  absl::StatusOr<v1::HarvestSummary> Harvest(v1::HarvestOptions harvest,
                                             const DocumentAt& documents,
                                             const HarvestHandlers& handlers,
                                             CallOptions options = {});

  // Makes states with the model's state DiT; FAILED_PRECONDITION when its bundle has none.
  absl::StatusOr<v1::GenerationSummary> GenerateStates(v1::GenerateStatesRequest request,
                                                       const GenerateHandlers& handlers,
                                                       CallOptions options = {});
  absl::StatusOr<v1::EditStateResponse> EditState(v1::EditStateRequest request,
                                                  CallOptions options = {});

  // Continues a text. OK only after every branch has finished.
  absl::Status Decode(v1::DecodeRequest request, const DecodeHandlers& handlers,
                      CallOptions options = {});
  // Continues many texts over one stream. OK only after every one has ended, be it with an error of
  // its own. An error of `requests` ends the call, which answers with it.
  absl::Status DecodeBatch(const BatchRequestAt& requests, const DecodeBatchHandlers& handlers,
                           CallOptions options = {});

  absl::StatusOr<v1::ScoreResponse> Score(const v1::ScoreRequest& request,
                                          CallOptions options = {});

 private:
  struct Connection;
  explicit Client(std::unique_ptr<Connection> connection);

  const std::unique_ptr<Connection> connection_;
};

}  // namespace dreamstate::client
