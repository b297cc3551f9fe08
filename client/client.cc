#include "client/client.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/connection.h"
#include "client/names.h"
#include "client/request_id.h"
#include "client/rpc_status.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/channel_arguments.h"

namespace dreamstate::client {
namespace {

bool IsLocal(absl::string_view address) {
  absl::ConsumePrefix(&address, "dns:///");
  return absl::StartsWith(address, "localhost") || absl::StartsWith(address, "127.") ||
         absl::StartsWith(address, "[::1]") || absl::StartsWith(address, "unix:");
}

absl::StatusOr<std::string> TargetOf(absl::string_view address) {
  if (address.empty()) return absl::InvalidArgumentError("the server's address is empty");
  for (const char c : address) {
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) {
      return absl::InvalidArgumentError(
          absl::StrCat("not an address: '", OneLine(address), "'; expected host:port"));
    }
  }
  if (absl::StartsWith(address, "http://") || absl::StartsWith(address, "https://")) {
    return absl::InvalidArgumentError(absl::StrCat("not an address: '", OneLine(address),
                                                   "'; expected host:port, without http://"));
  }
  // A bare host or [IPv6 address] gets our port; gRPC would take 443.
  const bool bare = !absl::StrContains(address, ':') || absl::EndsWith(address, "]");
  return bare ? absl::StrCat(address, ":", kDefaultPort) : std::string(address);
}

// One call with one answer, repeated as retry.h says.
template <typename Stub, typename Request, typename Response>
absl::StatusOr<Response> Ask(const RetryPolicy& retry, const CallOptions& options, Stub& stub,
                             grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                          Response*),
                             const Request& request) {
  Response response;
  const absl::Status status =
      RunWithRetries(retry, Repeatable::kAlways, options, [&](grpc::ClientContext& context, bool*) {
        return FromRpc((stub.*method)(&context, request, &response));
      });
  if (!status.ok()) return status;
  return response;
}

}  // namespace

Client::Client(std::unique_ptr<Connection> connection) : connection_(std::move(connection)) {}
Client::~Client() = default;

absl::StatusOr<std::unique_ptr<Client>> Client::Create(ClientOptions options) {
  absl::StatusOr<std::string> target = TargetOf(options.address);
  if (!target.ok()) return target.status();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetUserAgentPrefix("dreamstate-client");
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(options.connect_timeout)));
  // Our own retries decide when to come back; a channel that sits out a long back-off would answer
  // for them.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // A proxy from the environment never reaches a server on this machine.
  if (IsLocal(*target)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  const auto credentials =
      options.credentials ? options.credentials : grpc::InsecureChannelCredentials();
  const auto channel = grpc::CreateCustomChannel(*target, credentials, arguments);
  return std::unique_ptr<Client>(new Client(std::make_unique<Connection>(channel, options.retry)));
}

Pages<v1::Model> Client::Models(CallOptions options) {
  using Models = Pages<v1::Model>;
  return Models([this, options](const std::string& token) -> absl::StatusOr<Models::Page> {
    v1::ListModelsRequest request;
    request.set_page_token(token);
    const auto response = Ask(connection_->retry, options, connection_->models,
                              &v1::ModelService::Stub::ListModels, request);
    if (!response.ok()) return response.status();
    return Models::Page{{response->models().begin(), response->models().end()},
                        response->next_page_token()};
  });
}

absl::StatusOr<v1::Model> Client::GetModel(absl::string_view name_or_id, CallOptions options) {
  v1::GetModelRequest request;
  request.set_name(ModelName(name_or_id));
  return Ask(connection_->retry, options, connection_->models, &v1::ModelService::Stub::GetModel,
             request);
}

Pages<v1::ModelVersion> Client::ModelVersions(absl::string_view name_or_id, CallOptions options) {
  using Versions = Pages<v1::ModelVersion>;
  return Versions([this, options, parent = ModelName(name_or_id)](
                      const std::string& token) -> absl::StatusOr<Versions::Page> {
    v1::ListModelVersionsRequest request;
    request.set_parent(parent);
    request.set_page_token(token);
    const auto response = Ask(connection_->retry, options, connection_->models,
                              &v1::ModelService::Stub::ListModelVersions, request);
    if (!response.ok()) return response.status();
    return Versions::Page{{response->versions().begin(), response->versions().end()},
                          response->next_page_token()};
  });
}

absl::StatusOr<v1::ReloadModelResponse> Client::ReloadModel(absl::string_view name_or_id, bool wait,
                                                            CallOptions options) {
  v1::ReloadModelRequest request;
  request.set_name(ModelName(name_or_id));
  request.set_wait(wait);
  return Ask(connection_->retry, options, connection_->models, &v1::ModelService::Stub::ReloadModel,
             request);
}

