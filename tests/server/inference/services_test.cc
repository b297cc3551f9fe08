// ModelService and the unary methods of StateService, through a server in this process.
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/state/store.h"
#include "dreamstate/v1/model_service.grpc.pb.h"
#include "dreamstate/v1/state_service.grpc.pb.h"
#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "server/inference/server.h"
#include "tests/server/inference/grpc_details.h"
#include "tests/server/inference/published_models.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::server {
namespace {

using grpc::StatusCode;
using ::testing::ElementsAre;
using testing::FieldOf;
using testing::FindDetail;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Services : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.listen_address = "127.0.0.1:0";
    options_.admin_address = "";
    options_.repository = directory_ / "repository";
    options_.store = directory_ / "store";
    options_.threads = 1;
    options_.max_sequences = 2;
    testing::PublishModel(options_.repository, "a", 1);
  }

  // Keeps a state before the server starts.
  std::string Keep(std::vector<std::string> labels, const std::string& model = "a",
                   std::vector<std::string> parents = {}) {
    if (store_ == nullptr) store_ = state::OpenRocksDbStore({.path = options_.store}).value();
    state::Record record;
    record.model = model;
    record.fingerprint = std::string(64, model[0]);
    record.numerics = "fp32/avx2";
    record.token_count = 5;
    record.lineage.operation = "harvest";
    record.lineage.arguments = {{"document", "d"}, {"position", 5}, {"nested", {{"x", {1, true}}}}};
    record.lineage.parents = std::move(parents);
    record.lineage.tokens_read = 5;
    record.state = state::State::Empty({.layers = 1, .width = 64, .heads = 1, .head_size = 64});
    return store_->Put("default", std::move(record), {.labels = std::move(labels)})->record.id;
  }

  void Start() {
    store_.reset();
    auto server = Server::Start(options_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->grpc_port()),
                                   grpc::InsecureChannelCredentials());
    models_ = v1::ModelService::NewStub(channel_);
    states_ = v1::StateService::NewStub(channel_);
  }

  // Waits until `model` serves.
  void WaitServing(const std::string& model) {
    auto health = grpc::health::v1::Health::NewStub(channel_);
    while (true) {
      grpc::ClientContext context;
      grpc::health::v1::HealthCheckRequest request;
      grpc::health::v1::HealthCheckResponse response;
      request.set_service("models/" + model);
      const grpc::Status status = health->Check(&context, request, &response);
      if (status.ok() && response.status() == grpc::health::v1::HealthCheckResponse::SERVING)
        return;
      std::this_thread::yield();
    }
  }

  template <typename Stub, typename Method, typename Request, typename Response>
  grpc::Status Call(Stub& stub, Method method, const Request& request, Response* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    return (stub.get()->*method)(&context, request, response);
  }
  grpc::Status Get(const std::string& name, v1::State* state) {
    v1::GetStateRequest request;
    request.set_name(name);
    return Call(states_, &v1::StateService::Stub::GetState, request, state);
  }
  grpc::Status List(const v1::ListStatesRequest& request, v1::ListStatesResponse* response) {
    response->Clear();
    return Call(states_, &v1::StateService::Stub::ListStates, request, response);
  }
  grpc::Status Update(const v1::UpdateStateRequest& request, v1::State* state) {
    return Call(states_, &v1::StateService::Stub::UpdateState, request, state);
  }
  grpc::Status Delete(const std::string& name, const std::string& etag = "") {
    v1::DeleteStateRequest request;
    request.set_name(name);
    request.set_etag(etag);
    v1::DeleteStateResponse response;
    return Call(states_, &v1::StateService::Stub::DeleteState, request, &response);
  }

  testing::TemporaryDirectory directory_;
  Options options_;
  std::unique_ptr<state::StateStore> store_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::ModelService::Stub> models_;
  std::unique_ptr<v1::StateService::Stub> states_;
};

TEST_F(Services, AStateIsDescribedWhole) {
  const std::string parent = Keep({});
  const std::string id = Keep({"b", "a"}, "a", {parent});
  Start();
  v1::State state;
  const grpc::Status status = Get("states/" + id, &state);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(state.name(), "states/" + id);
  EXPECT_EQ(state.model(), "models/a");
  EXPECT_EQ(state.backbone_fingerprint(), std::string(64, 'a'));
  EXPECT_THAT(state.labels(), ElementsAre("a", "b"));
  EXPECT_EQ(state.token_count(), 5);
  EXPECT_EQ(state.bytes(), (2 * 64 + 64 * 64) * 4);
  EXPECT_EQ(state.shape().width(), 64);
  EXPECT_EQ(state.numerics(), "fp32/avx2");
  EXPECT_FALSE(state.has_last_hidden());
  EXPECT_FALSE(state.has_expires());
  EXPECT_GT(state.created().seconds(), 0);
  EXPECT_FALSE(state.etag().empty());
  EXPECT_EQ(state.lineage().operation(), "harvest");
  EXPECT_THAT(state.lineage().parents(), ElementsAre("states/" + parent));
  const auto& arguments = state.lineage().arguments().fields();
  EXPECT_EQ(arguments.at("document").string_value(), "d");
  EXPECT_EQ(arguments.at("position").number_value(), 5);
  EXPECT_TRUE(
      arguments.at("nested").struct_value().fields().at("x").list_value().values(1).bool_value());
}

