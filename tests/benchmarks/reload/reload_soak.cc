// Reloads under load: publishes version after version into the repository of a real server, by
// turns with a new backbone and with the same one, while clients call. Then every call is asked
// again of a server that has its version alone.
//   reload_soak [--reloads 300] [--interval 2] [--clients 8] [--quiet-seconds 60] [--replays 40]
//               [--layers 5] [--width 256] [--keep 4] [--bars] [--json]
// Exit code 0 when no call failed, every answer was that of one version and the repository was
// bounded; with --bars, only when memory stayed flat and tokens came about as fast as without
// reloads, too.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <numeric>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/time/time.h"
#include "core/base/strings.h"
#include "core/repository/repository.h"
#include "nlohmann/json.hpp"
#include "server/trainer/self_test.h"
#include "tests/benchmarks/reload/soak_clients.h"
#include "tests/end_to_end/server_process.h"
#include "tests/support/http.h"
#include "tests/support/random_backbone.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::benchmarks {
namespace {

using Clock = std::chrono::steady_clock;
using testing::ServerProcess;

struct Options {
  int reloads = 300;
  double interval = 2;
  int clients = 8;
  double quiet_seconds = 60;
  int replays = 40;  // calls of each version that are asked again
  int layers = 5, width = 256;
  int keep = 4;  // newest versions that stay in the repository
  bool bars = false;
  bool json = false;
};

// Of each cache: soon full, so that memory that grows later is not a cache that fills. That of the
// store takes some 10 KB a second.
constexpr char kCacheBytes[] = "16777216";
constexpr char kStoreCacheBytes[] = "1048576";
// What --bars holds a run against.
constexpr double kMostMemoryGrowth = 0.03;
constexpr double kMostTokenTimeRatio = 1.5;  // of the 99th percentiles, with reloads to without
// Blobs outlive their last version by so much: longer than a load takes.
constexpr double kGraceSeconds = 5;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double ResidentMegabytes(pid_t pid) {
  std::ifstream file(StrCat("/proc/", pid, "/statm"));
  long total = 0, resident = 0;
  file >> total >> resident;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1e6;
}

// The store's part of a server's memory, as its metrics say.
double StoreMegabytes(int admin_port) {
  std::istringstream lines(testing::HttpGet(admin_port, "/metrics"));
  double bytes = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("dreamstate_store_memory_bytes{")) continue;
    bytes += std::stod(line.substr(line.rfind(' ')));
  }
  return bytes / 1e6;
}

double Percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

double Mean(const std::vector<double>& values, size_t begin, size_t end) {
  return std::accumulate(values.begin() + static_cast<ptrdiff_t>(begin),
                         values.begin() + static_cast<ptrdiff_t>(end), 0.0) /
         static_cast<double>(end - begin);
}

// Means of the values' tenths, in their order.
std::vector<double> ByTenth(const std::vector<double>& values) {
  std::vector<double> means;
  for (size_t tenth = 0; tenth < 10 && values.size() >= 10; ++tenth) {
    means.push_back(Mean(values, values.size() * tenth / 10, values.size() * (tenth + 1) / 10));
  }
  return means;
}

// A repository with one version of `repository`, its files linked.
void Alone(const std::string& repository, int64_t version, const std::string& to) {
  namespace fs = std::filesystem;
  fs::create_directories(to + "/blobs/sha256");
  fs::create_directories(to + "/bundles/m");
  const std::string name = StrCat("/bundles/m/", version, ".json");
  fs::create_hard_link(repository + name, to + name);
  const nlohmann::json manifest = nlohmann::json::parse(testing::ReadAll(to + name));
  const std::string blob =
      "/blobs/sha256/" + manifest["components"][0]["digest"].get<std::string>();
  fs::create_hard_link(repository + blob, to + blob);
}

int64_t FileBytes(const std::string& directory) {
  int64_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file()) bytes += static_cast<int64_t>(entry.file_size());
  }
  return bytes;
}

