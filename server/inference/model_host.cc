#include "server/inference/model_host.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/resource_names.h"
#include "server/inference/self_test.h"
#include "spdlog/spdlog.h"

namespace dreamstate::server {
namespace {

using Kind = Action::Kind;

// Of weights in fp32. Processors of interest have 16 MiB to some hundred of last-level cache; see
// --weights.
constexpr int64_t kCachedWeightBytes = int64_t{64} << 20;
constexpr absl::Duration kLoadRetry = absl::Seconds(2);
constexpr absl::Duration kShortestWait = absl::Milliseconds(1);

BundleLoader::Options LoaderOptions(const ModelHostOptions& options) {
  const auto choose = [weights = options.weights](
                          const repository::Manifest& manifest,
                          int64_t parameters) -> absl::StatusOr<rwkv::WeightFormat> {
    return weights.value_or(ChooseWeightFormat(parameters, manifest.self_test));
  };
  return {.scheduler = options.scheduler,
          .choose_format = choose,
          .available_memory = options.available_memory};
}

std::string BackboneOf(const repository::Manifest* manifest) {
  const repository::Component* backbone =
      manifest == nullptr ? nullptr : manifest->Find("backbone");
  return backbone == nullptr ? "" : backbone->digest;
}

bool IsLive(VersionState state) {
  return state == VersionState::kServing || state == VersionState::kDraining;
}

int64_t SlotBytes(const ModelSession& session) {
  return session.weights->config.state_bytes() * session.scheduler->options().slots;
}

std::string_view PhaseName(VersionState state) {
  if (state == VersionState::kVerifying) return "verify";
  return state == VersionState::kLoading ? "load" : "self_test";
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

ModelHost::ModelHost(std::unique_ptr<repository::Repository> repository, ModelHostOptions options,
                     Metrics* metrics, ServingCallback on_serving)
    : repository_(std::move(repository)),
      options_(std::move(options)),
      loader_(repository_.get(), LoaderOptions(options_)),
      metrics_(metrics),
      on_serving_(std::move(on_serving)) {}

ModelHost::~ModelHost() { Stop(); }

void ModelHost::Start() {
  thread_ = std::thread([this] { Run(); });
}

absl::Status ModelHost::NoSuchModel(std::string_view name) const {
  constexpr size_t kMostNamed = 8;
  std::string known;
  size_t named = 0;
  for (const auto& [model, state] : models_) {
    if (named == kMostNamed) {
      StrAppend(&known, ", ...");
      break;
    }
    StrAppend(&known, named++ == 0 ? "" : ", ", ModelResourceName(model));
  }
  return ResourceError(absl::StatusCode::kNotFound, "model", name,
                       StrCat("no such model; there is ", known.empty() ? "none" : known));
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
    return NoSuchModel(name);
  }
  const Known& known = found->second;
  bool hopeless = true;
  for (const auto& [number, version] : known.versions) {
    if (version.status.state == VersionState::kServing) return version.lease;
    hopeless &= version.status.state == VersionState::kFailed;
  }
  std::string why = "no version of it serves yet";
  if (!known.pin_problem.empty()) {
    why = known.pin_problem;
  } else if (known.pinned) {
    const auto pinned = known.versions.find(*known.pinned);
    if (pinned == known.versions.end()) {
      why = StrCat("version ", *known.pinned, " is pinned, and the repository has none");
    } else if (pinned->second.status.state == VersionState::kFailed) {
      why = StrCat("version ", *known.pinned,
                   " is pinned, and could not be loaded (ListModelVersions says why)");
    }
  } else if (FollowOf(found->first) == FollowMode::kPinned) {
    why = "this server serves pinned versions only, and none is pinned";
  } else if (hopeless) {
    why = "no version of it could be loaded (ListModelVersions says why)";
  }
  return UnavailableError(StrCat(ModelResourceName(found->first), ": ", why), kLoadRetry);
}

std::shared_ptr<const ModelSession> ModelHost::FindBackbone(const std::string& model,
                                                            std::string_view fingerprint) const {
  MutexLock lock(mutex_);
  const auto found = models_.find(model);
  // Also while draining: schedulers refuse what comes, and say why.
  if (found == models_.end()) return nullptr;
  std::shared_ptr<const ModelSession> kept;
  for (const auto& [number, version] : found->second.versions) {
    if (version.lease == nullptr || version.lease->weights->fingerprint != fingerprint) continue;
    if (version.status.state == VersionState::kServing) return version.lease;
    kept = version.lease;
  }
  return kept;
}

ModelStatus ModelHost::StatusOf(const std::string& name, const Known& model) const {
  ModelStatus status;
  status.model = name;
  status.follow = FollowOf(name);
  status.pinned = model.pinned;
  for (const auto& [number, version] : model.versions) {
    status.versions.push_back(version.status);
    if (version.status.state == VersionState::kServing) status.session = version.session;
  }
  return status;
}

std::vector<ModelStatus> ModelHost::Models() const {
  MutexLock lock(mutex_);
  std::vector<ModelStatus> models;
  models.reserve(models_.size());
  for (const auto& [name, model] : models_) models.push_back(StatusOf(name, model));
  return models;
}

absl::StatusOr<ModelStatus> ModelHost::Model(const std::string& model) const {
  MutexLock lock(mutex_);
  if (!scanned_) return UnavailableError(StrCat("no model yet: ", scan_problem_), kLoadRetry);
  const auto found = models_.find(model);
  if (found == models_.end()) {
    return NoSuchModel(ModelResourceName(model));
  }
  return StatusOf(model, found->second);
}

absl::StatusOr<std::vector<int64_t>> ModelHost::Reload(const std::string& model) {
  DS_RETURN_IF_ERROR(Model(model).status());
  std::vector<int64_t> retried;
  MutexLock lock(mutex_);
  for (auto& [number, version] : models_[model].versions) {
    if (version.status.state != VersionState::kFailed) continue;
    version.retry_at = absl::InfinitePast();
    version.failures = 0;
    retried.push_back(number);
  }
  woken_ = true;
  changed_.NotifyAll();
  return retried;
}

void ModelHost::WhenSettled(const std::string& model, std::weak_ptr<SettledListener> listener) {
  MutexLock lock(mutex_);
  if (!draining_) {
    waiters_.push_back({model, std::move(listener), scans_ + 1});
    woken_ = true;
    changed_.NotifyAll();
    return;
  }
  // Nobody else will.
  if (const auto told = listener.lock()) {
    told->OnSettled(UnavailableError("the server is draining", kLoadRetry));
  }
}

absl::StatusOr<ModelStatus> ModelHost::Pin(const std::string& model, int64_t version) {
  DS_RETURN_IF_ERROR(Model(model).status());
  DS_RETURN_IF_ERROR(repository_->Pin(model, version));
  MutexLock lock(mutex_);
  models_[model].pinned = version;
  models_[model].pin_problem.clear();
  ++models_[model].pin_changes;
  woken_ = true;
  changed_.NotifyAll();
  return StatusOf(model, models_[model]);
}

absl::StatusOr<ModelStatus> ModelHost::Unpin(const std::string& model) {
  DS_RETURN_IF_ERROR(Model(model).status());
  DS_RETURN_IF_ERROR(repository_->Unpin(model));
  MutexLock lock(mutex_);
  models_[model].pinned.reset();
  models_[model].pin_problem.clear();
  ++models_[model].pin_changes;
  woken_ = true;
  changed_.NotifyAll();
  return StatusOf(model, models_[model]);
}

std::vector<std::shared_ptr<const ModelSession>> ModelHost::Sessions() const {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<const ModelSession>> sessions;
  for (const auto& [name, model] : models_) {
    for (const auto& [number, version] : model.versions) {
      if (version.session != nullptr) sessions.push_back(version.session);
    }
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

FollowMode ModelHost::FollowOf(const std::string& model) const {
  const auto found = options_.follow_by_model.find(model);
  return found == options_.follow_by_model.end() ? options_.follow : found->second;
}

void ModelHost::Run() {
  while (!stopping()) {
    Scan();
    while (!stopping() && Act()) {
    }
    TellSettled();
    MutexLock lock(mutex_);
    const absl::Time now = options_.clock->Now();
    const std::vector<ModelView> views = View();
    const absl::Duration until = NextDeadline(views, now, options_.max_drain) - now;
    if (!draining_ && !stopping_ && !woken_) {
      changed_.WaitFor(mutex_, std::clamp(until, kShortestWait, options_.poll));
    }
    woken_ = false;
  }
  // First: nobody is to wait for what is being verified or loaded to notice.
  TellSettled();
  if (work_.joinable()) work_.join();
}

ModelView ModelHost::ViewOf(const std::string& name, const Known& model) const {
  ModelView view;
  view.model = name;
  view.follow = FollowOf(name);
  view.pinned = model.pinned;
  view.pin_unreadable = !model.pin_problem.empty();
  for (const auto& [number, version] : model.versions) {
    VersionView& shown = view.versions.emplace_back();
    shown.version = number;
    shown.state = version.status.state;
    shown.backbone = BackboneOf(version.status.manifest.get());
    shown.ready = version.ready;
    // Without a manifest there is nothing to try; looking into the repository again comes first.
    if (version.status.manifest != nullptr) shown.retry_at = version.retry_at;
    shown.kept = version.kept;
    shown.in_use = !version.held.expired();
    shown.drains_since = version.drains_since;
    shown.ending = version.ending;
  }
  return view;
}

std::vector<ModelView> ModelHost::View() const {
  std::vector<ModelView> views;
  for (const auto& [name, model] : models_) views.push_back(ViewOf(name, model));
  return views;
}

void ModelHost::TellSettled() {
  std::vector<std::pair<std::shared_ptr<SettledListener>, absl::StatusOr<ModelStatus>>> told;
  {
    MutexLock lock(mutex_);
    const absl::Time now = options_.clock->Now();
    std::erase_if(waiters_, [&](const Waiter& waiter) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      std::shared_ptr<SettledListener> listener = waiter.listener.lock();
      if (listener == nullptr) return true;
      const auto model = models_.find(waiter.model);
      if (draining_) {
        told.emplace_back(std::move(listener),
                          UnavailableError("the server is draining", kLoadRetry));
      } else if (waiter.scan > scans_) {
        return false;
      } else if (waiter.scan > good_scan_) {
        told.emplace_back(std::move(listener), UnavailableError(scan_problem_, kLoadRetry));
      } else if (model == models_.end()) {
        told.emplace_back(std::move(listener), NoSuchModel(ModelResourceName(waiter.model)));
      } else if (IsSettled(ViewOf(model->first, model->second), now)) {
        told.emplace_back(std::move(listener), StatusOf(model->first, model->second));
      } else {
        return false;
      }
      return true;
    });
  }
  for (auto& [listener, status] : told) listener->OnSettled(std::move(status));
}

bool ModelHost::Act() {
  std::vector<Action> actions;
  {
    MutexLock lock(mutex_);
    actions = NextActions(View(), options_.clock->Now(), options_.max_drain);
  }
  for (const Action& action : actions) Begin(action);
  return !actions.empty();
}

ModelHost::Version* ModelHost::FindVersion(const Action& action) {
  const auto model = models_.find(action.model);
  if (model == models_.end()) return nullptr;
  const auto version = model->second.versions.find(action.version);
  return version == model->second.versions.end() ? nullptr : &version->second;
}

void ModelHost::SetState(const Action& action, VersionState state) {
  MutexLock lock(mutex_);
  if (Version* version = FindVersion(action)) version->status.state = state;
}

void ModelHost::Begin(const Action& action) {
  const std::string name = VersionResourceName(action.model, action.version);
  switch (action.kind) {
    case Kind::kVerify:
    case Kind::kLoad: {
      {
        MutexLock lock(mutex_);
        Version* version = FindVersion(action);
        version->ready = false;
        version->status.reason.clear();
        version->status.state =
            action.kind == Kind::kVerify ? VersionState::kVerifying : VersionState::kLoading;
      }
      if (work_.joinable()) work_.join();  // the one before has ended: nothing else is in progress
      work_ = std::thread([this, action] {
        action.kind == Kind::kVerify ? Verify(action) : Load(action);
        MutexLock lock(mutex_);
        woken_ = true;
        changed_.NotifyAll();
      });
      return;
    }
    case Kind::kForget: {
      MutexLock lock(mutex_);
      Version* version = FindVersion(action);
      version->status.state = VersionState::kDiscovered;
      version->ready = false;
      version->verified.reset();
      return;
    }
    case Kind::kPromote:
      Promote(action);
      return;
    case Kind::kRetire: {
      MutexLock lock(mutex_);
      Version* version = FindVersion(action);
      version->kept = false;
      version->drains_since = options_.clock->Now();
      version->lease.reset();
      spdlog::info("{} takes no more calls: another backbone needs its place", name);
      return;
    }
    case Kind::kEndStreams: {
      std::shared_ptr<const ModelSession> session;
      {
        MutexLock lock(mutex_);
        Version* version = FindVersion(action);
        version->ending = true;
        session = version->session;
      }
      spdlog::warn("{} ends what still runs on it: a newer version has waited for {}", name,
                   absl::FormatDuration(options_.max_drain));
      session->end->End(UnavailableError(
          StrCat(name, " was replaced, and a newer version needs its place: streams may stay for ",
                 absl::FormatDuration(options_.max_drain)),
          kLoadRetry));
      session->scheduler->waker()->Wake();
      return;
    }
    case Kind::kRelease:
      Release(action);
      return;
  }
}

void ModelHost::Promote(const Action& action) {
  const std::string name = VersionResourceName(action.model, action.version);
  bool first = true;
  std::shared_ptr<const ModelSession> session;
  absl::Time created;
  {
    MutexLock lock(mutex_);
    // Whoever drains has already told every session there was.
    if (draining_) return;
    Version* promoted = FindVersion(action);
    session = promoted->session;
    created = promoted->status.manifest->created;
    const absl::Time now = options_.clock->Now();
    for (auto& [number, version] : models_[action.model].versions) {
      if (&version == promoted || version.session == nullptr) continue;
      const bool served = version.status.state == VersionState::kServing;
      first &= !served;
      if (!served && !version.kept) continue;
      version.status.state = VersionState::kDraining;
      version.kept = version.session->weights->fingerprint != session->weights->fingerprint;
      if (version.kept) continue;
      version.drains_since = now;
      version.lease.reset();
    }
    promoted->status.state = VersionState::kServing;
    promoted->ready = promoted->kept = promoted->ending = false;
    promoted->failures = 0;
    promoted->lease = promoted->held.lock();  // streams may be left from when it served before
    if (promoted->lease == nullptr) {
      // Another owner than `session`, so that it expires when calls have let go.
      const auto hold = std::make_shared<std::shared_ptr<const ModelSession>>(session);
      promoted->lease = {hold, session.get()};
      promoted->held = promoted->lease;
    }
  }
  spdlog::info("{} serves as {}", name, session->scheduler->numerics());
  metrics_->OnReload(action.model, "served");
  metrics_->OnServing(action.model, action.version, created);
  ReportLive(action.model);
  if (first) on_serving_(action.model, true);
}

void ModelHost::Release(const Action& action) {
  std::shared_ptr<const ModelSession> session;
  bool backbone_lives = false;
  {
    MutexLock lock(mutex_);
    Version* version = FindVersion(action);
    session = std::move(version->session);
    version->session.reset();
    for (const auto& [name, model] : models_) {
      for (const auto& [number, other] : model.versions) {
        backbone_lives |= session != nullptr && other.session != nullptr &&
                          other.session->weights->fingerprint == session->weights->fingerprint;
      }
    }
    version->lease.reset();
    version->held.reset();
    version->status.state = VersionState::kReleased;
    version->ready = version->kept = version->ending = false;
    version->drains_since = absl::InfiniteFuture();
  }
  const std::string fingerprint = session == nullptr ? "" : session->weights->fingerprint;
  session.reset();  // here the loop ends and the memory goes, unless another version shares them
  if (!backbone_lives && !fingerprint.empty()) options_.on_backbone_gone(fingerprint);
  spdlog::info("{} is released", VersionResourceName(action.model, action.version));
  ReportLive(action.model);
}

BundleLoader::Shared ModelHost::SharedBackbone(const std::string& model,
                                               const repository::Manifest& manifest) const {
  MutexLock lock(mutex_);
  const auto found = models_.find(model);
  if (found == models_.end()) return {};
  for (const auto& [number, version] : found->second.versions) {
    if (!IsLive(version.status.state) || version.session == nullptr) continue;
    BundleLoader::Shared shared = {version.session, version.status.parameters};
    if (loader_.CanShare(manifest, shared)) return shared;
  }
  return {};
}

void ModelHost::Verify(const Action& action) {
  std::shared_ptr<const repository::Manifest> manifest;
  int64_t freed_bytes = 0;
  {
    MutexLock lock(mutex_);
    manifest = FindVersion(action)->status.manifest;
    std::set<const Scheduler*> counted;
    for (const auto& [number, version] : models_[action.model].versions) {
      // Those that make place before another backbone is loaded.
      if (version.status.state != VersionState::kDraining) continue;
      if (!counted.insert(version.session->scheduler.get()).second) continue;
      freed_bytes +=
          static_cast<int64_t>(version.session->weights->bytes) + SlotBytes(*version.session);
    }
    for (const auto& [number, version] : models_[action.model].versions) {
      if (version.status.state == VersionState::kServing &&
          counted.contains(version.session->scheduler.get())) {
        freed_bytes -=
            static_cast<int64_t>(version.session->weights->bytes) + SlotBytes(*version.session);
      }
    }
  }
  const absl::Time start = absl::Now();
  absl::StatusOr<VerifiedBundle> bundle =
      loader_.Verify(manifest, SharedBackbone(action.model, *manifest), freed_bytes,
                     [this] { return stopping(); });
  if (!bundle.ok()) {
    Fail(action, "verify", bundle.status());
    return;
  }
  metrics_->OnBundlePhase(action.model, "verify", absl::Now() - start);
  MutexLock lock(mutex_);
  Version* version = FindVersion(action);
  version->verified = std::make_shared<const VerifiedBundle>(*std::move(bundle));
  version->status.parameters = version->verified->parameters;
  version->ready = true;
}

void ModelHost::Load(const Action& action) {
  std::shared_ptr<const VerifiedBundle> verified;
  {
    MutexLock lock(mutex_);
    verified = std::move(FindVersion(action)->verified);
    FindVersion(action)->verified.reset();
  }
  const BundleLoader::Shared shared = SharedBackbone(action.model, *verified->manifest);
  if (shared.session == nullptr && !verified->backbone) {
    // What it was to share has gone meanwhile: its files are to be looked at after all.
    SetState(action, VersionState::kDiscovered);
    return;
  }
  absl::Time phase_start = absl::Now();
  const absl::Time start = phase_start;
  VersionState phase = VersionState::kLoading;
  const auto leave = [&] {
    metrics_->OnBundlePhase(action.model, PhaseName(phase), absl::Now() - phase_start);
  };
  const auto entered = [&](VersionState state) {
    if (state != phase) leave();
    phase = state;
    phase_start = absl::Now();
    SetState(action, state);
  };
  absl::StatusOr<LoadedBundle> loaded = loader_.Load(
      *verified, shared, [&] { return metrics_->NewObserver(action.model); }, entered,
      [this] { return stopping(); });
  if (!loaded.ok()) {
    Fail(action, PhaseName(phase), loaded.status());
    return;
  }
  leave();
  const std::string name = VersionResourceName(action.model, action.version);
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  if (loaded->shares_backbone) {
    spdlog::info("{} shares the backbone of version {}: ready in {:.3f} s, nothing was loaded",
                 name, shared.session->version, seconds);
  } else {
    metrics_->OnBackboneLoaded(action.model);
    spdlog::info("{} loaded in {:.2f} s", name, seconds);
  }
  MutexLock lock(mutex_);
  if (draining_) return;
  Version* version = FindVersion(action);
  version->session = std::move(loaded->session);
  version->status.measured_nll = loaded->measured_nll;
  version->status.tolerance = loaded->tolerance;
  version->ready = true;
}

void ModelHost::Fail(const Action& action, std::string_view phase, const absl::Status& status) {
  if (stopping()) return;
  const bool passing = IsPassing(status.code());
  std::string reason(StdView(status.message()));
  {
    MutexLock lock(mutex_);
    Version* version = FindVersion(action);
    version->retry_at = absl::InfiniteFuture();
    if (passing) {
      const absl::Duration delay =
          RetryDelay(++version->failures, options_.first_retry, options_.most_retry);
      version->retry_at = options_.clock->Now() + delay;
      StrAppend(&reason, " (tried ", version->failures, " times; again in ",
                absl::FormatDuration(delay), ")");
    }
    version->verified.reset();
    version->ready = false;
    version->status.reason = reason;
    version->status.state = VersionState::kFailed;
  }
  metrics_->OnBundleRejected(action.model, phase);
  metrics_->OnReload(action.model, passing ? "failed_in_passing" : "rejected");
  spdlog::error("{} rejected: {}: {}", VersionResourceName(action.model, action.version), phase,
                reason);
}

void ModelHost::ReportLive(const std::string& model) {
  std::vector<Metrics::Bundle> live;
  {
    MutexLock lock(mutex_);
    for (const auto& [number, version] : models_[model].versions) {
      if (!IsLive(version.status.state)) continue;
      const rwkv::Weights& weights = *version.session->weights;
      live.push_back({.version = number,
                      .fingerprint = weights.fingerprint,
                      .weights = std::string(rwkv::WeightFormatName(weights.format)),
                      .weight_bytes = static_cast<int64_t>(weights.bytes),
                      .slot_bytes = SlotBytes(*version.session)});
    }
  }
  metrics_->OnLive(model, std::move(live));
}

}  // namespace dreamstate::server
