#include "server/inference/server.h"

#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/repository.h"
#include "core/state/pool.h"
#include "core/state/prefix_trie.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "nlohmann/json.hpp"
#include "prometheus/exposer.h"
#include "server/inference/call_tracker.h"
#include "server/inference/decode_service.h"
#include "server/inference/diffusion_loop.h"
#include "server/inference/errors.h"
#include "server/inference/executor.h"
#include "server/inference/expiry_sweeper.h"
#include "server/inference/generation_service.h"
#include "server/inference/health.h"
#include "server/inference/metrics.h"
#include "server/inference/model_host.h"
#include "server/inference/model_policy.h"
#include "server/inference/model_service.h"
#include "server/inference/state_service.h"
#include "spdlog/spdlog.h"

namespace dreamstate::server {
namespace {

constexpr int kExecutorThreads = 4;
constexpr size_t kExecutorQueue = 4096;
// GenerateStates and EditState calls that run at once; they mostly wait for the one loop.
constexpr int kGenerationThreads = 8;
// A connection that says nothing holds a descriptor no longer than this.
constexpr int kHandshakeMs = 5'000;
// The same for the admin port, whose few threads it would hold, too.
constexpr char kAdminTimeoutMs[] = "2000";
constexpr int kKeepaliveMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
constexpr int kClientPingMs = 10'000;
// Messages on their way in and out, all connections together, in largest messages.
constexpr int64_t kMessagesInMemory = 64;
// How often streams are looked at that may have gone silent.
constexpr absl::Duration kVisitStreams = absl::Milliseconds(500);
// Time for last statuses to reach their readers after their calls were ended.
constexpr absl::Duration kFlush = absl::Seconds(1);

int Threads(const Options& options) {
  if (options.threads > 0) return static_cast<int>(options.threads);
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

// Of what the machine has, half: the engine goes on meanwhile.
int DiffusionThreads(const Options& options) {
  if (options.diffusion_threads > 0) return static_cast<int>(options.diffusion_threads);
  return std::max(1, Threads(options) / 2);
}

ModelHostOptions HostOptions(const Options& options) {
  ModelHostOptions host;
  host.models = options.models;
  if (const auto format = rwkv::ParseWeightFormat(options.weights); format.ok()) {
    host.weights = *format;  // "auto" is none
  }
  for (const std::string& entry : options.follow) {
    // Checked with the options: "mode" or "model=mode".
    const size_t equals = entry.find('=');
    const std::string mode = equals == std::string::npos ? entry : entry.substr(equals + 1);
    (equals == std::string::npos ? host.follow : host.follow_by_model[entry.substr(0, equals)]) =
        ParseFollowMode(mode).value_or(FollowMode::kAll);
  }
  host.poll = absl::Seconds(options.poll_seconds);
  host.max_drain = absl::Seconds(options.max_drain_seconds);
  host.scheduler.threads = Threads(options);
  host.scheduler.slots = static_cast<int>(options.max_sequences);
  host.scheduler.max_step_tokens = static_cast<int>(options.step_max_tokens);
  host.scheduler.max_waiting = static_cast<int>(options.queue_limit);
  return host;
}

RequestLimits Limits(const Options& options) {
  RequestLimits limits;
  limits.max_message_bytes = options.message_max_bytes;
  limits.max_text_tokens = options.prompt_max_tokens;
  limits.max_migrating_tokens = options.migrate_max_tokens;
  limits.reader_stall = absl::Seconds(options.reader_stall_seconds);
  limits.stream_silence = absl::Seconds(options.stream_silence_seconds);
  return limits;
}

class WithoutReflection : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments* /*arguments*/) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    std::erase_if(*plugins, [](const std::unique_ptr<grpc::ServerBuilderPlugin>& plugin) {
      return plugin->name() == "proto_server_reflection";
    });
  }
};

// The address as it is listened on: port 0 stands for one that was chosen.
std::string WithPort(const std::string& address, int port) {
  return StrCat(address.substr(0, address.rfind(':')), ":", port);
}

