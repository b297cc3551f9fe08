#include "core/training/run.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <future>
#include <limits>
#include <optional>
#include <utility>

#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/training/checkpoint.h"
#include "core/training/run_log.h"

namespace dreamstate::training {
namespace {

using SteadyClock = std::chrono::steady_clock;

double SecondsSince(SteadyClock::time_point begin) {
  return std::chrono::duration<double>(SteadyClock::now() - begin).count();
}

// Keeps other processes out of a run's directory; the system lets go when the process ends.
class DirectoryLock {
 public:
  static absl::StatusOr<DirectoryLock> Take(const std::string& run) {
    const std::string path = run + "/lock";
    const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0) return absl::ErrnoToStatus(errno, StrCat("cannot open ", path));
    if (flock(file, LOCK_EX | LOCK_NB) != 0) {
      close(file);
      return absl::FailedPreconditionError(StrCat(run, ": another process trains there"));
    }
    return DirectoryLock(file);
  }
  DirectoryLock(DirectoryLock&& other) noexcept : file_(std::exchange(other.file_, -1)) {}
  DirectoryLock& operator=(DirectoryLock&&) = delete;
  ~DirectoryLock() {
    if (file_ >= 0) close(file_);
  }

 private:
  explicit DirectoryLock(int file) : file_(file) {}
  int file_;
};

// Prepares the next batch while the learner works on one.
class Prefetcher {
 public:
  struct Item {
    absl::StatusOr<Batch> batch;
    std::string position;  // behind the batch
  };
  explicit Prefetcher(BatchSource& source) : source_(source) { Start(); }
  ~Prefetcher() {
    if (next_.valid()) next_.wait();
  }
  Item Take() {
    Item item = next_.get();
    Start();
    return item;
  }

 private:
  void Start() {
    next_ = std::async(std::launch::async, [this] {
      absl::StatusOr<Batch> batch = source_.Next();
      return Item{std::move(batch), source_.Save()};
    });
  }
  BatchSource& source_;
  std::future<Item> next_;
};

// What the loop itself remembers over a restart.
struct LoopState {
  int64_t tokens = 0;
  double smoothed = 0, weight = 0;  // loss = smoothed / weight
  double best_validation = std::numeric_limits<double>::infinity();
  double seconds = 0;  // of training, all processes together

  nlohmann::json Json() const {
    return {{"tokens", tokens},
            {"smoothed", smoothed},
            {"weight", weight},
            {"best_validation",
             std::isfinite(best_validation) ? nlohmann::json(best_validation) : nlohmann::json()},
            {"seconds", seconds}};
  }
  static absl::StatusOr<LoopState> From(const nlohmann::json& json, const std::string& path) {
    LoopState state;
    try {
      state.tokens = json.at("tokens").get<int64_t>();
      state.smoothed = json.at("smoothed").get<double>();
      state.weight = json.at("weight").get<double>();
      state.seconds = json.at("seconds").get<double>();
      if (!json.at("best_validation").is_null()) {
        state.best_validation = json.at("best_validation").get<double>();
      }
    } catch (const nlohmann::json::exception&) {
      return absl::DataLossError(StrCat(path, ": expected what a checkpoint holds"));
    }
    return state;
  }
};

constexpr double kSmoothing = 0.98;
// A young average follows every batch: nothing is called a jump before so many steps.
constexpr int64_t kCalmSteps = 20;

class Loop {
 public:
  Loop(const Run& run, Learner& learner, BatchSource& source, const RunHooks& hooks)
      : run_(run), config_(run.config), learner_(learner), source_(source), hooks_(hooks) {}

  absl::StatusOr<RunOutcome> Go(bool resume) {
    std::optional<DirectoryLock> lock;
    if (run_.writes) {
      DS_RETURN_IF_ERROR(MakeDirectories(run_.directory));
      DS_ASSIGN_OR_RETURN(DirectoryLock taken, DirectoryLock::Take(run_.directory));
      lock.emplace(std::move(taken));
    }
    DS_RETURN_IF_ERROR(Begin(resume));
    Prefetcher batches(source_);
    last_checkpoint_ = last_publication_ = began_ = SteadyClock::now();
    while (step_ < config_.schedule.steps) {
      DS_RETURN_IF_ERROR(OneStep(batches));
      const bool last = step_ == config_.schedule.steps;
      DS_RETURN_IF_ERROR(ValidateWhenDue(last));
      DS_ASSIGN_OR_RETURN(const bool told,
                          learner_.Any(hooks_.stopping != nullptr && hooks_.stopping()));
      const bool stop = told && !last;
      if (last || stop || CheckpointDue()) DS_RETURN_IF_ERROR(Checkpoint());
      PublishWhenDue(last);
      if (stop) return RunOutcome{.step = step_, .finished = false};
    }
    return RunOutcome{.step = step_, .finished = true};
  }

