// The fake server's models: alpha serves version 3, version 2 was rejected. Part of fake_server.cc.
#pragma once

#include <string>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "tests/client/fake_server.h"

namespace dreamstate::client {

struct FakeServer::Models : v1::ModelService::Service {
  explicit Models(FakeServer& f) : fake(f) {}

  v1::Model ModelOf(const std::string& name) {
    const std::lock_guard lock(fake.mutex_);
    v1::Model model;
    model.set_name(name);
    model.set_serving_version(name + "/versions/3");
    model.mutable_backbone()->set_layers(2);
    model.mutable_backbone()->set_width(64);
    model.mutable_backbone()->set_parameters(834000);
    model.set_backbone_fingerprint("f1");
    model.set_tokenizer("byte");
    model.set_weight_format("fp32");
    model.set_device("cpu/test");
    model.set_state_bytes(2048);
    model.set_chat_template(fake.chat_template_);
    model.set_follow(v1::Model::ALL);
    model.set_pinned_version(fake.pinned_);
    return model;
  }

  grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest* request,
                          v1::ListModelsResponse* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    // Two pages, to be walked.
    const bool first = request->page_token().empty();
    *response->add_models() = ModelOf(first ? "models/alpha" : "models/beta");
    if (first && response->models(0).chat_template().empty())
      response->set_next_page_token("second");
    return grpc::Status::OK;
  }

  grpc::Status GetModel(grpc::ServerContext*, const v1::GetModelRequest* request,
                        v1::Model* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    if (request->name() != "models/alpha") {
      google::rpc::ResourceInfo info;
      info.set_resource_type("model");
      info.set_resource_name(request->name());
      return ErrorWith(grpc::StatusCode::NOT_FOUND, "no such model", info);
    }
    *response = ModelOf(request->name());
    return grpc::Status::OK;
  }

  grpc::Status ListModelVersions(grpc::ServerContext*, const v1::ListModelVersionsRequest* request,
                                 v1::ListModelVersionsResponse* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    const std::lock_guard lock(fake.mutex_);
    for (const int number : {4, 3, 2}) {
      if (number == 4 && fake.rejected_.empty()) continue;
      v1::ModelVersion* version = response->add_versions();
      version->set_name(absl::StrCat(request->parent(), "/versions/", number));
      version->set_version(number);
      version->set_state(number == 3 ? v1::ModelVersion::SERVING : v1::ModelVersion::FAILED);
      if (number == 2) version->set_reason("self-test: not finite");
      if (number == 4) version->set_reason(fake.rejected_);
      version->mutable_self_test()->set_expected_nll(1.5);
      version->set_pinned(version->name() == fake.pinned_);
    }
    return grpc::Status::OK;
  }

  grpc::Status ReloadModel(grpc::ServerContext*, const v1::ReloadModelRequest* request,
                           v1::ReloadModelResponse* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    {
      const std::lock_guard lock(fake.mutex_);
      fake.reloads_.push_back(*request);
    }
    *response->mutable_model() = ModelOf(request->name());
    response->add_retried_versions(2);
    return grpc::Status::OK;
  }

  grpc::Status PinModelVersion(grpc::ServerContext*, const v1::PinModelVersionRequest* request,
                               v1::Model* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    {
      const std::lock_guard lock(fake.mutex_);
      fake.pinned_ = request->name();
    }
    *response = ModelOf("models/alpha");
    return grpc::Status::OK;
  }

  grpc::Status UnpinModel(grpc::ServerContext*, const v1::UnpinModelRequest* request,
                          v1::Model* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    {
      const std::lock_guard lock(fake.mutex_);
      fake.pinned_.clear();
    }
    *response = ModelOf(request->name());
    return grpc::Status::OK;
  }

  FakeServer& fake;
};

}  // namespace dreamstate::client
