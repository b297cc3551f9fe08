#include "server/inference/model_host.h"

#include <sys/resource.h>

#include <algorithm>
#include <new>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/format_table.h"
#include "server/inference/resource_names.h"
#include "server/inference/self_test.h"
#include "spdlog/spdlog.h"

namespace dreamstate::server {
namespace {

// Of weights in fp32. Processors of interest have 16 MiB to some hundred of last-level cache; see
// --weights.
constexpr int64_t kCachedWeightBytes = int64_t{64} << 20;
constexpr absl::Duration kLoadRetry = absl::Seconds(2);
constexpr int kLoaderNice = 10;

// `work` answers with a status or a value; what it throws becomes a status.
template <typename Work>
auto CatchingMemory(const Work& work) -> decltype(work()) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("not enough memory");
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
}

// Verifying and reading must not slow requests. The thread is its own because threads inherit their
// maker's priority, which an ordinary user cannot raise again.
template <typename Work>
auto AtLowPriority(const Work& work) {
  std::optional<decltype(work())> result;
  std::thread thread([&] {
    setpriority(PRIO_PROCESS, 0, kLoaderNice);
    result.emplace(CatchingMemory(work));
  });
  thread.join();
  return *std::move(result);
}

absl::Status CheckSpecialToken(std::string_view field, int32_t token, int vocab) {
  if (token >= 0 && token < vocab) return absl::OkStatus();
  return absl::FailedPreconditionError(
      StrCat("manifest: ", field, ": expected an id in [0, ", vocab, "), found ", token));
}

int64_t Parameters(const tensors::TensorSet& set) {
  int64_t parameters = 0;
  for (const tensors::Tensor& tensor : set.tensors()) parameters += tensor.elements();
  return parameters;
}

}  // namespace

rwkv::WeightFormat ChooseWeightFormat(int64_t parameters, const repository::SelfTest& self_test) {
  const bool cached = parameters * int64_t{sizeof(float)} <= kCachedWeightBytes;
  // Only where the publisher measured it.
  if (!cached && self_test.tolerance.contains(rwkv::WeightFormatName(rwkv::WeightFormat::kInt8))) {
    return rwkv::WeightFormat::kInt8;
  }
  const auto wanted = cached ? rwkv::WeightFormat::kFloat32 : rwkv::WeightFormat::kBfloat16;
  const auto other = cached ? rwkv::WeightFormat::kBfloat16 : rwkv::WeightFormat::kFloat32;
  if (SelfTestTolerance(self_test, wanted).ok() || !SelfTestTolerance(self_test, other).ok()) {
    return wanted;
  }
  return other;
}

ModelHost::ModelHost(std::unique_ptr<const repository::Repository> repository,
                     ModelHostOptions options, Metrics* metrics, ServingCallback on_serving)
    : repository_(std::move(repository)),
      options_(std::move(options)),
      metrics_(metrics),
      on_serving_(std::move(on_serving)) {}

ModelHost::~ModelHost() { Stop(); }

void ModelHost::Start() {
  thread_ = std::thread([this] { Run(); });
}

absl::StatusOr<std::shared_ptr<const ModelSession>> ModelHost::Find(std::string_view name) const {
  std::string model;
  if (!name.empty()) {
    DS_ASSIGN_OR_RETURN(model, ParseModelName("model", name));
  }
  MutexLock lock(mutex_);
  if (draining_) return UnavailableError("the server is draining", kLoadRetry);
  if (!scanned_ || (name.empty() && models_.empty())) {
    return UnavailableError(
        scan_problem_.empty() ? "no model yet" : StrCat("no model yet: ", scan_problem_),
        kLoadRetry);
  }
  if (name.empty() && models_.size() > 1) {
    return FieldError(
        "model", StrCat("must name one of the ", models_.size(), " models of this server, such as ",
                        ModelResourceName(models_.begin()->first)));
  }
  const auto found = name.empty() ? models_.begin() : models_.find(model);
  if (found == models_.end()) {
    return ResourceError(absl::StatusCode::kNotFound, "model", name, "no such model");
  }
  const ModelStatus& status = found->second;
  if (status.session != nullptr) return status.session;
  const bool hopeless = std::all_of(
      status.versions.begin(), status.versions.end(),
      [](const VersionStatus& version) { return version.state == VersionState::kFailed; });
  return UnavailableError(
      StrCat(ModelResourceName(found->first),
             hopeless ? ": no version of it could be loaded (ListModelVersions says why)"
                      : ": no version of it serves yet"),
      kLoadRetry);
}

