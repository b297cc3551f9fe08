// States as files, up and down.
#include <string>
#include <thread>
#include <vector>

#include "client/client.h"
#include "client/rpc_status.h"
#include "client/sha256.h"
#include "gmock/gmock.h"
#include "grpcpp/support/status.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"

namespace dreamstate::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string DigestOf(const std::string& bytes) {
  Sha256 digest;
  digest.Update(bytes);
  return digest.HexDigest();
}

std::string Pattern(size_t bytes) {
  std::string pattern(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) pattern[i] = static_cast<char>(i * 7 + i / 251);
  return pattern;
}

FileBytesAt FileOf(const std::string& bytes) {
  return [&bytes](int64_t offset, size_t most) -> absl::StatusOr<std::string> {
    return bytes.substr(static_cast<size_t>(offset), most);
  };
}

class StateFilesTest : public testing::Test {
 protected:
  StateFilesTest() {
    ClientOptions options;
    options.address = server_.address();
    options.retry.first_delay = absl::Milliseconds(1);
    client_ = *Client::Create(std::move(options));
    v1::State state;
    state.set_name("states/x");
    server_.AddState(state);
    request_.set_name("states/x");
  }

  // Downloads states/x; `file_` holds what came since the last header.
  absl::Status Download(CallOptions options = {}) {
    DownloadHandlers handlers;
    handlers.on_header = [this](const v1::DownloadHeader& header) {
      ++headers_;
      header_ = header;
      file_.clear();
      return absl::OkStatus();
    };
    handlers.on_bytes = [this](absl::string_view bytes) {
      file_.append(bytes.data(), bytes.size());
      return absl::OkStatus();
    };
    return client_->DownloadState(request_, handlers, options);
  }

  FakeServer server_;
  std::unique_ptr<Client> client_;
  v1::DownloadStateRequest request_;
  v1::DownloadHeader header_;
  std::string file_;
  int headers_ = 0;
};

TEST(ClientSha256, IsThatOfTheStandard) {
  Sha256 digest;
  digest.Update("a");
  digest.Update("bc");
  EXPECT_EQ(digest.HexDigest(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_F(StateFilesTest, AFileGoesUpInChunksOfAMebibyte) {
  const std::string bytes = Pattern((2 << 20) + 5);
  v1::UploadOptions options;
  options.set_layout(v1::CANONICAL);
  options.set_token_count(17);
  options.mutable_annotations()->add_labels("mine");
  const auto state = client_->UploadState(options, FileOf(bytes));
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->token_count(), 17);
  EXPECT_THAT(state->labels(), ElementsAre("mine"));
  ASSERT_EQ(server_.uploads().size(), 1u);
  const FakeServer::Upload upload = server_.uploads()[0];
  EXPECT_TRUE(upload.bytes == bytes);
  EXPECT_THAT(upload.chunks, ElementsAre(1 << 20, 1 << 20, 5));
  EXPECT_EQ(upload.options.layout(), v1::CANONICAL);
  EXPECT_EQ(upload.options.request_id().size(), 32u);
}

TEST_F(StateFilesTest, ARepeatedUploadBeginsAnewUnderTheSameRequestId) {
  const std::string bytes = Pattern(3 << 20);
  server_.FailNext(grpc::Status(grpc::StatusCode::UNAVAILABLE, "socket closed"));
  std::vector<int64_t> offsets;
  const FileBytesAt file = [&](int64_t offset, size_t most) {
    offsets.push_back(offset);
    return FileOf(bytes)(offset, most);
  };
  v1::UploadOptions options;
  options.set_request_id("mine");
  ASSERT_TRUE(client_->UploadState(options, file).ok());
  EXPECT_GT(std::count(offsets.begin(), offsets.end(), 0), 0);
  ASSERT_EQ(server_.uploads().size(), 1u);
  EXPECT_TRUE(server_.uploads()[0].bytes == bytes);
  EXPECT_EQ(server_.uploads()[0].options.request_id(), "mine");
}

TEST_F(StateFilesTest, AnErrorOfTheFileEndsTheUploadAndIsNotRepeated) {
  const FileBytesAt file = [&](int64_t offset, size_t) -> absl::StatusOr<std::string> {
    if (offset == 0) return std::string("x");
    EXPECT_TRUE(server_.WaitForCalls(1));
    return absl::UnavailableError("the disk went away");
  };
  EXPECT_EQ(client_->UploadState({}, file).status(), absl::UnavailableError("the disk went away"));
  EXPECT_EQ(server_.calls(), 1);
  EXPECT_TRUE(server_.WaitForCancelled(1)) << "half a file must not look like a whole one";
  EXPECT_TRUE(server_.uploads().empty());
}

TEST_F(StateFilesTest, AFileComesDownWholeAndVerified) {
  const std::string bytes = Pattern((1 << 20) + 3);
  server_.SetFile(bytes, DigestOf(bytes), "x.safetensors");
  request_.set_layout(v1::RWKV_PACKAGE);
  ASSERT_TRUE(Download().ok());
  EXPECT_TRUE(file_ == bytes);
  EXPECT_EQ(header_.file_name(), "x.safetensors");
  EXPECT_EQ(server_.downloads().at(0).layout(), v1::RWKV_PACKAGE);
}

TEST_F(StateFilesTest, ADamagedDownloadIsDataLoss) {
  const std::string bytes = Pattern(1000);
  server_.SetFile(bytes, DigestOf(bytes + "x"), "x");
  const absl::Status status = Download();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(DigestOf(bytes)));
  EXPECT_EQ(headers_, 1) << "not for another attempt: it would be damaged again";
}

TEST_F(StateFilesTest, ABusyServerIsAskedForTheFileAgain) {
  const std::string bytes = Pattern(1000);
  server_.SetFile(bytes, DigestOf(bytes), "x");
  server_.FailNext(RetryLater(grpc::StatusCode::UNAVAILABLE, 1));
  ASSERT_TRUE(Download().ok());
  EXPECT_EQ(server_.calls(), 2);
  EXPECT_TRUE(file_ == bytes);
}

TEST_F(StateFilesTest, CancellationEndsADownload) {
  const std::string bytes = Pattern(5 << 20);
  server_.SetFile(bytes, DigestOf(bytes), "x");
  server_.HangAfter(2);
  CallOptions options;
  options.cancellation = std::make_shared<Cancellation>();
  std::thread canceller([&] {
    EXPECT_TRUE(server_.WaitForCalls(1));
    options.cancellation->Cancel();
  });
  EXPECT_TRUE(absl::IsCancelled(Download(options)));
  canceller.join();
  EXPECT_TRUE(server_.WaitForCancelled(1));
}

TEST_F(StateFilesTest, AStateThatIsNotThereIsNotFound) {
  request_.set_name("states/none");
  EXPECT_TRUE(absl::IsNotFound(Download()));
  EXPECT_EQ(headers_, 0);
}

}  // namespace
}  // namespace dreamstate::client
