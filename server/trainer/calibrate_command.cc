#include <iostream>
#include <memory>
#include <string>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/repository.h"
#include "core/training/state_dit_gate.h"
#include "server/trainer/command.h"
#include "server/trainer/publish_state_dit.h"

namespace dreamstate::trainer {
namespace {

constexpr char kExamples[] = R"(Examples:
  dreamstate-trainer calibrate --repository models --model mine --states states
Publishes the model's newest version again, its state DiT with a safety gate that is fitted on the
data set's validation states. A state DiT that `state-dit` publishes has one already.
Exit codes: 0 done, 1 failed, 2 wrong usage.)";

struct Arguments {
  std::string repository, model, states;
};

absl::Status Calibrate(const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const training::StateDataset dataset,
                      training::StateDataset::Open(arguments.states));
  DS_ASSIGN_OR_RETURN(const repository::Manifest manifest,
                      FindBackbone(arguments.repository, arguments.model, dataset.info().backbone));
  const repository::Component* const component = manifest.Find("state_dit");
  if (component == nullptr) {
    return absl::FailedPreconditionError(StrCat("model ", arguments.model, " version ",
                                                manifest.version,
                                                ": expected a state DiT, found none"));
  }
  DS_ASSIGN_OR_RETURN(const auto repository, repository::Repository::Open(arguments.repository));
  DS_ASSIGN_OR_RETURN(const tensors::TensorSet set,
                      repository->LoadComponent(manifest, "state_dit"));
  DS_ASSIGN_OR_RETURN(const tensors::TensorSet gated, training::WithSafetyGate(set, dataset));
  if (gated.Find("safety.norm") == nullptr) {
    return absl::FailedPreconditionError(
        StrCat(arguments.states, ": expected at least 50 validation states of trained labels"));
  }
  const nlohmann::json metrics = manifest.metrics.value("state_dit", nlohmann::json::object());
  DS_ASSIGN_OR_RETURN(
      const int64_t version,
      PublishStateDit(gated,
                      {.repository = arguments.repository,
                       .model = arguments.model,
                       .backbone = dataset.info().backbone,
                       .labels = component->config.value("labels", std::vector<std::string>()),
                       .taps = component->config.value("taps", std::vector<int>()),
                       .metrics = metrics,
                       .step = metrics.value("step", int64_t{0})}));
  std::cout << "published " << arguments.model << " version " << version << "\n";
  return absl::OkStatus();
}

}  // namespace

Command MakeCalibrateCommand(CLI::App& app) {
  const auto a = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("calibrate", "Give a published state DiT its safety gate");
  command->footer(kExamples);
  command->add_option("--repository", a->repository, "The model repository")->required();
  command->add_option("--model", a->model, "The model's name in it")->required();
  command->add_option("--states", a->states, "A data set that `harvest` made")->required();
  return {.app = command, .run = [a] { return Calibrate(*a); }};
}

}  // namespace dreamstate::trainer