std::vector<ModelStatus> ModelHost::Models() const {
  MutexLock lock(mutex_);
  std::vector<ModelStatus> models;
  models.reserve(models_.size());
  for (const auto& [name, status] : models_) models.push_back(status);
  return models;
}

absl::StatusOr<ModelStatus> ModelHost::Model(const std::string& model) const {
  MutexLock lock(mutex_);
  if (!scanned_) return UnavailableError(StrCat("no model yet: ", scan_problem_), kLoadRetry);
  const auto found = models_.find(model);
  if (found == models_.end()) {
    return ResourceError(absl::StatusCode::kNotFound, "model", ModelResourceName(model),
                         "no such model");
  }
  return found->second;
}

std::vector<std::shared_ptr<const ModelSession>> ModelHost::Sessions() const {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<const ModelSession>> sessions;
  for (const auto& [name, status] : models_) {
    if (status.session != nullptr) sessions.push_back(status.session);
  }
  return sessions;
}

void ModelHost::BeginDrain() {
  {
    MutexLock lock(mutex_);
    draining_ = true;
  }
  changed_.NotifyAll();
  for (const auto& session : Sessions()) session->scheduler->BeginDrain();
}

bool ModelHost::Drain(absl::Duration limit) {
  BeginDrain();
  const absl::Time end = absl::Now() + limit;
  bool idle = true;
  for (const auto& session : Sessions()) {
    idle &= session->scheduler->Drain(std::max(end - absl::Now(), absl::ZeroDuration()));
  }
  return idle;
}

void ModelHost::Stop() {
  {
    MutexLock lock(mutex_);
    draining_ = true;
    stopping_ = true;
  }
  changed_.NotifyAll();
  for (const auto& session : Sessions()) session->scheduler->Stop();
  if (thread_.joinable()) thread_.join();
}

bool ModelHost::stopping() const {
  MutexLock lock(mutex_);
  return draining_ || stopping_;
}

absl::Status ModelHost::CheckNotStopping() const {
  return stopping() ? absl::CancelledError("the server is draining") : absl::OkStatus();
}

void ModelHost::Run() {
  while (!stopping()) {
    Scan();
    while (!stopping()) {
      const std::optional<LoadTarget> next = NextLoad(View());
      if (!next) break;
      Load(*next);
    }
    MutexLock lock(mutex_);
    if (!draining_ && !stopping_) changed_.WaitFor(mutex_, options_.poll);
  }
}

std::string ModelHost::ProblemWith(const absl::StatusOr<std::vector<std::string>>& names) const {
  if (!names.ok()) {
    return StrCat("cannot read the model repository: ", StdView(names.status().message()));
  }
  const std::string& path = repository_->path();
  if (names->empty()) {
    return StrCat("the model repository ", path,
                  " holds no model: expected bundles/<model>/<version>.json under it");
  }
  for (const std::string& model : options_.models) {
    if (std::find(names->begin(), names->end(), model) == names->end()) {
      return StrCat("the model repository ", path, " holds no model \"", model,
                    "\": expected bundles/", model, "/<version>.json under it");
    }
  }
  return "";
}

void ModelHost::SetScanProblem(std::string problem) {
  MutexLock lock(mutex_);
  if (problem != scan_problem_ && !problem.empty()) spdlog::warn("{}", problem);
  scan_problem_ = std::move(problem);
}

