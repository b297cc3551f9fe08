// Load on the server, in closed and open loops, with any mix of calls: see --help. Starts a server
// of its own with a random model unless --address names one that runs. Client and server share the
// machine; compare ratios of one run.
#include <cstdio>
#include <iostream>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "core/repository/repository.h"
#include "grpcpp/create_channel.h"
#include "server/trainer/self_test.h"
#include "tests/benchmarks/serve/calls.h"
#include "tests/benchmarks/serve/report.h"
#include "tests/end_to_end/server_process.h"
#include "tests/support/random_backbone.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::benchmarks {
namespace {

constexpr char kExamples[] = R"(Examples:
  serve_benchmark                                        8 callers decode, 10 s
  serve_benchmark --mix decode=4,continue=4,score=1,harvest=1 --callers 16
  serve_benchmark --rate 20 --callers 64                 open loop: 20 arrivals a second
  serve_benchmark --layers 12 --width 768 --vocab 65536  the 0.19B model of the speed tables
  serve_benchmark --shared-tokens 100                    prompts that begin alike: prefix reuse
  serve_benchmark --server-flag=--weights=int8           flags for the server
  serve_benchmark --address localhost:50051 --json       a server that runs)";

struct ModelSizes {
  int layers = 4;
  int width = 256;
  int vocab = 256;
};

void PublishRandomModel(const std::string& path, const ModelSizes& sizes) {
  rwkv::Config config;
  config.layers = sizes.layers;
  config.width = sizes.width;
  config.head_size = 64;
  config.heads = sizes.width / 64;
  config.vocab = sizes.vocab;
  config.ffn_width = 4 * sizes.width;
  config.rank_decay = config.rank_iclr = 64;
  config.rank_value = 32;
  config.rank_gate = 128;
  const tensors::TensorSet backbone = dreamstate::testing::RandomBackbone(config, 42);
  repository::Manifest manifest;
  manifest.model = "random";
  manifest.tokenizer = sizes.vocab == 256 ? "byte" : "world";
  std::vector<int32_t> probe(33);
  std::iota(probe.begin(), probe.end(), 60);
  manifest.self_test = trainer::MakeSelfTest(backbone, std::move(probe)).value();
  (void)repository::Repository::Create(path)
      .value()
      ->Publish(std::move(manifest), {{.kind = "backbone", .tensors = &backbone}})
      .value();
}

int Run(int argc, char** argv) {
  LoadOptions load;
  CallOptions calls;
  ModelSizes sizes;
  std::string address, mix = "decode";
  std::vector<std::string> flags;
  double seconds = 10;
  bool json = false;
  CLI::App app("Puts load on a dreamstate server and reports rates and percentiles of latency");
  app.footer(kExamples);
  app.add_option("--address", address, "a server that runs; none: one is started");
  app.add_option("--layers", sizes.layers, "of the random model")->check(CLI::Range(1, 128));
  app.add_option("--width", sizes.width, "a multiple of 64")->check(CLI::Range(64, 8192));
  app.add_option("--vocab", sizes.vocab, "256 (bytes) or 65536 (World)")
      ->check(CLI::IsMember({256, 65536}));
  app.add_option("--server-flag", flags, "given to the server that is started, e.g. --threads=2");
  app.add_option("--model", calls.model, "models/NAME");
  app.add_option("--mix", mix, "kinds and weights: decode, continue, score, harvest, get");
  app.add_option("--callers", load.callers, "calls at once (open loop: at most)")
      ->check(CLI::Range(1, 4096));
  app.add_option("--rate", load.arrivals_per_second, "arrivals a second; 0 = closed loop")
      ->check(CLI::Range(0.0, 1e6));
  app.add_option("--seconds", seconds)->check(CLI::Range(0.01, 86400.0));
  app.add_option("--calls", load.max_calls, "at most so many; 0 = any number")
      ->check(CLI::Range(0, 1 << 30));
  app.add_option("--prompt-tokens", calls.prompt_tokens)->check(CLI::Range(2, 1 << 20));
  app.add_option("--shared-tokens", calls.shared_tokens, "that all prompts begin with")
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--output-tokens", calls.output_tokens)->check(CLI::Range(1, 1 << 20));
  app.add_option("--seed", load.seed, "of arrivals, kinds, prompts and sampling");
  app.add_flag("--json", json, "one JSON object on standard output");
  CLI11_PARSE(app, argc, argv);
  absl::StatusOr<std::vector<Share>> shares = ParseMix(mix, Calls::Kinds());
  if (!shares.ok()) {
    std::cerr << shares.status().message() << "\n";
    return 2;
  }
  load.mix = *std::move(shares);
  load.duration = absl::Seconds(seconds);
  calls.seed = load.seed;

  const dreamstate::testing::TemporaryDirectory directory;
  std::optional<dreamstate::testing::ServerProcess> server;
  if (address.empty()) {
    std::cerr << "publishing a random model: layers " << sizes.layers << ", width " << sizes.width
              << ", vocabulary " << sizes.vocab << "\n";
    PublishRandomModel(directory / "repository", sizes);
    server.emplace(dreamstate::testing::ServerProcess::Setup{
        .repository = directory / "repository", .store = directory / "store", .flags = flags});
    if (!server->WaitUntilListening()) return 1;
    address = server->address();
  }
  const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  Calls made;
  absl::Status ready;
  // A model that is still being loaded answers UNAVAILABLE.
  do {
    ready = made.Prepare(channel, calls);
  } while (absl::IsUnavailable(ready) && server && server->Running());
  if (!ready.ok()) {
    std::cerr << ready.ToString() << "\n";
    return 1;
  }
  const LoadResult result = RunLoad(
      load, [&](size_t kind, int64_t number) { return made.Run(load.mix[kind].kind, number); });
  made.CleanUp();
  const nlohmann::ordered_json summary = Summarise(load, result);
  if (json) {
    std::cout << summary.dump() << "\n";
  } else {
    std::cout << Table(summary);
  }
  if (AnySucceeded(result)) return 0;
  std::cerr << "no call succeeded\n";
  return 1;
}

}  // namespace
}  // namespace dreamstate::benchmarks

int main(int argc, char** argv) { return dreamstate::benchmarks::Run(argc, argv); }
