// One server for a table of malformed requests: each answers with the right code and field path,
// and the server goes on serving. A program's tests note which fields they spoil; when all of them
// have run, a field of a request that none has spoilt is a failure.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/field_coverage.h"
#include "tests/end_to_end/server_process.h"
#include "tests/end_to_end/session.h"
#include "tests/server/inference/grpc_details.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::testing {

inline const std::string kLongName(100'000, 'x');

template <typename Request>
struct Row {
  const char* kind;
  std::function<void(Request&)> spoil;
  std::string field;
  grpc::StatusCode code = grpc::StatusCode::INVALID_ARGUMENT;
};

// One server for the whole suite: what one request does to it, the next one would notice.
class Malformed : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = std::make_unique<TemporaryDirectory>();
    server_ = std::make_unique<ServerProcess>(ServerProcess::Setup{
        .repository = DREAMSTATE_TEST_DATA "/repository", .store = *directory_ / "store"});
    ASSERT_TRUE(server_->WaitUntilListening());
    session_ = std::make_unique<Session>(server_->address());
    session_->WaitServing();
    state_ = session_->HarvestText("Once upon a time there was");
  }
  static void TearDownTestSuite() {
    CheckCoverage();
    session_.reset();
    EXPECT_EQ(server_->Stop(), 0);
    server_.reset();
    directory_.reset();
  }
  void TearDown() override { StillServes(); }

  static void StillServes() {
    EXPECT_TRUE(session_->GetState(state_).first.ok());
    EXPECT_TRUE(session_->Decode(SeededDecode(state_, 2, 3)).status.ok());
  }

  // Sends a good request spoilt in one way after another.
  template <typename Request>
  static void Send(const std::function<Request()>& good,
                   const std::function<grpc::Status(const Request&)>& call,
                   const std::vector<Row<Request>>& table) {
    for (const Row<Request>& row : table) {
      SCOPED_TRACE(row.kind);
      Request request = good();
      row.spoil(request);
      Note(good(), request);
      const grpc::Status status = call(request);
      EXPECT_EQ(status.error_code(), row.code) << status.error_message();
      EXPECT_EQ(FieldOf(status), row.field) << status.error_message();
      EXPECT_FALSE(status.error_message().empty());
    }
  }
  // Notes what a row spoils.
  static void Note(const google::protobuf::Message& good, const google::protobuf::Message& spoilt) {
    coverage_.Record(good, spoilt);
  }

  static inline std::unique_ptr<TemporaryDirectory> directory_;
  static inline std::unique_ptr<ServerProcess> server_;
  static inline std::unique_ptr<Session> session_;
  static inline std::string state_;

 private:
  static void CheckCoverage() {
    const auto& unit_test = *::testing::UnitTest::GetInstance();
    if (unit_test.test_to_run_count() < unit_test.total_test_count()) return;
    // Any value of these is one.
    const std::set<std::string> always_valid = {"ProjectStatesRequest.seed", "Sampling.seed"};
    std::set<std::string> forgotten;
    for (const auto* service :
         {v1::ListModelsRequest::descriptor(), v1::GetStateRequest::descriptor(),
          v1::DecodeRequest::descriptor()}) {
      const google::protobuf::FileDescriptor& file = *service->file();
      for (int i = 0; i < file.service(0)->method_count(); ++i) {
        forgotten.merge(coverage_.Forgotten(*file.service(0)->method(i)->input_type()));
      }
    }
    for (const std::string& field : always_valid) EXPECT_EQ(forgotten.erase(field), 1u) << field;
    EXPECT_THAT(forgotten, ::testing::IsEmpty()) << "fields that no row of the tables spoils";
  }

  static inline FieldCoverage coverage_;
};

template <typename Stub, typename Method, typename Request, typename Response>
std::function<grpc::Status(const Request&)> Unary(Stub& stub, Method method) {
  return [&stub, method](const Request& request) {
    grpc::ClientContext context;
    SetDeadline(context);
    Response response;
    return (stub.*method)(&context, request, &response);
  };
}

}  // namespace dreamstate::testing