 private:
  absl::Status Begin(bool resume) {
    DS_ASSIGN_OR_RETURN(const std::vector<int64_t> checkpoints, ListCheckpoints(run_.directory));
    if (!resume && run_.writes && access((run_.directory + "/config.json").c_str(), F_OK) == 0) {
      return absl::FailedPreconditionError(
          StrCat(run_.directory, ": holds a run already; --resume continues it"));
    }
    if (!checkpoints.empty()) {
      step_ = checkpoints.back();
      DS_ASSIGN_OR_RETURN(const RestoredCheckpoint restored,
                          RestoreCheckpoint(run_.directory, step_, learner_));
      DS_RETURN_IF_ERROR(source_.Restore(restored.position));
      DS_ASSIGN_OR_RETURN(state_,
                          LoopState::From(restored.state, CheckpointPath(run_.directory, step_)));
      position_ = restored.position;
    } else {
      position_ = source_.Save();
    }
    if (!run_.writes) return absl::OkStatus();
    DS_RETURN_IF_ERROR(
        WriteFileAtomically(run_.directory + "/config.json", SerializeRunConfig(config_)));
    DS_ASSIGN_OR_RETURN(RunLog log, RunLog::Open(run_.directory, step_));
    log_.emplace(std::move(log));
    return Log({{"event", checkpoints.empty() ? "begin" : "resume"},
                {"step", step_},
                {"tokens", state_.tokens},
                {"parameters", learner_.parameters()},
                {"device", learner_.device()}});
  }

  absl::Status Log(const nlohmann::json& line) {
    return run_.writes ? log_->Append(line) : absl::OkStatus();
  }

  absl::Status OneStep(Prefetcher& batches) {
    const auto begin = SteadyClock::now();
    Prefetcher::Item item = batches.Take();
    if (!item.batch.ok()) return item.batch.status();
    const double waited = SecondsSince(begin);
    progress_.data_wait_seconds += waited;
    const double lr = LearningRate(config_.schedule, step_);
    DS_ASSIGN_OR_RETURN(const StepResult result, learner_.Step(*item.batch, lr));
    const double seconds = SecondsSince(begin);
    const double mean = state_.weight > 0 ? state_.smoothed / state_.weight : result.loss;
    const bool finite = std::isfinite(result.loss) && std::isfinite(result.grad_norm);
    if (!finite || (step_ >= kCalmSteps && config_.divergence_nats > 0 &&
                    result.loss > mean + config_.divergence_nats)) {
      return Diverged(result, mean);
    }
    ++step_;
    position_ = std::move(item.position);
    state_.tokens += result.tokens;
    state_.smoothed = kSmoothing * state_.smoothed + (1 - kSmoothing) * result.loss;
    state_.weight = kSmoothing * state_.weight + (1 - kSmoothing);
    state_.seconds += seconds;
    constexpr double kRecent = 0.9;
    recent_seconds_ = kRecent * recent_seconds_ + seconds;
    recent_tokens_ = kRecent * recent_tokens_ + static_cast<double>(result.tokens);
    progress_.step = step_;
    progress_.steps = config_.schedule.steps;
    progress_.tokens = state_.tokens;
    progress_.last = result;
    progress_.smoothed_loss = state_.smoothed / state_.weight;
    progress_.lr = lr;
    progress_.tokens_per_second = recent_tokens_ / recent_seconds_;
    const double per_step = SecondsSince(began_) / static_cast<double>(++steps_here_);
    progress_.seconds_left = per_step * static_cast<double>(config_.schedule.steps - step_);
    if (step_ % config_.log_every_steps == 0 || step_ == config_.schedule.steps) {
      DS_RETURN_IF_ERROR(Log({{"event", "step"},
                              {"step", step_},
                              {"tokens", state_.tokens},
                              {"loss", result.loss},
                              {"grad_norm", result.grad_norm},
                              {"lr", lr},
                              {"seconds", seconds},
                              {"data_wait_seconds", waited}}));
    }
    if (hooks_.on_step) hooks_.on_step(progress_);
    return absl::OkStatus();
  }

  absl::Status Diverged(const StepResult& result, double mean) {
    const absl::Status logged = Log({{"event", "diverged"},
                                     {"step", step_ + 1},
                                     {"loss", result.loss},
                                     {"grad_norm", result.grad_norm},
                                     {"smoothed_loss", mean}});
    DS_RETURN_IF_ERROR(logged);
    DS_ASSIGN_OR_RETURN(const std::vector<int64_t> checkpoints, ListCheckpoints(run_.directory));
    return absl::DataLossError(
        StrCat("the run diverged at step ", step_ + 1, ": loss ", result.loss, " after ", mean,
               ", gradient norm ", result.grad_norm, "; ",
               checkpoints.empty() ? std::string("no checkpoint was written yet")
                                   : StrCat("the last good checkpoint is ",
                                            CheckpointPath(run_.directory, checkpoints.back()))));
  }