TEST_F(Services, MissingStatesAreNotFoundWithTheirName) {
  Start();
  v1::State state;
  const grpc::Status status = Get("states/00000000000000000000000000", &state);
  EXPECT_EQ(status.error_code(), StatusCode::NOT_FOUND);
  const auto resource = FindDetail<google::rpc::ResourceInfo>(status);
  ASSERT_TRUE(resource.has_value());
  EXPECT_THAT(resource->resource_name(), HasSubstr("00000000000000000000000000"));
}

TEST_F(Services, ListsFilterOrderAndPage) {
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) ids.push_back("states/" + Keep({"x", i % 2 == 0 ? "even" : "odd"}));
  const std::string other = "states/" + Keep({"x"}, "b");
  const std::string child = "states/" + Keep({}, "a", {ids[0].substr(7)});
  Start();
  const auto names = [&](const v1::ListStatesRequest& request) {
    v1::ListStatesResponse page;
    const grpc::Status status = List(request, &page);
    EXPECT_TRUE(status.ok()) << status.error_message();
    std::vector<std::string> result;
    for (const v1::State& state : page.states()) result.push_back(state.name());
    return result;
  };
  v1::ListStatesRequest request;
  EXPECT_THAT(names(request), SizeIs(7));
  request.add_labels("even");
  request.add_labels("x");
  EXPECT_THAT(names(request), ElementsAre(ids[4], ids[2], ids[0]));
  request.set_order(v1::ListStatesRequest::OLDEST_FIRST);
  EXPECT_THAT(names(request), ElementsAre(ids[0], ids[2], ids[4]));
  request.Clear();
  request.set_model("models/b");
  EXPECT_THAT(names(request), ElementsAre(other));
  request.Clear();
  request.set_parent(ids[0]);
  EXPECT_THAT(names(request), ElementsAre(child));
  request.Clear();
  request.set_backbone_fingerprint(std::string(64, 'b'));
  EXPECT_THAT(names(request), ElementsAre(other));

  request.Clear();
  request.add_labels("x");
  request.set_page_size(4);
  v1::ListStatesResponse page;
  ASSERT_TRUE(List(request, &page).ok());
  EXPECT_EQ(page.states_size(), 4);
  request.set_page_token(page.next_page_token());
  ASSERT_TRUE(List(request, &page).ok());
  EXPECT_EQ(page.states_size(), 2);
  EXPECT_EQ(page.next_page_token(), "");
  // A token belongs to its query.
  request.clear_labels();
  const grpc::Status status = List(request, &page);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldOf(status), "page_token");
}

TEST_F(Services, UpdatesChangeWhatTheMaskNames) {
  const std::string name = "states/" + Keep({"old"});
  Start();
  v1::UpdateStateRequest request;
  request.set_name(name);
  request.mutable_annotations()->add_labels("new");
  request.mutable_annotations()->mutable_time_to_live()->set_seconds(3600);
  request.mutable_update_mask()->add_paths("labels");
  v1::State state;
  ASSERT_TRUE(Update(request, &state).ok());
  EXPECT_THAT(state.labels(), ElementsAre("new"));
  EXPECT_FALSE(state.has_expires());

  request.mutable_update_mask()->set_paths(0, "time_to_live");
  request.mutable_annotations()->set_labels(0, "ignored");
  ASSERT_TRUE(Update(request, &state).ok());
  EXPECT_THAT(state.labels(), ElementsAre("new"));
  EXPECT_TRUE(state.has_expires());

  request.clear_update_mask();
  request.clear_annotations();
  ASSERT_TRUE(Update(request, &state).ok());
  EXPECT_THAT(state.labels(), IsEmpty());
  EXPECT_FALSE(state.has_expires());
}

TEST_F(Services, AnEtagThatMovedAborts) {
  const std::string name = "states/" + Keep({});
  Start();
  v1::State before, after;
  ASSERT_TRUE(Get(name, &before).ok());
  v1::UpdateStateRequest request;
  request.set_name(name);
  request.set_etag(before.etag());
  request.mutable_annotations()->add_labels("mine");
  ASSERT_TRUE(Update(request, &after).ok());
  EXPECT_NE(after.etag(), before.etag());
  EXPECT_EQ(Update(request, &after).error_code(), StatusCode::ABORTED);
  EXPECT_EQ(Delete(name, before.etag()).error_code(), StatusCode::ABORTED);
  ASSERT_TRUE(Get(name, &after).ok());
  EXPECT_TRUE(Delete(name, after.etag()).ok());
}

