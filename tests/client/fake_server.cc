#include "tests/client/fake_server.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/server_builder.h"

namespace dreamstate::client {
namespace {

constexpr char kFingerprint[] = "f1";

int64_t SizeOf(const v1::TextInput& input) {
  if (input.has_tokens()) return input.tokens().ids_size();
  return static_cast<int64_t>(input.has_text() ? input.text().size() : input.raw().size());
}

}  // namespace

grpc::Status ErrorWith(grpc::StatusCode code, const std::string& message,
                       const google::protobuf::Message& detail) {
  google::rpc::Status status;
  status.set_code(code);
  status.set_message(message);
  status.add_details()->PackFrom(detail);
  return grpc::Status(code, message, status.SerializeAsString());
}

grpc::Status RetryLater(grpc::StatusCode code, int64_t delay_ms) {
  google::rpc::RetryInfo info;
  info.mutable_retry_delay()->set_seconds(delay_ms / 1000);
  info.mutable_retry_delay()->set_nanos(static_cast<int32_t>(delay_ms % 1000) * 1000000);
  return ErrorWith(code, "come back later", info);
}

struct FakeServer::Models : v1::ModelService::Service {
  explicit Models(FakeServer& f) : fake(f) {}

  static v1::Model ModelOf(const std::string& name) {
    v1::Model model;
    model.set_name(name);
    model.set_serving_version(name + "/versions/3");
    model.mutable_backbone()->set_layers(2);
    model.mutable_backbone()->set_width(64);
    model.mutable_backbone()->set_parameters(834000);
    model.set_backbone_fingerprint(kFingerprint);
    model.set_tokenizer("byte");
    model.set_weight_format("fp32");
    model.set_device("cpu/test");
    model.set_state_bytes(2048);
    return model;
  }

  grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest* request,
                          v1::ListModelsResponse* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    // Two pages, to be walked.
    const bool first = request->page_token().empty();
    *response->add_models() = ModelOf(first ? "models/alpha" : "models/beta");
    if (first) response->set_next_page_token("second");
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
    for (const int number : {3, 2}) {
      v1::ModelVersion* version = response->add_versions();
      version->set_name(absl::StrCat(request->parent(), "/versions/", number));
      version->set_version(number);
      version->set_state(number == 3 ? v1::ModelVersion::SERVING : v1::ModelVersion::FAILED);
      if (number == 2) version->set_reason("self-test: not finite");
      version->mutable_self_test()->set_expected_nll(1.5);
    }
    return grpc::Status::OK;
  }

  FakeServer& fake;
};

struct FakeServer::States : v1::StateService::Service {
  explicit States(FakeServer& f) : fake(f) {}