absl::StatusOr<std::unique_ptr<prometheus::Exposer>> Expose(const std::string& address,
                                                            const Metrics& metrics) {
  try {
    auto exposer = std::make_unique<prometheus::Exposer>(
        std::vector<std::string>{"listening_ports", address, "num_threads", "4",
                                 "request_timeout_ms", kAdminTimeoutMs, "enable_keep_alive", "no"});
    for (const auto& collectable : metrics.collectables()) {
      exposer->RegisterCollectable(collectable);
    }
    return exposer;
  } catch (const std::exception& error) {  // CivetException: the port is taken, or no such address
    return absl::UnavailableError(StrCat("cannot listen on admin address ", address,
                                         ": in use or not an address of this machine"));
  }
}

}  // namespace

// In order of making: what comes later uses what comes before.
struct Server::Parts {
  Metrics metrics;
  CallTracker calls{&metrics};
  std::unique_ptr<prometheus::Exposer> exposer;
  std::shared_ptr<state::PooledStateStore> store;
  std::shared_ptr<state::PrefixTrie> prefixes;  // null: switched off
  std::unique_ptr<ExpirySweeper> sweeper;
  std::unique_ptr<Health> health;
  std::unique_ptr<ModelHost> host;
  std::unique_ptr<Executor> executor;
  std::unique_ptr<OpenStreams> streams;
  std::unique_ptr<DiffusionLoop> diffusion;
  std::unique_ptr<Executor> generation_workers;
  std::unique_ptr<ModelService> model_service;
  std::unique_ptr<StateService> state_service;
  std::unique_ptr<DecodeService> decode_service;
  std::unique_ptr<GenerationService> generation_service;
  std::unique_ptr<grpc::Server> grpc;
  int grpc_port = 0;
  int admin_port = 0;

  absl::Status Listen(const Options& options);
};

