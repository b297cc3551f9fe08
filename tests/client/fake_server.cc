#include "tests/client/fake_server.h"

#include <chrono>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/server_builder.h"
#include "tests/client/fake_decoder.h"
#include "tests/client/fake_generator.h"
#include "tests/client/fake_models.h"
#include "tests/client/fake_states.h"

namespace dreamstate::client {

int64_t SizeOf(const v1::TextInput& input) {
  if (input.has_tokens()) return input.tokens().ids_size();
  return static_cast<int64_t>(input.has_text() ? input.text().size() : input.raw().size());
}

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

FakeServer::FakeServer()
    : models_service_(std::make_unique<Models>(*this)),
      states_service_(std::make_unique<States>(*this)),
      decode_service_(std::make_unique<Decoder>(*this)),
      generation_service_(std::make_unique<Generator>(*this)) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
  builder.SetMaxReceiveMessageSize(16 << 20);
  builder.RegisterService(models_service_.get());
  builder.RegisterService(states_service_.get());
  builder.RegisterService(decode_service_.get());
  builder.RegisterService(generation_service_.get());
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
  state.set_backbone_fingerprint("f1");
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
std::vector<v1::DeleteStatesRequest> FakeServer::deletes() const {
  const std::lock_guard lock(mutex_);
  return deletes_;
}
std::vector<v1::ProjectStatesRequest> FakeServer::projections() const {
  const std::lock_guard lock(mutex_);
  return projections_;
}
std::vector<v1::ReloadModelRequest> FakeServer::reloads() const {
  const std::lock_guard lock(mutex_);
  return reloads_;
}
std::vector<v1::DownloadStateRequest> FakeServer::downloads() const {
  const std::lock_guard lock(mutex_);
  return downloads_;
}
std::vector<FakeServer::Upload> FakeServer::uploads() const {
  const std::lock_guard lock(mutex_);
  return uploads_;
}
std::vector<v1::DecodeBatchRequest> FakeServer::batch() const {
  const std::lock_guard lock(mutex_);
  return batch_;
}
std::vector<v1::GenerateStatesRequest> FakeServer::generations() const {
  const std::lock_guard lock(mutex_);
  return generations_;
}
std::vector<v1::EditStateRequest> FakeServer::edits() const {
  const std::lock_guard lock(mutex_);
  return edits_;
}

void FakeServer::SetFile(const std::string& bytes, const std::string& sha256,
                         const std::string& file_name) {
  const std::lock_guard lock(mutex_);
  file_ = bytes;
  file_sha256_ = sha256;
  file_name_ = file_name;
}

void FakeServer::RejectNewest(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  rejected_ = reason;
}

void FakeServer::SetChatTemplate(const std::string& text) {
  const std::lock_guard lock(mutex_);
  chat_template_ = text;
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