absl::StatusOr<v1::Model> Client::PinModelVersion(absl::string_view version_name,
                                                  CallOptions options) {
  v1::PinModelVersionRequest request;
  request.set_name(std::string(version_name));
  return Ask(connection_->retry, options, connection_->models,
             &v1::ModelService::Stub::PinModelVersion, request);
}

absl::StatusOr<v1::Model> Client::UnpinModel(absl::string_view name_or_id, CallOptions options) {
  v1::UnpinModelRequest request;
  request.set_name(ModelName(name_or_id));
  return Ask(connection_->retry, options, connection_->models, &v1::ModelService::Stub::UnpinModel,
             request);
}

Pages<v1::State> Client::States(v1::ListStatesRequest filter, CallOptions options) {
  using States = Pages<v1::State>;
  return States([this, options, request = std::move(filter)](
                    const std::string& token) mutable -> absl::StatusOr<States::Page> {
    request.set_page_token(token);
    const auto response = Ask(connection_->retry, options, connection_->states,
                              &v1::StateService::Stub::ListStates, request);
    if (!response.ok()) return response.status();
    return States::Page{{response->states().begin(), response->states().end()},
                        response->next_page_token()};
  });
}

absl::StatusOr<v1::State> Client::GetState(absl::string_view name_or_id, CallOptions options) {
  v1::GetStateRequest request;
  request.set_name(StateName(name_or_id));
  return Ask(connection_->retry, options, connection_->states, &v1::StateService::Stub::GetState,
             request);
}

absl::StatusOr<v1::State> Client::UpdateState(v1::UpdateStateRequest request, CallOptions options) {
  if (request.request_id().empty()) request.set_request_id(DrawRequestId());
  return Ask(connection_->retry, options, connection_->states, &v1::StateService::Stub::UpdateState,
             request);
}

absl::StatusOr<v1::State> Client::MigrateState(v1::MigrateStateRequest request,
                                               CallOptions options) {
  if (request.request_id().empty()) request.set_request_id(DrawRequestId());
  return Ask(connection_->retry, options, connection_->states,
             &v1::StateService::Stub::MigrateState, request);
}

absl::Status Client::DeleteState(absl::string_view name_or_id, absl::string_view etag,
                                 CallOptions options) {
  v1::DeleteStateRequest request;
  request.set_name(StateName(name_or_id));
  request.set_etag(std::string(etag));
  request.set_request_id(DrawRequestId());
  // After a lost connection the deletion may have happened, by a server that has restarted since
  // and does not know the request_id any more.
  bool perhaps_done = false;
  return RunWithRetries(
      connection_->retry, Repeatable::kAlways, options, [&](grpc::ClientContext& context, bool*) {
        v1::DeleteStateResponse response;
        absl::Status status =
            FromRpc(connection_->states.DeleteState(&context, request, &response));
        if (perhaps_done && absl::IsNotFound(status)) return absl::OkStatus();
        perhaps_done = perhaps_done || IsUnreachable(status);
        return status;
      });
}

absl::StatusOr<v1::DeleteStatesResponse> Client::DeleteStates(v1::DeleteStatesRequest request,
                                                              CallOptions options) {
  if (!request.dry_run() && request.request_id().empty()) request.set_request_id(DrawRequestId());
  return Ask(connection_->retry, options, connection_->states,
             &v1::StateService::Stub::DeleteStates, request);
}

absl::StatusOr<v1::DescribeStateResponse> Client::DescribeState(absl::string_view name_or_id,
                                                                CallOptions options) {
  v1::DescribeStateRequest request;
  request.set_name(StateName(name_or_id));
  return Ask(connection_->retry, options, connection_->states,
             &v1::StateService::Stub::DescribeState, request);
}

absl::StatusOr<v1::CompareStatesResponse> Client::CompareStates(absl::string_view first,
                                                                absl::string_view second,
                                                                CallOptions options) {
  v1::CompareStatesRequest request;
  request.set_first(StateName(first));
  request.set_second(StateName(second));
  return Ask(connection_->retry, options, connection_->states,
             &v1::StateService::Stub::CompareStates, request);
}

absl::StatusOr<v1::ProjectStatesResponse> Client::ProjectStates(
    const v1::ProjectStatesRequest& request, CallOptions options) {
  return Ask(connection_->retry, options, connection_->states,
             &v1::StateService::Stub::ProjectStates, request);
}

absl::StatusOr<v1::GetLineageResponse> Client::GetLineage(const v1::GetLineageRequest& request,
                                                          CallOptions options) {
  return Ask(connection_->retry, options, connection_->states, &v1::StateService::Stub::GetLineage,
             request);
}

absl::StatusOr<v1::ScoreResponse> Client::Score(const v1::ScoreRequest& request,
                                                CallOptions options) {
  return Ask(connection_->retry, options, connection_->decode, &v1::DecodeService::Stub::Score,
             request);
}

}  // namespace dreamstate::client
