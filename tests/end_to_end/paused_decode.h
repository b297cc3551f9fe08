// A decode that a test holds under way while something happens to the server.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/session.h"

namespace dreamstate::testing {

// A long decode that is under way and whose reader waits, so that it stays under way.
class PausedDecode {
 public:
  static constexpr int kTokens = 20'000;
  static v1::DecodeRequest Request(uint64_t seed) {
    v1::DecodeRequest request = EndlessDecode(kTokens, /*end_token=*/0);
    request.mutable_sampling()->set_seed(seed);
    return request;
  }
  PausedDecode(Session& session, uint64_t seed) {
    SetDeadline(context_);
    stream_ = session.decode->Decode(&context_, Request(seed));
    v1::DecodeResponse response;
    EXPECT_TRUE(stream_->Read(&response) && response.has_start());
    version_ = response.start().model_version();
  }
  const std::string& version() const { return version_; }
  std::pair<std::vector<int32_t>, grpc::Status> Finish() {
    std::vector<int32_t> tokens;
    v1::DecodeResponse response;
    while (stream_->Read(&response)) {
      const auto& ids = response.piece().piece().token_ids();
      tokens.insert(tokens.end(), ids.begin(), ids.end());
    }
    return {std::move(tokens), stream_->Finish()};
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::DecodeResponse>> stream_;
  std::string version_;
};

}  // namespace dreamstate::testing