  absl::Status ValidateWhenDue(bool last) {
    const int64_t every = config_.validation.every_steps;
    if (run_.validation.empty() || every == 0 || (step_ % every != 0 && !last)) {
      return absl::OkStatus();
    }
    Validation validation = {.step = step_};
    double nll = 0;
    int64_t scored = 0, correct = 0;
    std::vector<double> label_nll(run_.labels, 0), label_scored(run_.labels, 0);
    for (const Batch& batch : run_.validation) {
      DS_ASSIGN_OR_RETURN(const EvaluationResult result, learner_.Evaluate(batch));
      nll += result.nll;
      scored += result.scored;
      correct += result.correct;
      for (int row = 0; row < batch.rows; ++row) {
        const int32_t label = batch.row[row].label;
        if (label < 0 || label >= run_.labels) continue;
        label_nll[label] += result.row_nll[row];
        label_scored[label] += static_cast<double>(result.row_scored[row]);
      }
    }
    validation.loss = nll / static_cast<double>(scored);
    validation.accuracy = static_cast<double>(correct) / static_cast<double>(scored);
    int with_rows = 0;
    double sum = 0;
    for (int label = 0; label < run_.labels; ++label) {
      validation.label_loss.push_back(label_nll[label] / label_scored[label]);
      if (label_scored[label] == 0) continue;
      sum += validation.label_loss.back();
      ++with_rows;
    }
    if (with_rows > 0) validation.loss = sum / with_rows;
    improved_ = validation.loss < state_.best_validation;
    state_.best_validation = std::min(state_.best_validation, validation.loss);
    metrics_ = {{"validation_loss", validation.loss}, {"validation_accuracy", validation.accuracy}};
    DS_RETURN_IF_ERROR(Log({{"event", "validation"},
                            {"step", step_},
                            {"tokens", state_.tokens},
                            {"loss", validation.loss},
                            {"accuracy", validation.accuracy}}));
    if (run_.writes) DS_RETURN_IF_ERROR(WriteCurves(run_.directory));
    if (hooks_.on_validation) hooks_.on_validation(validation);
    return absl::OkStatus();
  }

  bool CheckpointDue() const {
    const CheckpointConfig& checkpoint = config_.checkpoint;
    if (checkpoint.every_steps > 0 && step_ % checkpoint.every_steps == 0) return true;
    return checkpoint.every_minutes > 0 &&
           SecondsSince(last_checkpoint_) >= 60 * checkpoint.every_minutes;
  }

  absl::Status Checkpoint() {
    if (!run_.writes) return absl::OkStatus();
    DS_RETURN_IF_ERROR(log_->Sync());
    DS_RETURN_IF_ERROR(SaveCheckpoint(run_.directory, step_, learner_, position_, state_.Json()));
    DS_RETURN_IF_ERROR(PruneCheckpoints(run_.directory, config_.checkpoint.keep));
    last_checkpoint_ = SteadyClock::now();
    DS_RETURN_IF_ERROR(Log({{"event", "checkpoint"}, {"step", step_}}));
    DS_RETURN_IF_ERROR(WriteCurves(run_.directory));
    if (hooks_.on_checkpoint) {
      hooks_.on_checkpoint(step_, CheckpointPath(run_.directory, step_));
    }
    return absl::OkStatus();
  }

  // A publication that fails ends no run: the next one may succeed.
  void PublishWhenDue(bool last) {
    const PublishConfig& publish = config_.publish;
    const bool by_time =
        publish.every_minutes > 0 && SecondsSince(last_publication_) >= 60 * publish.every_minutes;
    const bool due = by_time || (publish.on_improvement && std::exchange(improved_, false)) ||
                     (last && publish.at_end);
    if (!run_.writes || !hooks_.publish || publish.repository.empty() || !due) return;
    nlohmann::json metrics = metrics_;
    metrics["training_loss"] = progress_.smoothed_loss;
    metrics["tokens"] = state_.tokens;
    metrics["training_seconds"] = std::round(state_.seconds);
    const absl::StatusOr<int64_t> version = hooks_.publish(learner_, step_, metrics);
    last_publication_ = SteadyClock::now();
    nlohmann::json line = {{"event", "publish"}, {"step", step_}};
    if (version.ok()) {
      line["version"] = *version;
    } else {
      line["error"] = std::string(version.status().message());
    }
    const absl::Status logged = Log(line);
    if (hooks_.on_published) {
      hooks_.on_published(step_, version.ok() && !logged.ok() ? logged : version);
    }
  }

  const Run& run_;
  const RunConfig& config_;
  Learner& learner_;
  BatchSource& source_;
  const RunHooks& hooks_;
  int64_t step_ = 0;
  int64_t steps_here_ = 0;
  LoopState state_;
  RunProgress progress_;
  std::string position_;
  nlohmann::json metrics_ = nlohmann::json::object();
  bool improved_ = false;
  double recent_seconds_ = 0, recent_tokens_ = 0;
  std::optional<RunLog> log_;
  SteadyClock::time_point began_, last_checkpoint_, last_publication_;
};

}  // namespace

absl::StatusOr<RunOutcome> Train(const Run& run, bool resume, Learner& learner, BatchSource& source,
                                 const RunHooks& hooks) {
  return Loop(run, learner, source, hooks).Go(resume);
}

}  // namespace dreamstate::training
