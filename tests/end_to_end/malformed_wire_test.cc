// Every RPC answers each kind of malformed request with the right code and field path, and the
// server goes on serving.
#include <string>
#include <vector>

#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/malformed_fixture.h"

namespace dreamstate {
namespace {

using grpc::StatusCode;
using testing::Malformed;
using testing::Session;

// Sends bytes to a method and waits for the status.
grpc::Status SendBytes(Session& session, const std::string& method, const std::string& bytes) {
  grpc::GenericStub stub(session.channel);
  grpc::ClientContext context;
  testing::SetDeadline(context);
  grpc::CompletionQueue queue;
  auto call = stub.PrepareCall(&context, method, &queue);
  void* tag = nullptr;
  bool ok = false;
  call->StartCall(nullptr);
  queue.Next(&tag, &ok);
  const grpc::Slice slice(bytes);
  call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
  queue.Next(&tag, &ok);
  grpc::ByteBuffer answer;
  do {
    call->Read(&answer, nullptr);
    queue.Next(&tag, &ok);
  } while (ok);
  grpc::Status status;
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  return status;
}

std::vector<std::string> AllMethods() {
  std::vector<std::string> methods;
  for (const auto* file :
       {v1::ListModelsRequest::descriptor()->file(), v1::GetStateRequest::descriptor()->file(),
        v1::DecodeRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        std::string name = "/";
        name.append(file->service(s)->full_name()).append("/");
        methods.push_back(name.append(file->service(s)->method(m)->name()));
      }
    }
  }
  return methods;
}

TEST_F(Malformed, BytesThatAreNoMessage) {
  // A field that ends before its length; a wire type that does not exist.
  const std::vector<std::string> table = {"\x0a\x50xyz", "\x0f\xff\xff"};
  for (const std::string& method : AllMethods()) {
    for (const std::string& bytes : table) {
      const grpc::Status status = SendBytes(*session_, method, bytes);
      EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT)
          << method << ": " << status.error_message();
    }
  }
  // Field 1 is a string that is not UTF-8.
  for (const char* method :
       {"/dreamstate.v1.ModelService/GetModel", "/dreamstate.v1.ModelService/ListModelVersions",
        "/dreamstate.v1.StateService/GetState", "/dreamstate.v1.StateService/UpdateState",
        "/dreamstate.v1.StateService/DeleteState", "/dreamstate.v1.StateService/DeleteStates",
        "/dreamstate.v1.StateService/DescribeState", "/dreamstate.v1.StateService/CompareStates",
        "/dreamstate.v1.StateService/ProjectStates", "/dreamstate.v1.StateService/GetLineage",
        "/dreamstate.v1.StateService/MigrateState", "/dreamstate.v1.StateService/DownloadState",
        "/dreamstate.v1.DecodeService/Decode", "/dreamstate.v1.DecodeService/Score"}) {
    const grpc::Status status = SendBytes(*session_, method, "\x0a\x02\xff\xfe");
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT)
        << method << ": " << status.error_message();
  }
}

TEST_F(Malformed, MessagesOverTheLimit) {
  const std::string huge((16 << 20) + 1, 'x');
  for (const std::string& method : AllMethods()) {
    const grpc::Status status = SendBytes(*session_, method, huge);
    EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED)
        << method << ": " << status.error_message();
  }
}

TEST_F(Malformed, MethodsThatDoNotExist) {
  for (const char* method : {"/dreamstate.v1.StateService/NoSuchMethod", "/no.Service/Method"}) {
    EXPECT_EQ(SendBytes(*session_, method, "").error_code(), StatusCode::UNIMPLEMENTED);
  }
}

}  // namespace
}  // namespace dreamstate
