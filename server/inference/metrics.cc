#include "server/inference/metrics.h"

#include <unistd.h>

#include <cstdio>
#include <set>
#include <utility>

#include "kernels/runtime/cpu.h"
#include "prometheus/metric_family.h"
#include "server/inference/errors.h"

namespace dreamstate::server {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;
using Labels = std::map<std::string, std::string>;

const Buckets& LatencyBuckets() {
  static const auto& buckets = *new Buckets{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                            0.25,   0.5,   1,      2.5,   5,    10,    30,   60};
  return buckets;
}

// A token takes tens of microseconds on tiny models, a second on large ones.
const Buckets& TokenBuckets() {
  static const auto& buckets = *new Buckets{0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
                                            0.01,    0.025,  0.05,    0.1,    0.25,  0.5,    1};
  return buckets;
}

const Buckets& CountBuckets() {
  static const auto& buckets =
      *new Buckets{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};
  return buckets;
}

// Mean squares in units of the codec's scales: 0 to about 1.
const Buckets& EnergyBuckets() {
  static const auto& buckets =
      *new Buckets{0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1, 2};
  return buckets;
}

template <typename Builder>
auto& Build(Builder builder, const char* name, const char* help, prometheus::Registry& registry) {
  return builder.Name(name).Help(help).Register(registry);
}
auto& Counters(const char* name, const char* help, prometheus::Registry& registry) {
  return Build(prometheus::BuildCounter(), name, help, registry);
}
auto& Gauges(const char* name, const char* help, prometheus::Registry& registry) {
  return Build(prometheus::BuildGauge(), name, help, registry);
}
auto& Histograms(const char* name, const char* help, prometheus::Registry& registry) {
  return Build(prometheus::BuildHistogram(), name, help, registry);
}

int64_t ResidentBytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "re");
  if (file == nullptr) return 0;
  long total = 0, resident = 0;
  const int read = std::fscanf(file, "%ld %ld", &total, &resident);
  std::fclose(file);
  return read == 2 ? resident * sysconf(_SC_PAGESIZE) : 0;
}

std::string Text(std::string_view text) { return std::string(text); }

}  // namespace

// Values that are read when somebody looks.
class Metrics::Sampled : public prometheus::Collectable {
 public:
  void Watch(std::weak_ptr<state::PooledStateStore> store) {
    MutexLock lock(mutex_);
    store_ = std::move(store);
  }
  void Watch(std::weak_ptr<state::PrefixTrie> prefixes) {
    MutexLock lock(mutex_);
    prefixes_ = std::move(prefixes);
  }

  void Serves(const std::string& model, absl::Time created) {
    MutexLock lock(mutex_);
    created_[model] = created;
  }

  std::vector<prometheus::MetricFamily> Collect() const override {
    std::shared_ptr<state::PooledStateStore> store;
    std::shared_ptr<state::PrefixTrie> prefixes;
    std::vector<prometheus::ClientMetric> ages;
    {
      MutexLock lock(mutex_);
      store = store_.lock();
      prefixes = prefixes_.lock();
      for (const auto& [model, created] : created_) {
        ages.push_back(
            Sample("model", model.c_str(), absl::ToDoubleSeconds(absl::Now() - created)));
      }
    }
    using prometheus::MetricType;
    std::vector<prometheus::MetricFamily> families;
    families.push_back({"dreamstate_resident_memory_bytes",
                        "Memory of the process",
                        MetricType::Gauge,
                        {Sample("", "", static_cast<double>(ResidentBytes()))}});
    if (prefixes != nullptr) CollectPrefixes(prefixes->stats(), &families);
    families.push_back({"dreamstate_checkpoint_age_seconds",
                        "Since the version that serves was published", MetricType::Gauge,
                        std::move(ages)});
    if (store == nullptr) return families;
    const state::StoreStats stored = store->Stats();
    const state::PoolStats pool = store->pool_stats();
    const auto by_tier = [](int64_t in_store, int64_t in_memory) {
      return std::vector<prometheus::ClientMetric>{
          Sample("tier", "store", static_cast<double>(in_store)),
          Sample("tier", "memory", static_cast<double>(in_memory))};
    };
    families.push_back({"dreamstate_states", "States held", MetricType::Gauge,
                        by_tier(stored.states, pool.records)});
    families.push_back({"dreamstate_state_bytes", "Bytes that states take", MetricType::Gauge,
                        by_tier(stored.bytes, pool.bytes)});
    families.push_back(
        {"dreamstate_store_memory_bytes",
         "Memory of the store's database",
         MetricType::Gauge,
         {Sample("part", "write_buffers", static_cast<double>(stored.memory.write_buffers)),
          Sample("part", "cache", static_cast<double>(stored.memory.cache)),
          Sample("part", "tables", static_cast<double>(stored.memory.tables))}});
    families.push_back({"dreamstate_states_evicted_total",
                        "States that left the memory tier to make room",
                        MetricType::Counter,
                        {Count("tier", "memory", pool.evicted)}});
    families.push_back({"dreamstate_state_lookups_total",
                        "Looks into the memory tier, by whether the state was there",
                        MetricType::Counter,
                        {Count("result", "hit", pool.hits), Count("result", "miss", pool.misses)}});
    return families;
  }