  grpc::Status HarvestStates(grpc::ServerContext* context,
                             grpc::ServerReaderWriter<v1::HarvestStatesResponse,
                                                      v1::HarvestStatesRequest>* stream) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    v1::HarvestStatesRequest request;
    v1::HarvestStatesResponse response;
    v1::HarvestOptions options;
    v1::HarvestSummary summary;
    int sent = 0;
    while (stream->Read(&request)) {
      if (request.has_options()) {
        options = request.options();
        const std::lock_guard lock(fake.mutex_);
        fake.harvests_.push_back(options);
        continue;
      }
      const v1::Document& document = request.document();
      bool refused, hang;
      {
        std::unique_lock lock(fake.mutex_);
        fake.documents_.push_back(document);
        fake.changed_.notify_all();
        const auto paused = [&] {
          return fake.pause_after_ >= 0 &&
                 static_cast<int>(fake.documents_.size()) >= fake.pause_after_ && !fake.stopping_;
        };
        fake.changed_.wait(lock, [&] { return !paused(); });
        refused = document.id() == fake.refused_document_;
        hang = fake.hang_after_ >= 0 && sent >= fake.hang_after_;
      }
      if (hang) return fake.Hang(context);
      ++sent;
      summary.set_documents(summary.documents() + 1);
      if (refused) {
        summary.set_documents(summary.documents() - 1);
        summary.set_errors(summary.errors() + 1);
        response.mutable_error()->set_document_id(document.id());
        response.mutable_error()->set_code(grpc::StatusCode::INVALID_ARGUMENT);
        response.mutable_error()->set_message("holds the end token");
        stream->Write(response);
        continue;
      }
      const int64_t tokens = SizeOf(document.content());
      summary.set_tokens(summary.tokens() + tokens);
      google::protobuf::RepeatedField<int64_t> positions = document.positions().values();
      if (positions.empty()) positions.Add(tokens);
      for (const int64_t position : positions) {
        response.mutable_state()->set_document_id(document.id());
        response.mutable_state()->set_position(position);
        *response.mutable_state()->mutable_state() =
            fake.Store("harvest", options.annotations(), position);
        summary.set_states(summary.states() + 1);
        stream->Write(response);
      }
      response.mutable_progress()->set_documents_done(summary.documents());
      response.mutable_progress()->set_documents_received(summary.documents());
      response.mutable_progress()->set_tokens_done(summary.tokens());
      stream->Write(response);
    }
    if (context->IsCancelled()) return fake.Hang(context);
    summary.set_seconds(0.25);
    *response.mutable_summary() = summary;
    stream->Write(response);
    return grpc::Status::OK;
  }

  grpc::Status Find(const std::string& name, v1::State* state) {
    const std::lock_guard lock(fake.mutex_);
    const auto found = fake.states_.find(name);
    if (found == fake.states_.end()) {
      google::rpc::ResourceInfo info;
      info.set_resource_type("state");
      info.set_resource_name(name);
      return ErrorWith(grpc::StatusCode::NOT_FOUND, "no such state", info);
    }
    *state = found->second;
    return grpc::Status::OK;
  }

  grpc::Status GetState(grpc::ServerContext*, const v1::GetStateRequest* request,
                        v1::State* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    return Find(request->name(), response);
  }

  grpc::Status ListStates(grpc::ServerContext*, const v1::ListStatesRequest* request,
                          v1::ListStatesResponse* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    const std::lock_guard lock(fake.mutex_);
    fake.lists_.push_back(*request);
    // Pages of one.
    auto at = request->page_token().empty() ? fake.states_.begin()
                                            : fake.states_.find(request->page_token());
    if (at == fake.states_.end()) return grpc::Status::OK;
    *response->add_states() = at->second;
    if (++at != fake.states_.end()) response->set_next_page_token(at->first);
    return grpc::Status::OK;
  }

  grpc::Status UpdateState(grpc::ServerContext*, const v1::UpdateStateRequest* request,
                           v1::State* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    if (grpc::Status status = Find(request->name(), response); !status.ok()) return status;
    const std::lock_guard lock(fake.mutex_);
    fake.updates_.push_back(*request);
    v1::State& state = fake.states_[request->name()];
    for (const std::string& path : request->update_mask().paths()) {
      if (path == "labels") *state.mutable_labels() = request->annotations().labels();
      if (path == "time_to_live") state.clear_expires();
    }
    *response = state;
    return grpc::Status::OK;
  }

  grpc::Status DeleteState(grpc::ServerContext*, const v1::DeleteStateRequest* request,
                           v1::DeleteStateResponse*) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    v1::State state;
    if (grpc::Status status = Find(request->name(), &state); !status.ok()) return status;
    const std::lock_guard lock(fake.mutex_);
    fake.states_.erase(request->name());
    return grpc::Status::OK;
  }

  FakeServer& fake;
};

struct FakeServer::Decoder : v1::DecodeService::Service {
  explicit Decoder(FakeServer& f) : fake(f) {}

  // Branches side by side: "b0 one ", "b1 one ", "b0 two ", …
  grpc::Status Decode(grpc::ServerContext* context, const v1::DecodeRequest* request,
                      grpc::ServerWriter<v1::DecodeResponse>* writer) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    int hang_after;
    {
      const std::lock_guard lock(fake.mutex_);
      fake.decodes_.push_back(*request);
      hang_after = fake.hang_after_;
    }
    int sent = 0;
    const auto send = [&](const v1::DecodeResponse& response) {
      if (hang_after >= 0 && sent >= hang_after) return false;
      ++sent;
      return writer->Write(response);
    };
    const int branches = std::max(request->branches(), 1);
    v1::DecodeResponse response;
    response.mutable_start()->set_model_version("models/alpha/versions/3");
    response.mutable_start()->set_seed(request->sampling().has_seed() ? request->sampling().seed()
                                                                      : 42);
    response.mutable_start()->set_prompt_tokens(SizeOf(request->prompt()));
    response.mutable_start()->set_prefill_seconds(0.5);
    if (!send(response)) return fake.Hang(context);
    for (const char* word : {"one", " two", " three\033[2J"}) {
      for (int branch = 0; branch < branches; ++branch) {
        response.mutable_piece()->set_branch(branch);
        v1::TextPiece* piece = response.mutable_piece()->mutable_piece();
        piece->Clear();
        const std::string prefix =
            branches > 1 && std::string(word) == "one" ? absl::StrCat("b", branch, " ") : "";
        piece->set_text(prefix + word);
        piece->set_raw(piece->text());
        piece->add_token_ids(7);
        if (request->has_top_log_probs()) piece->add_log_probs()->set_log_prob(-0.5);
        if (!send(response)) return fake.Hang(context);
      }
    }
    for (int branch = branches - 1; branch >= 0; --branch) {
      v1::DecodeFinish* finish = response.mutable_finish();
      finish->Clear();
      finish->set_branch(branch);
      finish->set_reason(v1::DecodeFinish::MAX_TOKENS);
      finish->set_generated_tokens(3);
      finish->set_decode_seconds(0.25);
      if (request->has_save_state()) {
        *finish->mutable_saved_state() =
            fake.Store("decode", request->save_state().annotations(), 3);
      }
      if (!send(response)) return fake.Hang(context);
    }
    return grpc::Status::OK;
  }

  // 2 bits a byte from a state, 4 from the empty one.
  grpc::Status Score(grpc::ServerContext* context, const v1::ScoreRequest* request,
                     v1::ScoreResponse* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    bool hang;
    {
      const std::lock_guard lock(fake.mutex_);
      fake.scores_.push_back(*request);
      hang = fake.hang_after_ >= 0;
    }
    if (hang) return fake.Hang(context);
    const int64_t bytes = SizeOf(request->target());
    const double bits = request->source().state().empty() ? 4 : 2;
    response->set_model_version("models/alpha/versions/3");
    response->set_bits_per_byte(bits);
    response->set_total_nats(bits * 0.5 * static_cast<double>(bytes));
    response->set_target_bytes(bytes);
    response->set_target_tokens(bytes);
    for (int64_t i = 0; request->per_token() && i < bytes; ++i)
      response->add_token_nats(static_cast<float>(bits / 2));
    return grpc::Status::OK;
  }

  FakeServer& fake;
};