TEST_F(Services, DeletedParentsStayAsStubsOfTheirChildren) {
  const std::string parent = Keep({});
  Keep({}, "a", {parent});
  const std::string lonely = Keep({});
  Start();
  EXPECT_TRUE(Delete("states/" + parent).ok());
  EXPECT_TRUE(Delete("states/" + lonely).ok());
  v1::State state;
  ASSERT_TRUE(Get("states/" + parent, &state).ok());
  EXPECT_TRUE(state.deleted());
  EXPECT_EQ(Get("states/" + lonely, &state).error_code(), StatusCode::NOT_FOUND);
  v1::ListStatesResponse page;
  ASSERT_TRUE(List({}, &page).ok());
  EXPECT_EQ(page.states_size(), 1);
}

TEST_F(Services, ExpiredStatesAreNotFound) {
  const std::string name = "states/" + Keep({});
  Start();
  v1::UpdateStateRequest request;
  request.set_name(name);
  request.mutable_annotations()->mutable_time_to_live()->set_nanos(1'000'000);
  v1::State state;
  ASSERT_TRUE(Update(request, &state).ok());
  while (Get(name, &state).error_code() != StatusCode::NOT_FOUND) std::this_thread::yield();
}

TEST_F(Services, AModelSaysWhatItIs) {
  Start();
  WaitServing("a");
  v1::GetModelRequest request;
  request.set_name("models/a");
  v1::Model model;
  ASSERT_TRUE(Call(models_, &v1::ModelService::Stub::GetModel, request, &model).ok());
  EXPECT_EQ(model.name(), "models/a");
  EXPECT_EQ(model.serving_version(), "models/a/versions/1");
  EXPECT_EQ(model.backbone().layers(), 2);
  EXPECT_EQ(model.backbone().width(), 128);
  EXPECT_EQ(model.backbone().vocab_size(), 256);
  EXPECT_GT(model.backbone().parameters(), 256 * 128 * 2);
  EXPECT_EQ(model.backbone_fingerprint().size(), 64u);
  EXPECT_EQ(model.tokenizer(), "byte");
  EXPECT_EQ(model.weight_format(), "fp32");
  EXPECT_THAT(model.device(), HasSubstr("cpu/"));
  EXPECT_EQ(model.state_bytes(), (2 * 2 * 128 + 2 * 2 * 64 * 64) * 4);
}

TEST_F(Services, ModelsAndVersionsComeInPages) {
  testing::PublishModel(options_.repository, "a", 2);
  testing::PublishModel(options_.repository, "a", 1, [](repository::Manifest& manifest) {
    manifest.self_test.expected_nll += 5;
    manifest.metrics = {{"loss", 1.5}};
  });
  testing::PublishModel(options_.repository, "b", 3);
  Start();
  WaitServing("a");
  WaitServing("b");
  v1::ListModelsRequest request;
  v1::ListModelsResponse models;
  request.set_page_size(1);
  ASSERT_TRUE(Call(models_, &v1::ModelService::Stub::ListModels, request, &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).name(), "models/a");
  request.set_page_token(models.next_page_token());
  ASSERT_TRUE(Call(models_, &v1::ModelService::Stub::ListModels, request, &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).name(), "models/b");
  EXPECT_EQ(models.next_page_token(), "");

  v1::ListModelVersionsRequest parent;
  v1::ListModelVersionsResponse versions;
  parent.set_parent("models/a");
  parent.set_page_size(2);
  ASSERT_TRUE(Call(models_, &v1::ModelService::Stub::ListModelVersions, parent, &versions).ok());
  ASSERT_EQ(versions.versions_size(), 2);
  EXPECT_EQ(versions.versions(0).name(), "models/a/versions/3");
  EXPECT_EQ(versions.versions(0).state(), v1::ModelVersion::FAILED);
  EXPECT_THAT(versions.versions(0).reason(), HasSubstr("self-test"));
  EXPECT_EQ(versions.versions(0).metrics().fields().at("loss").number_value(), 1.5);
  EXPECT_EQ(versions.versions(1).state(), v1::ModelVersion::SERVING);
  EXPECT_TRUE(versions.versions(1).self_test().has_measured_nll());
  EXPECT_EQ(versions.versions(1).components(0).kind(), "backbone");
  parent.set_page_token(versions.next_page_token());
  ASSERT_TRUE(Call(models_, &v1::ModelService::Stub::ListModelVersions, parent, &versions).ok());
  ASSERT_EQ(versions.versions_size(), 1);
  EXPECT_EQ(versions.versions(0).version(), 1);
  EXPECT_EQ(versions.versions(0).state(), v1::ModelVersion::DISCOVERED);
}

TEST_F(Services, CallsWhoseDeadlineHasPassedAreNotBegun) {
  const std::string name = "states/" + Keep({});
  Start();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() - std::chrono::seconds(1));
  v1::DeleteStateRequest request;
  request.set_name(name);
  v1::DeleteStateResponse response;
  EXPECT_EQ(states_->DeleteState(&context, request, &response).error_code(),
            StatusCode::DEADLINE_EXCEEDED);
  v1::State state;
  EXPECT_TRUE(Get(name, &state).ok());
}

}  // namespace
}  // namespace dreamstate::server