 private:
  static void CollectPrefixes(const state::PrefixStats& stats,
                              std::vector<prometheus::MetricFamily>* families) {
    using prometheus::MetricType;
    const auto add = [&](const char* name, const char* help, MetricType type,
                         std::vector<prometheus::ClientMetric> metrics) {
      families->push_back({name, help, type, std::move(metrics)});
    };
    add("dreamstate_prefix_lookups_total", "Texts looked up, by whether a prefix was known",
        MetricType::Counter,
        {Count("result", "hit", stats.hits), Count("result", "miss", stats.misses)});
    add("dreamstate_prefix_tokens_total", "Tokens not read because their prefix was known",
        MetricType::Counter, {Count("", "", stats.tokens)});
    add("dreamstate_prefix_states", "States of prefixes held", MetricType::Gauge,
        {Sample("", "", static_cast<double>(stats.states))});
    add("dreamstate_prefix_bytes", "Bytes that known prefixes take", MetricType::Gauge,
        {Sample("", "", static_cast<double>(stats.bytes))});
    add("dreamstate_prefix_evicted_total", "States of prefixes that left to make room",
        MetricType::Counter, {Count("", "", stats.evicted)});
  }
  static prometheus::ClientMetric Labelled(const char* label, const char* value) {
    prometheus::ClientMetric metric;
    if (*label != '\0') metric.label.push_back({label, value});
    return metric;
  }
  static prometheus::ClientMetric Sample(const char* label, const char* value, double number) {
    prometheus::ClientMetric metric = Labelled(label, value);
    metric.gauge.value = number;
    return metric;
  }
  static prometheus::ClientMetric Count(const char* label, const char* value, int64_t number) {
    prometheus::ClientMetric metric = Labelled(label, value);
    metric.counter.value = static_cast<double>(number);
    return metric;
  }

  mutable Mutex mutex_;
  std::weak_ptr<state::PooledStateStore> store_ ABSL_GUARDED_BY(mutex_);
  std::weak_ptr<state::PrefixTrie> prefixes_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Time> created_ ABSL_GUARDED_BY(mutex_);  // by model
};

// Called in every step: series are looked up once.
class Metrics::ModelObserver : public SchedulerObserver {
 public:
  ModelObserver(Metrics* metrics, const std::string& model)
      : metrics_(*metrics),
        model_(model),
        step_seconds_(metrics->step_seconds_.Add({{"model", model}}, TokenBuckets())),
        step_sequences_(metrics->step_sequences_.Add({{"model", model}}, CountBuckets())),
        step_tokens_(metrics->step_tokens_.Add({{"model", model}}, CountBuckets())),
        decode_tokens_(metrics->tokens_.Add({{"model", model}, {"kind", "decode"}})),
        prefill_tokens_(metrics->tokens_.Add({{"model", model}, {"kind", "prefill"}})),
        reused_tokens_(metrics->reused_tokens_.Add({{"model", model}})),
        queue_jobs_(metrics->queue_jobs_.Add({{"model", model}})),
        running_jobs_(metrics->running_jobs_.Add({{"model", model}})),
        busy_slots_(metrics->slots_.Add({{"model", model}, {"state", "busy"}})),
        free_slots_(metrics->slots_.Add({{"model", model}, {"state", "free"}})),
        first_token_seconds_(
            metrics->first_token_seconds_.Add({{"model", model}}, LatencyBuckets())),
        output_token_seconds_(
            metrics->output_token_seconds_.Add({{"model", model}}, TokenBuckets())) {}

