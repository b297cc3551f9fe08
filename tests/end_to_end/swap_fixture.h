// A server of one model, "m", whose repository gets new versions while it serves.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/end_to_end/server_process.h"
#include "tests/end_to_end/session.h"
#include "tests/server/inference/published_models.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::testing {

inline std::string Name(int64_t version) { return "models/m/versions/" + std::to_string(version); }

// The same weights in another bundle.
inline void AnotherBundle(repository::Manifest& manifest) {
  manifest.trainer_step = manifest.version + 1;
}

class Swap : public ::testing::Test {
 protected:
  void SetUp() override { PublishModel(repository_, "m", 1); }

  void Start(std::vector<std::string> flags = {}, bool admin = false) {
    // Readers of these tests take their time.
    for (const char* flag : {"--poll-seconds", "0.005", "--reader-stall-seconds", "1000"}) {
      flags.emplace_back(flag);
    }
    server_ = std::make_unique<ServerProcess>(ServerProcess::Setup{.repository = repository_,
                                                                   .store = directory_ / "store",
                                                                   .admin = admin,
                                                                   .flags = std::move(flags)});
    ASSERT_TRUE(server_->WaitUntilListening());
    session_ = std::make_unique<Session>(server_->address());
    session_->WaitServing();
  }

  v1::Model GetModel() {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::GetModelRequest request;
    request.set_name("models/m");
    v1::Model model;
    EXPECT_TRUE(session_->models->GetModel(&context, request, &model).ok());
    return model;
  }
  // Until new calls go to `version`. All the while the model is healthy.
  void WaitVersion(int64_t version) {
    while (GetModel().serving_version() != Name(version)) {
      ASSERT_EQ(session_->CheckHealth("models/m"), Health::SERVING);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  grpc::Status Reload(v1::ReloadModelResponse* response = nullptr, bool wait = true) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::ReloadModelRequest request;
    request.set_name("models/m");
    request.set_wait(wait);
    v1::ReloadModelResponse ignored;
    return session_->models->ReloadModel(&context, request,
                                         response == nullptr ? &ignored : response);
  }
  grpc::Status Pin(const std::string& name, v1::Model* model = nullptr) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::PinModelVersionRequest request;
    request.set_name(name);
    v1::Model ignored;
    return session_->models->PinModelVersion(&context, request,
                                             model == nullptr ? &ignored : model);
  }
  grpc::Status Unpin() {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::UnpinModelRequest request;
    request.set_name("models/m");
    v1::Model model;
    return session_->models->UnpinModel(&context, request, &model);
  }
  v1::ModelVersion GetVersion(int64_t number) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::ListModelVersionsRequest request;
    request.set_parent("models/m");
    v1::ListModelVersionsResponse response;
    EXPECT_TRUE(session_->models->ListModelVersions(&context, request, &response).ok());
    for (const v1::ModelVersion& version : response.versions()) {
      if (version.version() == number) return version;
    }
    return {};
  }

  TemporaryDirectory directory_;
  const std::string repository_ = directory_ / "repository";
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<Session> session_;
};

}  // namespace dreamstate::testing