void ModelHost::Scan() {
  const absl::StatusOr<std::vector<std::string>> names = repository_->ListModels();
  SetScanProblem(ProblemWith(names));
  if (!names.ok()) return;
  for (const std::string& model : *names) {
    const bool wanted =
        options_.models.empty() ||
        std::find(options_.models.begin(), options_.models.end(), model) != options_.models.end();
    if (wanted) ScanModel(model);
  }
  MutexLock lock(mutex_);
  scanned_ = true;
}

void ModelHost::ScanModel(const std::string& model) {
  absl::StatusOr<std::vector<repository::VersionInfo>> found = repository_->ListVersions(model);
  if (!found.ok()) return;  // gone between the two looks
  MutexLock lock(mutex_);
  ModelStatus& status = models_[model];
  status.model = model;
  std::vector<VersionStatus> versions;
  for (repository::VersionInfo& info : *found) {
    const auto known =
        std::find_if(status.versions.begin(), status.versions.end(),
                     [&](const VersionStatus& old) { return old.version == info.version; });
    if (known != status.versions.end()) {
      versions.push_back(std::move(*known));
      continue;
    }
    VersionStatus discovered;
    discovered.version = info.version;
    if (info.manifest.ok()) {
      discovered.manifest = std::make_shared<const repository::Manifest>(*std::move(info.manifest));
    } else {
      discovered.state = VersionState::kFailed;
      discovered.reason = std::string(StdView(info.manifest.status().message()));
      metrics_->OnBundleRejected(model, "manifest");
      spdlog::error("{} rejected: {}", VersionResourceName(model, info.version), discovered.reason);
    }
    versions.push_back(std::move(discovered));
  }
  // What serves stays known, also when its manifest was removed.
  for (VersionStatus& old : status.versions) {
    if (old.state == VersionState::kServing &&
        std::none_of(versions.begin(), versions.end(),
                     [&](const VersionStatus& v) { return v.version == old.version; })) {
      versions.push_back(std::move(old));
    }
  }
  std::sort(versions.begin(), versions.end(),
            [](const auto& a, const auto& b) { return a.version > b.version; });
  status.versions = std::move(versions);
}

std::vector<ModelView> ModelHost::View() const {
  MutexLock lock(mutex_);
  std::vector<ModelView> views;
  for (const auto& [name, status] : models_) {
    ModelView view{name, {}};
    for (const VersionStatus& version : status.versions) {
      view.versions.push_back({version.version, version.state});
    }
    views.push_back(std::move(view));
  }
  return views;
}

void ModelHost::SetState(const LoadTarget& target,
                         const std::function<void(VersionStatus&)>& change) {
  MutexLock lock(mutex_);
  for (VersionStatus& version : models_[target.model].versions) {
    if (version.version == target.version) change(version);
  }
}

void ModelHost::Load(const LoadTarget& target) {
  const std::string name = VersionResourceName(target.model, target.version);
  std::shared_ptr<const repository::Manifest> manifest;
  SetState(target, [&](VersionStatus& version) { manifest = version.manifest; });
  const absl::Time start = absl::Now();
  std::string_view phase;
  absl::StatusOr<std::shared_ptr<const ModelSession>> session =
      CatchingMemory([&] { return LoadSession(target, *manifest, &phase); });
  if (!session.ok()) {
    if (stopping()) return;
    const std::string reason(StdView(session.status().message()));
    SetState(target, [&](VersionStatus& version) {
      version.state = VersionState::kFailed;
      version.reason = reason;
    });
    metrics_->OnBundleRejected(target.model, phase);
    spdlog::error("{} rejected: {}: {}", name, phase, reason);
    return;
  }
  const rwkv::Weights& weights = *(*session)->weights;
  metrics_->OnBundleServing(
      {.model = target.model,
       .version = target.version,
       .fingerprint = weights.fingerprint,
       .weights = std::string(rwkv::WeightFormatName(weights.format)),
       .weight_bytes = static_cast<int64_t>(weights.bytes),
       .slot_bytes = weights.config.state_bytes() * options_.scheduler.slots});
  {
    MutexLock lock(mutex_);
    // Whoever drains has already told every session there was.
    if (draining_) return;
    ModelStatus& status = models_[target.model];
    status.session = *session;
    for (VersionStatus& version : status.versions) {
      if (version.version == target.version) version.state = VersionState::kServing;
    }
  }
  spdlog::info("{} serves as {}, loaded in {:.2f} s", name, (*session)->scheduler->numerics(),
               absl::ToDoubleSeconds(absl::Now() - start));
  on_serving_(target.model, true);
}