  void OnStep(const StepReport& report) override {
    step_seconds_.Observe(absl::ToDoubleSeconds(report.duration));
    step_sequences_.Observe(report.sequences);
    step_tokens_.Observe(report.decode_tokens + report.prefill_tokens);
    decode_tokens_.Increment(report.decode_tokens);
    prefill_tokens_.Increment(report.prefill_tokens);
  }
  // What changed in one scheduler's load.
  void AddLoad(int waiting_jobs, int running_jobs, int busy_slots, int free_slots) {
    queue_jobs_.Increment(waiting_jobs);
    running_jobs_.Increment(running_jobs);
    busy_slots_.Increment(busy_slots);
    free_slots_.Increment(free_slots);
  }
  void OnAdmitted(std::string_view kind, absl::Duration waited) override {
    metrics_.queue_seconds_.Add({{"model", model_}, {"kind", Text(kind)}}, LatencyBuckets())
        .Observe(absl::ToDoubleSeconds(waited));
  }
  void OnRefused(std::string_view kind) override {
    metrics_.refused_jobs_.Add({{"model", model_}, {"kind", Text(kind)}}).Increment();
  }
  void OnFirstToken(absl::Duration since_arrival) override {
    first_token_seconds_.Observe(absl::ToDoubleSeconds(since_arrival));
  }
  void OnBranchDone(int64_t tokens, absl::Duration decode_time) override {
    if (tokens < 2) return;  // one token has no time between tokens
    output_token_seconds_.Observe(absl::ToDoubleSeconds(decode_time) /
                                  static_cast<double>(tokens - 1));
  }
  void OnPrefixReused(int64_t tokens) override {
    reused_tokens_.Increment(static_cast<double>(tokens));
  }
  void OnStoreCall(std::string_view operation, const absl::Status& status,
                   absl::Duration duration) override {
    metrics_.OnStoreCall(operation, status, duration);
  }

 private:
  Metrics& metrics_;
  const std::string model_;
  prometheus::Histogram& step_seconds_;
  prometheus::Histogram& step_sequences_;
  prometheus::Histogram& step_tokens_;
  prometheus::Counter& decode_tokens_;
  prometheus::Counter& prefill_tokens_;
  prometheus::Counter& reused_tokens_;
  prometheus::Gauge& queue_jobs_;
  prometheus::Gauge& running_jobs_;
  prometheus::Gauge& busy_slots_;
  prometheus::Gauge& free_slots_;
  prometheus::Histogram& first_token_seconds_;
  prometheus::Histogram& output_token_seconds_;
};

// One scheduler's part in what its model's schedulers do.
class Metrics::LoadShare : public SchedulerObserver {
 public:
  explicit LoadShare(ModelObserver* model) : model_(*model) {}

  void OnLoad(int waiting_jobs, int running_jobs, int busy_slots, int slots) override {
    MutexLock lock(mutex_);
    const int free_slots = slots - busy_slots;
    model_.AddLoad(waiting_jobs - waiting_jobs_, running_jobs - running_jobs_,
                   busy_slots - busy_slots_, free_slots - free_slots_);
    waiting_jobs_ = waiting_jobs;
    running_jobs_ = running_jobs;
    busy_slots_ = busy_slots;
    free_slots_ = free_slots;
  }
  void OnStep(const StepReport& report) override { model_.OnStep(report); }
  void OnAdmitted(std::string_view kind, absl::Duration waited) override {
    model_.OnAdmitted(kind, waited);
  }
  void OnRefused(std::string_view kind) override { model_.OnRefused(kind); }
  void OnFirstToken(absl::Duration since_arrival) override { model_.OnFirstToken(since_arrival); }
  void OnBranchDone(int64_t tokens, absl::Duration decode_time) override {
    model_.OnBranchDone(tokens, decode_time);
  }
  void OnPrefixReused(int64_t tokens) override { model_.OnPrefixReused(tokens); }
  void OnStoreCall(std::string_view operation, const absl::Status& status,
                   absl::Duration duration) override {
    model_.OnStoreCall(operation, status, duration);
  }

 private:
  ModelObserver& model_;
  Mutex mutex_;
  int waiting_jobs_ ABSL_GUARDED_BY(mutex_) = 0;
  int running_jobs_ ABSL_GUARDED_BY(mutex_) = 0;
  int busy_slots_ ABSL_GUARDED_BY(mutex_) = 0;
  int free_slots_ ABSL_GUARDED_BY(mutex_) = 0;
};

