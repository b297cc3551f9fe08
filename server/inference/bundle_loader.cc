#include "server/inference/bundle_loader.h"

#include <sys/resource.h>

#include <exception>
#include <new>
#include <thread>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/format_table.h"
#include "core/rwkv/tensor_shapes.h"
#include "core/text/tokenizer.h"
#include "server/inference/self_test.h"
#include "server/inference/state_dit.h"

namespace dreamstate::server {
namespace {

constexpr int kLoaderNice = 10;
constexpr std::string_view kBackbone = "backbone";
constexpr std::string_view kStateDit = "state_dit";

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
// maker's priority, which an ordinary user cannot raise again: a scheduler must not be made on it.
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

// Whether a live version has loaded the same state DiT.
bool SharesStateDit(const repository::Component& component, const BundleLoader::Shared& shared) {
  return component.kind == kStateDit && shared.session != nullptr &&
         shared.session->state_dit != nullptr &&
         shared.session->state_dit->digest == component.digest;
}

int64_t Parameters(const tensors::TensorSet& set) {
  int64_t parameters = 0;
  for (const tensors::Tensor& tensor : set.tensors()) parameters += tensor.elements();
  return parameters;
}

}  // namespace

absl::Status BundleLoader::CheckFits(const VerifiedBundle& bundle,
                                     const rwkv::Config& config) const {
  const repository::Manifest& manifest = *bundle.manifest;
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<const text::Tokenizer> tokenizer,
                      text::MakeTokenizer(manifest.tokenizer));
  if (tokenizer->vocab_size() > config.vocab) {
    return absl::FailedPreconditionError(StrCat("tokenizer ", manifest.tokenizer, " has ",
                                                tokenizer->vocab_size(), " tokens, the model ",
                                                config.vocab));
  }
  DS_RETURN_IF_ERROR(CheckSpecialToken("end_token", manifest.end_token, config.vocab));
  DS_RETURN_IF_ERROR(CheckSpecialToken("separator_token", manifest.separator_token, config.vocab));
  return SelfTestTolerance(manifest.self_test, bundle.format).status();
}

bool BundleLoader::CanShare(const repository::Manifest& manifest, const Shared& shared) const {
  const rwkv::Weights& weights = *shared.session->weights;
  const repository::Component* backbone = manifest.Find(kBackbone);
  if (backbone == nullptr || backbone->digest != weights.fingerprint) return false;
  // What cannot be chosen or read is not shared: the load says what is wrong with it.
  const auto format = options_.choose_format(manifest, shared.parameters);
  if (!format.ok() || *format != weights.format) return false;
  if (*format != rwkv::WeightFormat::kInt8) return true;
  const auto policy = repository::FormatPolicyOf(manifest);
  return policy.ok() && *policy == weights.policy;
}

absl::StatusOr<VerifiedBundle> BundleLoader::Verify(
    std::shared_ptr<const repository::Manifest> manifest, const Shared& shared, int64_t freed_bytes,
    const Stopping& stopping) const {
  return CatchingMemory([&]() -> absl::StatusOr<VerifiedBundle> {
    VerifiedBundle bundle;
    bundle.manifest = std::move(manifest);
    rwkv::Config config;
    for (const repository::Component& component : bundle.manifest->components) {
      if (component.kind == kBackbone && shared.session != nullptr) continue;
      if (SharesStateDit(component, shared)) continue;
      DS_ASSIGN_OR_RETURN(tensors::TensorSet tensors, AtLowPriority([&] {
                            return repository_->LoadComponent(*bundle.manifest, component.kind,
                                                              stopping);
                          }));
      if (component.kind == kBackbone) {
        bundle.backbone = std::move(tensors);
      } else if (component.kind == kStateDit) {
        bundle.memory.state_dit = EstimateStateDitMemory(tensors);
        bundle.state_dit = std::move(tensors);
      }
    }
    const auto check_memory = [&] {
      std::optional<int64_t> available = options_.available_memory();
      if (available) *available += freed_bytes;
      return CheckMemory(bundle.memory, available);
    };
    if (shared.session != nullptr) {
      config = shared.session->weights->config;
      DS_RETURN_IF_ERROR(check_memory());
      bundle.parameters = shared.parameters;
      bundle.format = shared.session->weights->format;
      DS_RETURN_IF_ERROR(CheckFits(bundle, config));
      return bundle;
    }
    if (!bundle.backbone) {
      return absl::InvalidArgumentError("manifest: components: expected a backbone, found none");
    }
    DS_ASSIGN_OR_RETURN(config, rwkv::Config::FromTensors(*bundle.backbone));
    DS_RETURN_IF_ERROR(rwkv::CheckTensors(*bundle.backbone, config));
    bundle.parameters = Parameters(*bundle.backbone);
    DS_ASSIGN_OR_RETURN(bundle.format, options_.choose_format(*bundle.manifest, bundle.parameters));
    DS_RETURN_IF_ERROR(CheckFits(bundle, config));
    DS_ASSIGN_OR_RETURN(const rwkv::FormatPolicy policy,
                        repository::FormatPolicyOf(*bundle.manifest));
    const int64_t state_dit = bundle.memory.state_dit;
    bundle.memory =
        EstimateMemory(*bundle.backbone, config, bundle.format, policy, options_.scheduler);
    bundle.memory.state_dit = state_dit;
    DS_RETURN_IF_ERROR(check_memory());
    return bundle;
  });
}

