// What prefix reuse gives and costs, through the batching loop: time from a decode's arrival to its
// first token for a prompt that is new, the same prompt again, and one that begins with it, of two
// random byte-level RWKV-7 (about 0.8M parameters, L12 D64; about 0.1B, L12 D768), and beside it
// what copying a state out of its slot and back takes.
//   prefix_benchmark [--threads N] [--repeats N] [--tokens N]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "core/base/mutex.h"
#include "server/inference/decode_job.h"
#include "tests/support/random_backbone.h"

namespace dreamstate::server {
namespace {

// Knows when the first message came, which is sent with the first token, and when all is over.
class TimingSink final : public DecodeSink {
 public:
  ReaderProgress reader() override { return {}; }
  void Send(v1::DecodeResponse message) override {
    MutexLock lock(mutex_);
    if (!message.has_start()) return;
    first_ = absl::Now();
    start_ = message.start();
  }
  void Finish(const absl::Status& status, Unread) override {
    MutexLock lock(mutex_);
    if (!status.ok()) std::printf("%s\n", status.ToString().c_str());
    done_ = true;
    changed_.NotifyAll();
  }
  std::pair<absl::Time, v1::DecodeStart> Wait() {
    MutexLock lock(mutex_);
    while (!done_) changed_.Wait(mutex_);
    return {first_, start_};
  }

 private:
  Mutex mutex_;
  ConditionVariable changed_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time first_ ABSL_GUARDED_BY(mutex_);
  v1::DecodeStart start_ ABSL_GUARDED_BY(mutex_);
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Bench {
  ServingContext context;
  std::shared_ptr<const ModelSession> session;
  std::mt19937 random{7};

  std::vector<int32_t> Text(int tokens) {
    std::vector<int32_t> text;
    while (static_cast<int>(text.size()) < tokens) {
      text.push_back(static_cast<int32_t>(2 + random() % 254));
    }
    return text;
  }
  // Milliseconds to the first token; and how many tokens had to be read for it.
  double FirstToken(const std::vector<int32_t>& prompt, int64_t* read) {
    DecodeTask task;
    task.session = session;
    task.prompt = prompt;
    task.max_tokens = 1;
    TimingSink sink;
    const absl::Time arrival = absl::Now();
    const absl::Status status = session->scheduler->Submit(std::make_shared<DecodeJob>(
        context, std::move(task), CallTimes{.arrival = arrival}, &sink));
    if (!status.ok()) return 0;
    const auto [first, start] = sink.Wait();
    *read = start.prompt_tokens();
    return absl::ToDoubleMilliseconds(first - arrival);
  }
};

double Milliseconds(int repeats, const std::function<void()>& body) {
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    const absl::Time begin = absl::Now();
    body();
    times.push_back(absl::ToDoubleMilliseconds(absl::Now() - begin));
  }
  return Median(std::move(times));
}

void Measure(const char* name, const rwkv::Config& config, int threads, int repeats, int tokens) {
  const auto weights = rwkv::Weights::Load(testing::RandomBackbone(config, 7),
                                           config.width < 256 ? rwkv::WeightFormat::kFloat32
                                                              : rwkv::WeightFormat::kBfloat16)
                           .value();
  state::PrefixTrie trie(int64_t{1} << 30);
  Executor executor(1, 16);
  auto session = std::make_shared<ModelSession>();
  session->model = "bench";
  session->weights = weights;
  session->tokenizer = text::MakeByteTokenizer();
  session->end_token = 0;
  session->separator_token = 1;
  session->scheduler =
      Scheduler::Create(weights, {.threads = threads, .slots = 8, .max_step_tokens = 256}, nullptr)
          .value();
  Bench bench;
  bench.context.executor = &executor;
  bench.context.prefixes = &trie;
  bench.session = session;

  std::printf("%s, %s, %d threads: state %.0f KiB; prompt of %d tokens; medians of %d\n", name,
              session->scheduler->numerics().c_str(), threads,
              static_cast<double>((config.shift_elements() + config.wkv_elements()) * 4) / 1024,
              tokens, repeats);
  std::vector<double> off, first, again, longer;
  int64_t read_first = 0, read_again = 0, read_longer = 0;
  for (int i = 0; i < repeats; ++i) {
    const std::vector<int32_t> prompt = bench.Text(tokens);
    std::vector<int32_t> next = prompt;
    for (const int32_t token : bench.Text(40)) next.push_back(token);
    bench.context.prefixes = nullptr;
    off.push_back(bench.FirstToken(prompt, &read_first));
    bench.context.prefixes = &trie;
    first.push_back(bench.FirstToken(prompt, &read_first));
    again.push_back(bench.FirstToken(prompt, &read_again));
    longer.push_back(bench.FirstToken(next, &read_longer));
  }
  const auto print = [](const char* what, const std::vector<double>& times, int64_t read) {
    std::printf("  %-34s %8.3f ms   (%lld tokens read)\n", what, Median(times),
                static_cast<long long>(read));
  };
  print("first token, reuse off", off, read_first);
  print("first token, a new prompt", first, read_first);
  print("first token, the same prompt again", again, read_again);
  print("first token, it and 40 tokens more", longer, read_longer);
  session->scheduler->Stop();

  rwkv::Slots slots(config, 2);
  std::vector<std::vector<float>> kept;
  const double out = Milliseconds(
      64, [&] { kept.emplace_back().assign(slots.values(0).begin(), slots.values(0).end()); });
  size_t next = 0;
  const double in = Milliseconds(64, [&] { slots.Restore(1, kept[next++]); });
  std::printf("  %-34s %8.3f ms\n  %-34s %8.3f ms\n", "copy of a state out of its slot", out,
              "and back into one", in);
}

int Main(int argc, char** argv) {
  int threads = 2, repeats = 7, tokens = 512;
  CLI::App app("Time to first token with and without prefix reuse");
  app.add_option("--threads", threads);
  app.add_option("--repeats", repeats);
  app.add_option("--tokens", tokens);
  CLI11_PARSE(app, argc, argv);
  rwkv::Config config;
  config.layers = 12;
  config.head_size = 64;
  config.vocab = 256;
  config.width = 64;
  config.heads = 1;
  config.ffn_width = 256;
  config.rank_decay = config.rank_iclr = config.rank_value = config.rank_gate = 32;
  Measure("random L12 D64", config, threads, repeats, tokens);
  config.width = 768;
  config.heads = 12;
  config.ffn_width = 3072;
  config.rank_decay = config.rank_iclr = 64;
  config.rank_value = 32;
  config.rank_gate = 128;
  Measure("random L12 D768", config, threads, repeats, tokens);
  return 0;
}

}  // namespace
}  // namespace dreamstate::server

int main(int argc, char** argv) { return dreamstate::server::Main(argc, argv); }