absl::Status Server::Parts::Listen(const Options& options) {
  EnableHealthService();
  // The library registers reflection with every builder by itself; linked in explicitly, so that it
  // does.
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  if (!options.reflection) builder.SetOption(std::make_unique<WithoutReflection>());
  builder.AddListeningPort(options.listen_address, grpc::InsecureServerCredentials(), &grpc_port);
  const int message_bytes = static_cast<int>(options.message_max_bytes);
  builder.SetMaxReceiveMessageSize(message_bytes);
  builder.SetMaxSendMessageSize(message_bytes);
  builder.SetDefaultCompressionAlgorithm(GRPC_COMPRESS_NONE);
  builder.SetResourceQuota(
      grpc::ResourceQuota("server").Resize(static_cast<size_t>(kMessagesInMemory * message_bytes)));
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kClientPingMs);
  builder.RegisterService(model_service.get());
  builder.RegisterService(state_service.get());
  builder.RegisterService(decode_service.get());
  builder.RegisterService(generation_service.get());
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(calls.MakeInterceptors());
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  grpc = builder.BuildAndStart();
  if (grpc == nullptr || grpc_port == 0) {
    return absl::UnavailableError(StrCat("cannot listen on ", options.listen_address,
                                         ": in use or not an address of this machine"));
  }
  health->Attach(grpc->GetHealthCheckService());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const Options& options) {
  SetErrorDebugDetails(options.error_debug_details);
  // Whoever waits for the file must not find that of an earlier run.
  if (!options.port_file.empty()) std::remove(options.port_file.c_str());
  auto parts = std::make_unique<Parts>();
  DS_ASSIGN_OR_RETURN(std::unique_ptr<repository::Repository> repository,
                      repository::Repository::Open(options.repository));
  DS_ASSIGN_OR_RETURN(std::unique_ptr<state::StateStore> store,
                      state::OpenRocksDbStore({.path = options.store,
                                               .max_bytes = options.store_max_bytes,
                                               .cache_bytes = options.store_cache_max_bytes}));
  parts->store =
      std::make_shared<state::PooledStateStore>(std::move(store), options.pool_max_bytes);
  parts->metrics.WatchStore(parts->store);
  if (options.prefix_pool_max_bytes > 0) {
    parts->prefixes = std::make_shared<state::PrefixTrie>(options.prefix_pool_max_bytes);
    parts->metrics.WatchPrefixes(parts->prefixes);
  }
  if (!options.admin_address.empty()) {
    DS_ASSIGN_OR_RETURN(parts->exposer, Expose(options.admin_address, parts->metrics));
    parts->admin_port = parts->exposer->GetListeningPorts().front();
  }
  parts->health = std::make_unique<Health>(options.models);
  parts->executor = std::make_unique<Executor>(kExecutorThreads, kExecutorQueue);
  parts->streams = std::make_unique<OpenStreams>(kVisitStreams);
  ModelHostOptions host_options = HostOptions(options);
  host_options.on_backbone_gone = [prefixes = parts->prefixes](const std::string& fingerprint) {
    if (prefixes != nullptr) prefixes->ForgetBackbone(fingerprint);
  };
  parts->host = std::make_unique<ModelHost>(
      std::move(repository), std::move(host_options), &parts->metrics,
      [health = parts->health.get()](const std::string& model, bool serving) {
        health->SetServing(model, serving);
      });
  parts->diffusion = std::make_unique<DiffusionLoop>(DiffusionThreads(options), &parts->metrics);
  ServingContext context;
  context.models = parts->host.get();
  context.store = parts->store.get();
  context.executor = parts->executor.get();
  context.streams = parts->streams.get();
  context.prefixes = parts->prefixes.get();
  context.diffusion = parts->diffusion.get();
  context.limits = Limits(options);
  parts->generation_workers = std::make_unique<Executor>(
      kGenerationThreads, static_cast<size_t>(context.limits.max_generations));
  parts->model_service =
      std::make_unique<ModelService>(parts->host.get(), parts->executor.get(), options.admin_calls);
  parts->state_service = std::make_unique<StateService>(context, &parts->metrics);
  parts->decode_service = std::make_unique<DecodeService>(context);
  parts->generation_service = std::make_unique<GenerationService>(
      GenerationContext{context, parts->generation_workers.get(), &parts->metrics});
  DS_RETURN_IF_ERROR(parts->Listen(options));
  parts->sweeper = std::make_unique<ExpirySweeper>(parts->store.get(),
                                                   absl::Seconds(options.expiry_sweep_seconds));
  std::unique_ptr<Server> server(new Server(std::move(parts)));
  const int grpc_port = server->grpc_port(), admin_port = server->admin_port();
  if (!options.port_file.empty()) {
    const nlohmann::json ports = {{"grpc", grpc_port}, {"admin", admin_port}};
    DS_RETURN_IF_ERROR(WriteFileAtomically(options.port_file, ports.dump() + "\n"));
  }
  server->parts_->host->Start();
  spdlog::info("listening on {}, metrics {}", WithPort(options.listen_address, grpc_port),
               options.admin_address.empty()
                   ? "off"
                   : StrCat("on ", WithPort(options.admin_address, admin_port)));
  return server;
}

Server::Server(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Server::~Server() {
  if (parts_ != nullptr) Drain(absl::ZeroDuration());
}

int Server::grpc_port() const { return parts_->grpc_port; }
int Server::admin_port() const { return parts_->admin_port; }

bool Server::Drain(absl::Duration limit) {
  const absl::Time end = absl::Now() + limit;
  const auto left = [&] { return std::max(end - absl::Now(), absl::ZeroDuration()); };
  parts_->health->BeginDrain();
  parts_->streams->BeginDrain();
  bool finished = parts_->host->Drain(left());
  // Jobs are done before their calls are: states are stored and last messages sent.
  finished &= parts_->calls.WaitIdle(left());
  parts_->host->Stop();
  // Idle connections count as unfinished here, so nothing is waited for when no call is left.
  parts_->grpc->Shutdown(
      absl::ToChronoTime(absl::Now() + (finished ? absl::ZeroDuration() : kFlush)));
  parts_->grpc->Wait();
  parts_.reset();
  return finished;
}

}  // namespace dreamstate::server