// Publishes versions of the model "m", odd ones with a backbone of their own, and keeps the newest.
// Every version has a repository to itself for the replays, whose files are linked.
class Publisher {
 public:
  Publisher(const Options& options, const std::string& path, const std::string& alone)
      : repository_(repository::Repository::Create(path).value()),
        alone_(alone),
        keep_(options.keep) {
    config_.layers = options.layers;
    config_.width = options.width;
    config_.head_size = 64;
    config_.heads = options.width / 64;
    config_.vocab = 256;
    config_.ffn_width = 4 * options.width;
    config_.rank_decay = config_.rank_iclr = config_.rank_value = 32;
    config_.rank_gate = 64;
  }

  void Publish() {
    if (++number_ % 2 == 1) {
      backbone_ = testing::RandomBackbone(config_, number_);
      std::vector<int32_t> tokens(33);
      std::iota(tokens.begin(), tokens.end(), 60);
      manifest_.self_test = trainer::MakeSelfTest(backbone_, std::move(tokens)).value();
    }
    manifest_.model = "m";
    manifest_.tokenizer = "byte";
    manifest_.end_token = manifest_.separator_token = 0;
    manifest_.trainer_step = number_;
    (void)repository_->Publish(manifest_, {{.kind = "backbone", .tensors = &backbone_}}).value();
    Alone(repository_->path(), number_, AloneIn(number_));
    (void)repository_->Retain("m", keep_).value();
    (void)repository_->Collect(absl::Seconds(kGraceSeconds)).value();
  }
  // The repository that has `version` alone.
  std::string AloneIn(int64_t version) const { return StrCat(alone_, "/", version); }
  int64_t bytes() const { return FileBytes(repository_->path()); }
  int64_t newest() const { return number_; }

 private:
  std::unique_ptr<repository::Repository> repository_;
  const std::string alone_;
  const int keep_;
  rwkv::Config config_;
  tensors::TensorSet backbone_;
  repository::Manifest manifest_;
  uint32_t number_ = 0;
};

// Runs the clients while `body` runs.
SoakLog WithClients(const Options& options, const std::string& address, uint64_t first_client,
                    const std::function<void()>& body) {
  std::atomic<bool> stop = false;
  std::vector<SoakLog> logs(options.clients);
  std::vector<std::thread> threads;
  // A state is of the newest backbone or the one before it for an interval at least.
  const double life = std::max(0.1, options.interval);
  for (int i = 0; i < options.clients; ++i) {
    threads.emplace_back([&, i] {
      logs[i] = RunSoakClient(address, first_client + static_cast<uint64_t>(i), life, stop);
    });
  }
  body();
  stop = true;
  SoakLog all;
  for (int i = 0; i < options.clients; ++i) {
    threads[i].join();
    all.harvests += logs[i].harvests;
    std::move(logs[i].calls.begin(), logs[i].calls.end(), std::back_inserter(all.calls));
    std::move(logs[i].failures.begin(), logs[i].failures.end(), std::back_inserter(all.failures));
  }
  return all;
}

struct Replayed {
  int64_t calls = 0, versions = 0;
  std::vector<std::string> differences;
};

Replayed Replay(const Options& options, const std::vector<SoakCall>& calls,
                const Publisher& publisher, const std::string& store,
                const std::function<void(double)>& progress) {
  std::map<int64_t, std::vector<const SoakCall*>> by_version;
  for (const SoakCall& call : calls) {
    const auto number = std::stoll(call.version.substr(call.version.rfind('/') + 1));
    auto& list = by_version[number];
    if (static_cast<int>(list.size()) < options.replays) list.push_back(&call);
  }
  Replayed replayed;
  for (const auto& [version, list] : by_version) {
    ServerProcess server({.repository = publisher.AloneIn(version), .store = store});
    if (!server.WaitUntilListening()) {
      replayed.differences.push_back(StrCat("version ", version, " does not serve alone"));
      continue;
    }
    testing::Session session(server.address());
    session.WaitServing();
    for (const SoakCall* call : list) {
      SoakCall again = {.kind = call->kind, .seed = call->seed, .text = call->text};
      std::string state, failure;
      if (call->kind == SoakCall::kContinue) state = session.HarvestText(call->text);
      const bool ok = MakeCall(session, state, &again, &failure);
      ++replayed.calls;
      if (!ok || again.tokens != call->tokens || again.nats != call->nats ||
          again.version != call->version) {
        replayed.differences.push_back(
            StrCat(call->version, ", kind ", static_cast<int>(call->kind), ": ", failure));
      }
    }
    ++replayed.versions;
    progress(static_cast<double>(replayed.versions) / static_cast<double>(by_version.size()));
  }
  return replayed;
}

