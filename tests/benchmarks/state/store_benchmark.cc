// What putting and getting a state costs, with and without the memory pool. Sizes: a 0.1B model (12
// layers, width 768) has 2.4 MB, a small one (6 layers, width 256) 0.4 MB. Files go to TMPDIR;
// "resident" means that they are in the page cache.
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "core/state/pool.h"
#include "core/state/record.h"
#include "core/state/store.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::state {
namespace {

constexpr Shape kSmall{.layers = 6, .width = 256, .heads = 4, .head_size = 64};
constexpr Shape kLarge{.layers = 12, .width = 768, .heads = 12, .head_size = 64};
constexpr char kTenant[] = "default";
constexpr int kStates = 32;

Shape ShapeOf(const benchmark::State& run) { return run.range(0) == 0 ? kSmall : kLarge; }

Record MakeRecord(const Shape& shape) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  Record record;
  record.model = "benchmark";
  record.fingerprint = std::string(64, '0');
  record.lineage.operation = "harvest";
  record.state = State::Empty(shape);
  for (float& value : record.state.shift) value = normal(random);
  for (float& value : record.state.wkv) value = normal(random);
  return record;
}

class Store {
 public:
  explicit Store(int64_t pool_bytes) {
    RocksDbStoreOptions options;
    options.path = directory_ / "store";
    store_ = OpenRocksDbStore(options).value();
    if (pool_bytes > 0) store_ = std::make_unique<PooledStateStore>(std::move(store_), pool_bytes);
  }
  StateStore* operator->() { return store_.get(); }

 private:
  testing::TemporaryDirectory directory_;
  std::unique_ptr<StateStore> store_;
};

void Report(benchmark::State& run) {
  run.SetBytesProcessed(run.iterations() * ShapeOf(run).bytes());
  run.SetLabel(std::to_string(ShapeOf(run).bytes() / 1000) + " kB");
}

void Serialize(benchmark::State& run) {
  const Record record = MakeRecord(ShapeOf(run));
  for (auto step : run) benchmark::DoNotOptimize(SerializeRecord(record).value());
  Report(run);
}
BENCHMARK(Serialize)->Arg(0)->Arg(1)->Unit(benchmark::kMicrosecond);

void Parse(benchmark::State& run) {
  const std::string bytes = SerializeRecord(MakeRecord(ShapeOf(run))).value();
  for (auto step : run) benchmark::DoNotOptimize(ParseRecord("benchmark", bytes).value());
  Report(run);
}
BENCHMARK(Parse)->Arg(0)->Arg(1)->Unit(benchmark::kMicrosecond);

void PutDurably(benchmark::State& run) {
  Store store(0);
  const Record record = MakeRecord(ShapeOf(run));
  std::vector<std::string> ids;
  for (auto step : run) {
    ids.push_back(store->Put(kTenant, record, {.labels = {"benchmark"}}).value().record.id);
  }
  Report(run);
}
BENCHMARK(PutDurably)->Arg(0)->Arg(1)->Unit(benchmark::kMicrosecond)->UseRealTime();

void Get(benchmark::State& run, int64_t pool_bytes) {
  Store store(pool_bytes);
  const Record record = MakeRecord(ShapeOf(run));
  std::vector<std::string> ids;
  for (int i = 0; i < kStates; ++i) ids.push_back(store->Put(kTenant, record, {})->record.id);
  size_t next = 0;
  for (auto step : run)
    benchmark::DoNotOptimize(store->Get(kTenant, ids[next++ % kStates]).value());
  Report(run);
}
BENCHMARK_CAPTURE(Get, resident, 0)->Arg(0)->Arg(1)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK_CAPTURE(Get, pooled, int64_t{1} << 30)
    ->Arg(0)
    ->Arg(1)
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

void Describe(benchmark::State& run) {
  Store store(0);
  const std::string id = store->Put(kTenant, MakeRecord(kSmall), {})->record.id;
  for (auto step : run) benchmark::DoNotOptimize(store->Describe(kTenant, id).value());
}
BENCHMARK(Describe)->Unit(benchmark::kMicrosecond);

// A page of 50 states with one label, among so many.
void ListByLabel(benchmark::State& run) {
  Store store(0);
  Record record = MakeRecord({.layers = 1, .width = 4, .heads = 1, .head_size = 4});
  for (int64_t i = 0; i < run.range(0); ++i) {
    const std::string label = i % 100 == 0 ? "rare" : "common";
    store->Put(kTenant, record, {.labels = {label, "all"}}).value();
  }
  const ListQuery query{.model = "benchmark", .labels = {"rare", "all"}, .page_size = 50};
  for (auto step : run) benchmark::DoNotOptimize(store->List(kTenant, query).value());
}
BENCHMARK(ListByLabel)->Arg(1000)->Arg(10000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace dreamstate::state

BENCHMARK_MAIN();
