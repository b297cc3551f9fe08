// A dreamstate server of a few lines, in the test's own process: keeps states as names, "generates"
// fixed words, and fails or hangs on demand. It checks nothing that the client should get right;
// tests look at the requests it saw.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dreamstate/v1/decode_service.grpc.pb.h"
#include "dreamstate/v1/generation_service.grpc.pb.h"
#include "dreamstate/v1/model_service.grpc.pb.h"
#include "dreamstate/v1/state_service.grpc.pb.h"
#include "google/protobuf/message.h"
#include "grpcpp/server.h"

namespace dreamstate::client {

// An error as the server makes them: one google.rpc detail.
grpc::Status ErrorWith(grpc::StatusCode code, const std::string& message,
                       const google::protobuf::Message& detail);
// UNAVAILABLE or RESOURCE_EXHAUSTED with a RetryInfo.
grpc::Status RetryLater(grpc::StatusCode code, int64_t delay_ms);

// Bytes of a text, tokens of ready-made ones.
int64_t SizeOf(const v1::TextInput& input);

class FakeServer {
 public:
  // A state that was sent as a file.
  struct Upload {
    v1::UploadOptions options;
    std::string bytes;
    std::vector<size_t> chunks;  // bytes of each message
  };

  FakeServer();
  ~FakeServer();

  std::string address() const;

  // The next calls, of any method, fail so; in order.
  void FailNext(const grpc::Status& status, int times = 1);
  // Calls of streams and Score stay open until the client ends them, after `messages` messages were
  // sent.
  void HangAfter(int messages);
  // Documents of this id answer with an error.
  void RefuseDocument(const std::string& id);
  // A harvest stops reading after this many documents and answers each only when Resume() is
  // called.
  void PauseReading(int documents);
  void ResumeReading();
  // What every download answers with.
  void SetFile(const std::string& bytes, const std::string& sha256, const std::string& file_name);
  // Of models/alpha, which is then the only model that is listed.
  void SetChatTemplate(const std::string& text);
  // Every model has a version 4, which was rejected for this reason.
  void RejectNewest(const std::string& reason);

  // What arrived so far.
  int calls() const;
  std::vector<v1::DecodeRequest> decodes() const;
  std::vector<v1::ScoreRequest> scores() const;
  std::vector<v1::HarvestOptions> harvests() const;
  std::vector<v1::Document> documents() const;
  std::vector<v1::ListStatesRequest> lists() const;
  std::vector<v1::UpdateStateRequest> updates() const;
  std::vector<v1::DeleteStatesRequest> deletes() const;
  std::vector<v1::ProjectStatesRequest> projections() const;
  std::vector<v1::ReloadModelRequest> reloads() const;
  std::vector<v1::DownloadStateRequest> downloads() const;
  std::vector<Upload> uploads() const;
  std::vector<v1::DecodeBatchRequest> batch() const;
  std::vector<v1::GenerateStatesRequest> generations() const;
  std::vector<v1::EditStateRequest> edits() const;
  std::map<std::string, v1::State> states() const;
  void AddState(const v1::State& state);

  // Waits until the server saw `count` calls begin, or `count` calls end because the client
  // cancelled. False after 20 s.
  bool WaitForCalls(int count);
  bool WaitForCancelled(int count);

 private:
  struct Models;
  struct States;
  struct Decoder;
  struct Generator;

  // Counts a call; an error when the next call is to fail.
  grpc::Status Begin();
  // Blocks until the client is gone.
  grpc::Status Hang(grpc::ServerContext* context);
  v1::State Store(const std::string& operation, const v1::Annotations& annotations, int64_t tokens);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<grpc::Status> failures_;
  int hang_after_ = -1;
  int pause_after_ = -1;
  bool stopping_ = false;
  int calls_ = 0;
  int cancelled_ = 0;
  std::string refused_document_;
  std::vector<v1::DecodeRequest> decodes_;
  std::vector<v1::ScoreRequest> scores_;
  std::vector<v1::HarvestOptions> harvests_;
  std::vector<v1::Document> documents_;
  std::vector<v1::ListStatesRequest> lists_;
  std::vector<v1::UpdateStateRequest> updates_;
  std::vector<v1::DeleteStatesRequest> deletes_;
  std::vector<v1::ProjectStatesRequest> projections_;
  std::vector<v1::ReloadModelRequest> reloads_;
  std::vector<v1::DownloadStateRequest> downloads_;
  std::vector<Upload> uploads_;
  std::vector<v1::DecodeBatchRequest> batch_;
  std::vector<v1::GenerateStatesRequest> generations_;
  std::vector<v1::EditStateRequest> edits_;
  std::string file_, file_sha256_, file_name_;
  std::string chat_template_;
  std::string pinned_;
  std::string rejected_;
  std::map<std::string, v1::State> states_;
  int made_ = 0;

  std::unique_ptr<Models> models_service_;
  std::unique_ptr<States> states_service_;
  std::unique_ptr<Decoder> decode_service_;
  std::unique_ptr<Generator> generation_service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace dreamstate::client