std::vector<double> TokenTimes(const std::vector<SoakCall>& calls) {
  std::vector<double> times;
  for (const SoakCall& call : calls) {
    if (call.kind != SoakCall::kScore) times.push_back(1e3 * call.seconds_per_token);
  }
  return times;
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Reloads a server again and again under load and checks every answer");
  app.add_option("--reloads", options.reloads, "Versions published")->check(CLI::Range(2, 100000));
  app.add_option("--interval", options.interval, "Seconds between them");
  app.add_option("--clients", options.clients, "Callers at once")->check(CLI::Range(1, 1000));
  app.add_option("--quiet-seconds", options.quiet_seconds,
                 "Load without reloads before, to compare with");
  app.add_option("--replays", options.replays, "Calls of each version that are asked again");
  app.add_option("--layers", options.layers, "Of the random models");
  app.add_option("--width", options.width, "Of the random models, a multiple of 64");
  app.add_option("--keep", options.keep, "Newest versions that stay in the repository")
      ->check(CLI::Range(2, 100000));
  app.add_flag("--bars", options.bars,
               "Fail when memory grew by more than 3 % or the 99th percentile of the time a token "
               "by more than half");
  app.add_flag("--json", options.json, "One JSON object");
  CLI11_PARSE(app, argc, argv);

  const testing::TemporaryDirectory directory;
  const std::string repository = directory / "repository";
  Publisher publisher(options, repository, directory / "alone");
  publisher.Publish();
  ServerProcess server(
      {.repository = repository,
       .store = directory / "store",
       .admin = true,
       .flags = {"--poll-seconds", "0.1", "--max-drain-seconds", "30", "--pool-max-bytes",
                 kCacheBytes, "--prefix-pool-max-bytes", kCacheBytes, "--store-cache-max-bytes",
                 kStoreCacheBytes, "--expiry-sweep-seconds", "1"}});
  if (!server.WaitUntilListening()) return 1;
  testing::Session session(server.address());
  session.WaitServing();
  const bool terminal = isatty(STDERR_FILENO) != 0;
  const auto show = [terminal](const char* what, double share) {
    if (terminal) std::fprintf(stderr, "\r\x1b[K%s %3.0f %%", what, 100 * share);
    if (terminal && share >= 1) std::fprintf(stderr, "\n");
  };
  const auto wait = [&](const char* what, double seconds, const std::function<void()>& each) {
    const auto begin = Clock::now();
    while (SecondsSince(begin) < seconds) {
      each();
      show(what, std::min(1.0, SecondsSince(begin) / seconds));
    }
  };
  const auto serving = [&] {
    grpc::ClientContext context;
    testing::SetDeadline(context);
    v1::GetModelRequest request;
    request.set_name("models/m");
    v1::Model model;
    (void)session.models->GetModel(&context, request, &model);
    return model.serving_version();
  };

  const SoakLog quiet = WithClients(options, server.address(), 1, [&] {
    wait("without reloads", options.quiet_seconds,
         [] { std::this_thread::sleep_for(std::chrono::milliseconds(200)); });
  });
  std::vector<double> memory, store_memory, disk;
  int64_t not_served = 0;
  const SoakLog loaded = WithClients(options, server.address(), 1000, [&] {
    for (int i = 0; i < options.reloads; ++i) {
      const auto began = Clock::now();
      publisher.Publish();
      const std::string name = StrCat("models/m/versions/", publisher.newest());
      // Served within the interval, or counted; the next one comes on time.
      bool served = false;
      while (SecondsSince(began) < options.interval) {
        served = served || serving() == name;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      not_served += served ? 0 : 1;
      memory.push_back(ResidentMegabytes(server.pid()));
      store_memory.push_back(StoreMegabytes(server.admin_port()));
      disk.push_back(static_cast<double>(publisher.bytes()) / 1e6);
      show("reloads", (i + 1.0) / options.reloads);
    }
  });
  const int exit_code = server.Stop();
  const Replayed replayed = Replay(options, loaded.calls, publisher, directory / "alone-store",
                                   [&](double share) { show("replays", share); });

  const size_t part = std::min<size_t>(50, memory.size() / 2);
  const double first = Mean(memory, 0, part),
               last = Mean(memory, memory.size() - part, memory.size());
  const std::vector<double> before = TokenTimes(quiet.calls), during = TokenTimes(loaded.calls);
  const double p99_before = Percentile(before, 0.99), p99_during = Percentile(during, 0.99);
  const double growth = last / first - 1;
  const double ratio = p99_before > 0 ? p99_during / p99_before : 0.0;
  // Every second version has a backbone: those that are kept, those whose grace runs, some slack.
  const double backbone_mb = static_cast<double>(FileBytes(publisher.AloneIn(1))) / 1e6;
  const double disk_allowed =
      backbone_mb * (options.keep / 2 + 3 + kGraceSeconds / std::max(0.01, options.interval));
  const double disk_most = *std::max_element(disk.begin(), disk.end());
  std::vector<std::string> failures = quiet.failures;
  failures.insert(failures.end(), loaded.failures.begin(), loaded.failures.end());
  const nlohmann::json out = {
      {"reloads", options.reloads},
      {"interval_seconds", options.interval},
      {"clients", options.clients},
      {"calls", loaded.calls.size()},
      {"harvests", loaded.harvests},
      {"failed_calls", failures.size()},
      {"versions_served_late", not_served},
      {"versions_that_answered", replayed.versions},
      {"calls_replayed", replayed.calls},
      {"answers_that_differ", replayed.differences.size()},
      {"memory_mb_first", first},
      {"memory_mb_last", last},
      {"memory_growth", growth},
      {"memory_mb_by_tenth", ByTenth(memory)},
      {"memory_of_store_mb_by_tenth", ByTenth(store_memory)},
      {"repository_mb_most", disk_most},
      {"repository_mb_allowed", disk_allowed},
      {"ms_a_token_p50", {Percentile(before, 0.5), Percentile(during, 0.5)}},
      {"ms_a_token_p99", {p99_before, p99_during}},
      {"p99_ratio", ratio},
      {"server_exit_code", exit_code}};
  if (options.json) {
    std::cout << out.dump(2) << "\n";
  } else {
    std::printf("| | |\n|---|---|\n");
    for (const auto& [key, value] : out.items()) {
      std::printf("| %s | %s |\n", key.c_str(), value.dump().c_str());
    }
  }
  std::vector<std::string> wrong = failures;
  wrong.insert(wrong.end(), replayed.differences.begin(), replayed.differences.end());
  for (size_t i = 0; i < std::min<size_t>(20, wrong.size()); ++i) {
    std::fprintf(stderr, "%s\n", wrong[i].c_str());
  }
  const bool sound = failures.empty() && replayed.differences.empty() && replayed.calls > 0 &&
                     disk_most <= disk_allowed && exit_code == 0;
  const bool level = growth <= kMostMemoryGrowth && ratio <= kMostTokenTimeRatio;
  return sound && (level || !options.bars) ? 0 : 1;
}

}  // namespace
}  // namespace dreamstate::benchmarks

int main(int argc, char** argv) { return dreamstate::benchmarks::Main(argc, argv); }