FakeServer::FakeServer()
    : models_service_(std::make_unique<Models>(*this)),
      states_service_(std::make_unique<States>(*this)),
      decode_service_(std::make_unique<Decoder>(*this)) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
  builder.SetMaxReceiveMessageSize(16 << 20);
  builder.RegisterService(models_service_.get());
  builder.RegisterService(states_service_.get());
  builder.RegisterService(decode_service_.get());
  server_ = builder.BuildAndStart();
}

FakeServer::~FakeServer() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
}

std::string FakeServer::address() const { return absl::StrCat("127.0.0.1:", port_); }

void FakeServer::FailNext(const grpc::Status& status, int times) {
  const std::lock_guard lock(mutex_);
  failures_.insert(failures_.end(), times, status);
}

void FakeServer::HangAfter(int messages) {
  const std::lock_guard lock(mutex_);
  hang_after_ = messages;
}

void FakeServer::RefuseDocument(const std::string& id) {
  const std::lock_guard lock(mutex_);
  refused_document_ = id;
}

void FakeServer::PauseReading(int documents) {
  const std::lock_guard lock(mutex_);
  pause_after_ = documents;
}

void FakeServer::ResumeReading() {
  const std::lock_guard lock(mutex_);
  pause_after_ = -1;
  changed_.notify_all();
}

grpc::Status FakeServer::Begin() {
  const std::lock_guard lock(mutex_);
  ++calls_;
  changed_.notify_all();
  if (failures_.empty()) return grpc::Status::OK;
  const grpc::Status status = failures_.front();
  failures_.pop_front();
  return status;
}

grpc::Status FakeServer::Hang(grpc::ServerContext* context) {
  std::unique_lock lock(mutex_);
  // The synchronous API tells of a cancellation only when asked.
  while (!stopping_ && !context->IsCancelled())
    changed_.wait_for(lock, std::chrono::milliseconds(2));
  if (!stopping_) ++cancelled_;
  changed_.notify_all();
  return grpc::Status::CANCELLED;
}

v1::State FakeServer::Store(const std::string& operation, const v1::Annotations& annotations,
                            int64_t tokens) {
  const std::lock_guard lock(mutex_);
  v1::State state;
  state.set_name(absl::StrCat("states/s", ++made_));
  state.set_model("models/alpha");
  state.set_backbone_fingerprint(kFingerprint);
  state.mutable_created()->set_seconds(1700000000);
  *state.mutable_labels() = annotations.labels();
  if (annotations.time_to_live().seconds() > 0) {
    state.mutable_expires()->set_seconds(1700000000 + annotations.time_to_live().seconds());
  }
  state.set_token_count(tokens);
  state.set_bytes(2048);
  state.set_etag("e1");
  state.mutable_lineage()->set_operation(operation);
  states_[state.name()] = state;
  return state;
}

void FakeServer::AddState(const v1::State& state) {
  const std::lock_guard lock(mutex_);
  states_[state.name()] = state;
}

int FakeServer::calls() const {
  const std::lock_guard lock(mutex_);
  return calls_;
}
std::vector<v1::DecodeRequest> FakeServer::decodes() const {
  const std::lock_guard lock(mutex_);
  return decodes_;
}
std::vector<v1::ScoreRequest> FakeServer::scores() const {
  const std::lock_guard lock(mutex_);
  return scores_;
}
std::vector<v1::HarvestOptions> FakeServer::harvests() const {
  const std::lock_guard lock(mutex_);
  return harvests_;
}
std::vector<v1::Document> FakeServer::documents() const {
  const std::lock_guard lock(mutex_);
  return documents_;
}
std::vector<v1::ListStatesRequest> FakeServer::lists() const {
  const std::lock_guard lock(mutex_);
  return lists_;
}
std::vector<v1::UpdateStateRequest> FakeServer::updates() const {
  const std::lock_guard lock(mutex_);
  return updates_;
}
std::map<std::string, v1::State> FakeServer::states() const {
  const std::lock_guard lock(mutex_);
  return states_;
}

bool FakeServer::WaitForCalls(int count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return calls_ >= count; });
}

bool FakeServer::WaitForCancelled(int count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return cancelled_ >= count; });
}

}  // namespace dreamstate::client