Metrics::Metrics()
    : registry_(std::make_shared<prometheus::Registry>()),
      calls_(Counters("dreamstate_rpc_requests_total", "Calls that ended, by code", *registry_)),
      call_seconds_(Histograms("dreamstate_rpc_duration_seconds",
                               "Time from a call's arrival to its status", *registry_)),
      calls_in_flight_(Gauges("dreamstate_rpc_in_flight", "Calls that run now", *registry_)),
      store_seconds_(Histograms("dreamstate_store_duration_seconds",
                                "Time of a call of the state store", *registry_)),
      store_errors_(Counters("dreamstate_store_errors_total",
                             "Calls of the state store that failed, by code", *registry_)),
      first_token_seconds_(Histograms("dreamstate_time_to_first_token_seconds",
                                      "Time from a decode's arrival to its first token",
                                      *registry_)),
      output_token_seconds_(Histograms("dreamstate_time_per_output_token_seconds",
                                       "Mean time between a branch's tokens", *registry_)),
      queue_seconds_(Histograms("dreamstate_queue_seconds",
                                "Time that admitted jobs waited for slots", *registry_)),
      queue_jobs_(Gauges("dreamstate_queue_jobs", "Jobs that wait for slots", *registry_)),
      running_jobs_(Gauges("dreamstate_running_jobs", "Jobs that hold slots", *registry_)),
      slots_(Gauges("dreamstate_slots", "Places for running sequences", *registry_)),
      refused_jobs_(Counters("dreamstate_refused_jobs_total",
                             "Jobs refused at the door: queue full or draining", *registry_)),
      step_seconds_(Histograms("dreamstate_step_duration_seconds",
                               "Time of one step of the batching loop", *registry_)),
      step_sequences_(Histograms("dreamstate_step_sequences", "Sequences in one step", *registry_)),
      step_tokens_(Histograms("dreamstate_step_tokens", "Tokens read in one step", *registry_)),
      tokens_(Counters("dreamstate_tokens_total",
                       "Tokens read: generated here (decode) or brought by requests (prefill)",
                       *registry_)),
      reused_tokens_(Counters("dreamstate_reused_tokens_total",
                              "Tokens that a source state had already read", *registry_)),
      bundle_info_(Gauges("dreamstate_bundle_info", "1 for each version that is live", *registry_)),
      bundle_seconds_(Gauges("dreamstate_bundle_phase_seconds",
                             "Time that the last load of a model spent in each phase", *registry_)),
      bundles_rejected_(Counters("dreamstate_bundles_rejected_total",
                                 "Versions rejected, by the phase that failed", *registry_)),
      reloads_(Counters("dreamstate_reloads_total",
                        "Versions that were taken from the repository, by outcome", *registry_)),
      backbone_loads_(Counters("dreamstate_backbone_loads_total",
                               "Backbones read and packed; versions that share one load none",
                               *registry_)),
      live_versions_(Gauges("dreamstate_live_versions",
                            "Versions in memory: the one that serves, those that drain, the one "
                            "that is kept for its states",
                            *registry_)),
      serving_version_(
          Gauges("dreamstate_serving_version", "Number of the version that serves", *registry_)),
      memory_(Gauges("dreamstate_memory_bytes", "Memory held, by kind", *registry_)),
      diffusion_waiting_(Gauges("dreamstate_diffusion_waiting",
                                "Calls that wait for a state DiT's thread", *registry_)),
      diffusion_steps_(Counters("dreamstate_diffusion_steps_total",
                                "Steps of state DiTs, one a batch and step", *registry_)),
      diffusion_states_(Histograms("dreamstate_diffusion_batch_states",
                                   "States of a batch, with what fills it up", *registry_)),
      diffusion_seconds_(Histograms("dreamstate_diffusion_state_seconds",
                                    "Time of a batch over its states", *registry_)),
      safety_verdicts_(Counters("dreamstate_safety_verdicts_total",
                                "Results that a safety gate passed or failed", *registry_)),
      energy_(Histograms("dreamstate_state_energy", "Denoiser energy of results", *registry_)),
      sampled_(std::make_shared<Sampled>()) {
  Gauges("dreamstate_build_info", "1, with what this program is", *registry_)
      .Add({{"version", DREAMSTATE_VERSION},
            {"compiler", __VERSION__},
            {"isa", Text(kernels::IsaName(kernels::ActiveIsa()))}})
      .Set(1);
}

Metrics::~Metrics() = default;

std::vector<std::shared_ptr<prometheus::Collectable>> Metrics::collectables() const {
  return {registry_, sampled_};
}

void Metrics::OnCallStarted(const std::string& method) {
  calls_in_flight_.Add({{"method", method}}).Increment();
}

void Metrics::OnCallEnded(const std::string& method, grpc::StatusCode code,
                          absl::Duration duration) {
  const Labels labels = {{"method", method}, {"code", GrpcCodeName(code)}};
  calls_in_flight_.Add({{"method", method}}).Decrement();
  calls_.Add(labels).Increment();
  call_seconds_.Add(labels, LatencyBuckets()).Observe(absl::ToDoubleSeconds(duration));
}

