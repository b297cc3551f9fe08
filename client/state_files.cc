// Client::UploadState and Client::DownloadState.
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/connection.h"
#include "client/request_id.h"
#include "client/rpc_status.h"
#include "client/sha256.h"

namespace dreamstate::client {
namespace {

constexpr size_t kChunkBytes = 1 << 20;  // what one message of the contract holds

// Sends the options and the file; an error of `file` cancels the call. A stream that ended early is
// no error here: its status says why.
absl::Status WriteAll(const v1::UploadOptions& upload, const FileBytesAt& file,
                      grpc::ClientContext& context,
                      grpc::ClientWriter<v1::UploadStateRequest>& stream) {
  v1::UploadStateRequest request;
  *request.mutable_options() = upload;
  int64_t offset = 0;
  while (stream.Write(request)) {
    absl::StatusOr<std::string> bytes = file(offset, kChunkBytes);
    if (!bytes.ok()) {
      context.TryCancel();
      return bytes.status();
    }
    if (bytes->empty()) {
      stream.WritesDone();
      return absl::OkStatus();
    }
    offset += static_cast<int64_t>(bytes->size());
    request.set_chunk(*std::move(bytes));
  }
  return absl::OkStatus();
}

// Checks a download against its header, and hands it on.
class Download {
 public:
  explicit Download(const DownloadHandlers& handlers) : handlers_(handlers) {}

  absl::Status Take(const v1::DownloadStateResponse& response) {
    switch (response.message_case()) {
      case v1::DownloadStateResponse::kHeader:
        if (header_) return absl::InternalError("the server sent a second header");
        header_ = response.header();
        return handlers_.on_header ? handlers_.on_header(*header_) : absl::OkStatus();
      case v1::DownloadStateResponse::kChunk:
        if (!header_) return absl::InternalError("the server sent bytes before their header");
        bytes_ += static_cast<int64_t>(response.chunk().size());
        if (bytes_ > header_->bytes()) return WrongSize("more");
        digest_.Update(response.chunk());
        return handlers_.on_bytes ? handlers_.on_bytes(response.chunk()) : absl::OkStatus();
      default:
        return absl::OkStatus();  // a kind of message that a newer server may send
    }
  }

  absl::Status CheckComplete() {
    if (!header_) return absl::InternalError("the server ended the stream without a header");
    if (bytes_ != header_->bytes()) return WrongSize(absl::StrCat(bytes_));
    const std::string found = digest_.HexDigest();
    if (found == header_->sha256()) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(header_->state().name(), ": expected SHA-256 ",
                                            header_->sha256(), ", found ", found));
  }

 private:
  absl::Status WrongSize(absl::string_view found) const {
    return absl::DataLossError(absl::StrCat(header_->state().name(), ": expected ",
                                            header_->bytes(), " bytes, found ", found));
  }

  const DownloadHandlers& handlers_;
  std::optional<v1::DownloadHeader> header_;
  int64_t bytes_ = 0;
  Sha256 digest_;
};

}  // namespace

absl::StatusOr<v1::State> Client::UploadState(v1::UploadOptions upload, const FileBytesAt& file,
                                              CallOptions options) {
  if (upload.request_id().empty()) upload.set_request_id(DrawRequestId());
  v1::State state;
  const absl::Status status =
      RunWithRetries(connection_->retry, Repeatable::kAlways, options,
                     [&](grpc::ClientContext& context, bool* begun) -> absl::Status {
                       state.Clear();
                       const auto stream = connection_->states.UploadState(&context, &state);
                       const absl::Status written = WriteAll(upload, file, context, *stream);
                       const absl::Status ended = FromRpc(stream->Finish());
                       if (written.ok()) return ended;
                       *begun = true;  // the caller's own error: not for another attempt
                       return written;
                     });
  if (!status.ok()) return status;
  return state;
}

absl::Status Client::DownloadState(const v1::DownloadStateRequest& request,
                                   const DownloadHandlers& handlers, CallOptions options) {
  return RunWithRetries(connection_->retry, Repeatable::kAlways, options,
                        [&](grpc::ClientContext& context, bool* begun) -> absl::Status {
                          Download download(handlers);
                          const auto reader = connection_->states.DownloadState(&context, request);
                          v1::DownloadStateResponse response;
                          absl::Status handled;
                          while (handled.ok() && reader->Read(&response))
                            handled = download.Take(response);
                          if (!handled.ok()) {
                            // What arrived or its receiver is at fault: not for another attempt.
                            *begun = true;
                            context.TryCancel();
                            while (reader->Read(&response)) {
                            }
                            (void)reader->Finish();
                            return handled;
                          }
                          const absl::Status status = FromRpc(reader->Finish());
                          return status.ok() ? download.CheckComplete() : status;
                        });
}

}  // namespace dreamstate::client