absl::StatusOr<rwkv::WeightFormat> ModelHost::FormatFor(const repository::Manifest& manifest,
                                                        int64_t parameters) const {
  const rwkv::WeightFormat format =
      options_.weights.value_or(ChooseWeightFormat(parameters, manifest.self_test));
  DS_RETURN_IF_ERROR(SelfTestTolerance(manifest.self_test, format).status());
  return format;
}

absl::StatusOr<std::shared_ptr<const ModelSession>> ModelHost::LoadSession(
    const LoadTarget& target, const repository::Manifest& manifest, std::string_view* phase) {
  absl::Time phase_start = absl::Now();
  const auto enter = [&](VersionState state, std::string_view name) {
    *phase = name;
    phase_start = absl::Now();
    SetState(target, [&](VersionStatus& version) { version.state = state; });
  };
  const auto leave = [&] {
    metrics_->OnBundlePhase(target.model, *phase, absl::Now() - phase_start);
  };
  auto session = std::make_shared<ModelSession>();
  session->model = target.model;
  session->version = target.version;
  session->end_token = manifest.end_token;
  session->separator_token = manifest.separator_token;

  enter(VersionState::kVerifying, "verify");
  DS_RETURN_IF_ERROR(AtLowPriority([&] { return repository_->Verify(manifest); }));
  leave();
  DS_RETURN_IF_ERROR(CheckNotStopping());

  enter(VersionState::kLoading, "load");
  DS_ASSIGN_OR_RETURN(const tensors::TensorSet tensors,
                      repository_->LoadComponent(manifest, "backbone"));
  DS_RETURN_IF_ERROR(CheckNotStopping());
  const int64_t parameters = Parameters(tensors);
  SetState(target, [&](VersionStatus& version) { version.parameters = parameters; });
  DS_ASSIGN_OR_RETURN(const rwkv::WeightFormat format, FormatFor(manifest, parameters));
  DS_ASSIGN_OR_RETURN(const rwkv::FormatPolicy policy, repository::FormatPolicyOf(manifest));
  DS_ASSIGN_OR_RETURN(session->weights,
                      AtLowPriority([&] { return rwkv::Weights::Load(tensors, format, policy); }));
  const int vocab = session->weights->config.vocab;
  DS_ASSIGN_OR_RETURN(session->tokenizer, text::MakeTokenizer(manifest.tokenizer));
  if (session->tokenizer->vocab_size() > vocab) {
    return absl::FailedPreconditionError(StrCat("tokenizer ", manifest.tokenizer, " has ",
                                                session->tokenizer->vocab_size(),
                                                " tokens, the model ", vocab));
  }
  DS_RETURN_IF_ERROR(CheckSpecialToken("end_token", manifest.end_token, vocab));
  DS_RETURN_IF_ERROR(CheckSpecialToken("separator_token", manifest.separator_token, vocab));
  DS_ASSIGN_OR_RETURN(session->scheduler, Scheduler::Create(session->weights, options_.scheduler,
                                                            metrics_->ObserverOf(target.model)));
  leave();
  DS_RETURN_IF_ERROR(CheckNotStopping());

  enter(VersionState::kWarmingUp, "self_test");
  DS_ASSIGN_OR_RETURN(const double tolerance, SelfTestTolerance(manifest.self_test, format));
  DS_ASSIGN_OR_RETURN(const double measured,
                      MeasureSelfTest(manifest.self_test, vocab, *session->scheduler));
  SetState(target, [&](VersionStatus& version) {
    version.measured_nll = measured;
    version.tolerance = tolerance;
  });
  DS_RETURN_IF_ERROR(CheckSelfTest(manifest.self_test, measured, tolerance));
  leave();
  return session;
}

}  // namespace dreamstate::server