void Metrics::OnStoreCall(std::string_view operation, const absl::Status& status,
                          absl::Duration duration) {
  store_seconds_.Add({{"operation", Text(operation)}}, LatencyBuckets())
      .Observe(absl::ToDoubleSeconds(duration));
  // What a caller asked for wrongly is no error of the store.
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kAborted:
      return;
    default:
      store_errors_
          .Add({{"operation", Text(operation)}, {"code", GrpcCodeName(ToGrpcCode(status.code()))}})
          .Increment();
  }
}

void Metrics::OnDiffusionQueue(int64_t waiting) {
  diffusion_waiting_.Add({}).Set(static_cast<double>(waiting));
}

void Metrics::OnDiffusionBatch(int64_t states, int64_t steps, absl::Duration duration) {
  diffusion_steps_.Add({}).Increment(static_cast<double>(steps));
  diffusion_states_.Add({}, CountBuckets()).Observe(static_cast<double>(states));
  diffusion_seconds_.Add({}, LatencyBuckets())
      .Observe(absl::ToDoubleSeconds(duration) / static_cast<double>(states));
}

void Metrics::OnSafetyVerdict(std::string_view operation, bool passed) {
  safety_verdicts_.Add({{"operation", Text(operation)}, {"verdict", passed ? "passed" : "failed"}})
      .Increment();
}

void Metrics::OnEnergy(std::string_view operation, double energy) {
  energy_.Add({{"operation", Text(operation)}}, EnergyBuckets()).Observe(energy);
}

SchedulerObserver* Metrics::NewObserver(const std::string& model) {
  MutexLock lock(mutex_);
  std::unique_ptr<ModelObserver>& observer = observers_[model];
  if (observer == nullptr) observer = std::make_unique<ModelObserver>(this, model);
  shares_.push_back(std::make_unique<LoadShare>(observer.get()));
  return shares_.back().get();
}

void Metrics::OnBundlePhase(const std::string& model, std::string_view phase,
                            absl::Duration duration) {
  bundle_seconds_.Add({{"model", model}, {"phase", Text(phase)}})
      .Set(absl::ToDoubleSeconds(duration));
}

void Metrics::OnBundleRejected(const std::string& model, std::string_view phase) {
  bundles_rejected_.Add({{"model", model}, {"reason", Text(phase)}}).Increment();
}

void Metrics::OnReload(const std::string& model, std::string_view outcome) {
  reloads_.Add({{"model", model}, {"outcome", Text(outcome)}}).Increment();
}

void Metrics::OnBackboneLoaded(const std::string& model) {
  backbone_loads_.Add({{"model", model}}).Increment();
}

void Metrics::OnServing(const std::string& model, int64_t version, absl::Time created) {
  serving_version_.Add({{"model", model}}).Set(static_cast<double>(version));
  sampled_->Serves(model, created);
}

void Metrics::OnLive(const std::string& model, std::vector<Bundle> bundles) {
  live_versions_.Add({{"model", model}}).Set(static_cast<double>(bundles.size()));
  MutexLock lock(mutex_);
  Live& live = live_[model];
  for (prometheus::Gauge* gone : live.info) bundle_info_.Remove(gone);
  live.info.clear();
  for (const Bundle& bundle : bundles) {
    prometheus::Gauge& info = bundle_info_.Add({{"model", model},
                                                {"version", std::to_string(bundle.version)},
                                                {"fingerprint", bundle.fingerprint},
                                                {"weights", bundle.weights}});
    info.Set(1);
    live.info.push_back(&info);
  }
  live.bundles = std::move(bundles);
  int64_t weight_bytes = 0, slot_bytes = 0;
  for (const auto& [name, others] : live_) {
    std::set<std::string_view> counted;
    for (const Bundle& bundle : others.bundles) {
      if (!counted.insert(bundle.fingerprint).second) continue;
      weight_bytes += bundle.weight_bytes;
      slot_bytes += bundle.slot_bytes;
    }
  }
  memory_.Add({{"kind", "weights"}}).Set(static_cast<double>(weight_bytes));
  memory_.Add({{"kind", "slots"}}).Set(static_cast<double>(slot_bytes));
}

void Metrics::WatchStore(std::weak_ptr<state::PooledStateStore> store) {
  sampled_->Watch(std::move(store));
}

void Metrics::WatchPrefixes(std::weak_ptr<state::PrefixTrie> prefixes) {
  sampled_->Watch(std::move(prefixes));
}

}  // namespace dreamstate::server
