#include "server/trainer/training_session.h"

#include <atomic>
#include <csignal>

#include "absl/strings/str_format.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/trainer/training_metrics.h"

namespace dreamstate::trainer {
namespace {

std::atomic<bool> g_stop = false;
void Stop(int) { g_stop = true; }

}  // namespace

std::string TrainingSession::DescribeTokens(const training::Validation& validation) {
  return absl::StrFormat("%.4f nats a token, %.2f %% right", validation.loss,
                         100 * validation.accuracy);
}

void IgnoreBrokenPipes() { std::signal(SIGPIPE, SIG_IGN); }

absl::Status RunTraining(const training::Run& run, training::Learner& learner,
                         training::BatchSource& source, const TrainingSession& session,
                         TrainingDisplay& display) {
  TrainingMetrics metrics;
  if (run.writes && !session.admin_address.empty()) {
    DS_RETURN_IF_ERROR(metrics.Listen(session.admin_address));
  }
  training::RunHooks hooks;
  hooks.on_step = [&](const training::RunProgress& progress) {
    metrics.OnStep(progress);
    display.Step(progress);
  };
  hooks.on_validation = [&](const training::Validation& validation) {
    metrics.OnValidation(validation);
    display.Note(
        StrCat("validation at step ", validation.step, ": ", session.describe(validation)));
  };
  hooks.on_checkpoint = [&](int64_t step, const std::string& path) {
    metrics.OnCheckpoint(step);
    display.Note("checkpoint " + path);
  };
  hooks.publish = session.publish;
  hooks.on_published = [&](int64_t step, const absl::StatusOr<int64_t>& version) {
    metrics.OnPublished(version);
    display.Note(version.ok() ? StrCat("published ", run.loop.publish.model, " version ", *version,
                                       " at step ", step)
                              : StrCat("publishing failed at step ", step, ": ",
                                       StdView(version.status().message())));
  };
  hooks.on_trouble = [&](const absl::Status& status) {
    display.Note(StrCat("warning: ", StdView(status.message())));
  };
  hooks.stopping = [] { return g_stop.load(); };
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    // What nohup, or a shell in the background, had us ignore stays ignored.
    if (std::signal(signal, Stop) == SIG_IGN) std::signal(signal, SIG_IGN);
  }
  DS_ASSIGN_OR_RETURN(const training::RunOutcome outcome,
                      training::Train(run, session.resume, learner, source, hooks));
  display.Note(outcome.finished
                   ? StrCat("done: ", outcome.step, " steps, see ", run.directory)
                   : StrCat("stopped at step ", outcome.step, "; --resume goes on from there"));
  // A run that was stopped has another chance.
  if (!outcome.finished) return absl::OkStatus();
  return WithPrefix("the last publication failed", outcome.published);
}

}  // namespace dreamstate::trainer