absl::Status BundleLoader::LoadBackbone(const VerifiedBundle& bundle, SchedulerObserver* observer,
                                        const Stopping& stopping, ModelSession* session) const {
  // Again: time has passed, and others take memory too.
  DS_RETURN_IF_ERROR(CheckMemory(bundle.memory, options_.available_memory()));
  DS_ASSIGN_OR_RETURN(const rwkv::FormatPolicy policy,
                      repository::FormatPolicyOf(*bundle.manifest));
  DS_ASSIGN_OR_RETURN(session->weights, AtLowPriority([&] {
                        return rwkv::Weights::Load(*bundle.backbone, bundle.format, policy,
                                                   stopping);
                      }));
  // A file that was changed or truncated since it was verified does not get through.
  const repository::Component& component = *bundle.manifest->Find(kBackbone);
  if (session->weights->fingerprint != component.digest) {
    return absl::DataLossError(StrCat("the blob changed while it was loaded: expected fingerprint ",
                                      component.digest, ", found ", session->weights->fingerprint,
                                      " (", bundle.backbone->source(), ")"));
  }
  DS_ASSIGN_OR_RETURN(session->scheduler,
                      Scheduler::Create(session->weights, options_.scheduler, observer));
  return absl::OkStatus();
}

absl::StatusOr<LoadedBundle> BundleLoader::Load(const VerifiedBundle& bundle, const Shared& shared,
                                                const std::function<SchedulerObserver*()>& observer,
                                                const std::function<void(VersionState)>& entered,
                                                const Stopping& stopping) const {
  return CatchingMemory([&]() -> absl::StatusOr<LoadedBundle> {
    const repository::Manifest& manifest = *bundle.manifest;
    LoadedBundle loaded;
    loaded.parameters = bundle.parameters;
    loaded.shares_backbone = shared.session != nullptr;
    auto session = std::make_shared<ModelSession>();
    session->model = manifest.model;
    session->version = manifest.version;
    session->end_token = manifest.end_token;
    session->separator_token = manifest.separator_token;
    entered(VersionState::kLoading);
    DS_ASSIGN_OR_RETURN(session->tokenizer, text::MakeTokenizer(manifest.tokenizer));
    if (shared.session != nullptr) {
      session->weights = shared.session->weights;
      session->scheduler = shared.session->scheduler;
    } else {
      DS_RETURN_IF_ERROR(LoadBackbone(bundle, observer(), stopping, session.get()));
    }
    DS_RETURN_IF_ERROR(CheckStopping(stopping));
    if (const repository::Component* component = manifest.Find(kStateDit)) {
      if (SharesStateDit(*component, shared)) {
        session->state_dit = shared.session->state_dit;
      } else {
        DS_ASSIGN_OR_RETURN(session->state_dit, AtLowPriority([&] {
                              return LoadStateDit(*component, *bundle.state_dit,
                                                  session->weights->config);
                            }));
      }
    }

    entered(VersionState::kWarmingUp);
    DS_ASSIGN_OR_RETURN(loaded.tolerance,
                        SelfTestTolerance(manifest.self_test, session->weights->format));
    DS_ASSIGN_OR_RETURN(
        loaded.measured_nll,
        MeasureSelfTest(manifest.self_test, session->weights->config.vocab, *session->scheduler));
    DS_RETURN_IF_ERROR(CheckSelfTest(manifest.self_test, loaded.measured_nll, loaded.tolerance));
    loaded.session = std::move(session);
    return loaded;
  });
}

}  // namespace dreamstate::server
