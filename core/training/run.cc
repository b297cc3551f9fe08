#include "core/training/run.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <future>
#include <limits>
#include <optional>
#include <span>
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
    return DirectoryLock(path, file);
  }
  // Whether the file is still the directory's: whoever comes after it was removed gets another.
  bool Held() const {
    struct stat ours, there;
    return fstat(file_, &ours) == 0 && stat(path_.c_str(), &there) == 0 &&
           ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
  }
  DirectoryLock(DirectoryLock&& other) noexcept
      : path_(std::move(other.path_)), file_(std::exchange(other.file_, -1)) {}
  DirectoryLock& operator=(DirectoryLock&&) = delete;
  ~DirectoryLock() {
    if (file_ >= 0) close(file_);
  }

 private:
  DirectoryLock(std::string path, int file) : path_(std::move(path)), file_(file) {}
  std::string path_;
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
      : run_(run), config_(run.loop), learner_(learner), source_(source), hooks_(hooks) {}

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
      if (lock && !lock->Held()) {
        return absl::FailedPreconditionError(
            StrCat(run_.directory, ": was removed or replaced while the run went on"));
      }
      DS_RETURN_IF_ERROR(OneStep(batches));
      const bool last = step_ == config_.schedule.steps;
      DS_RETURN_IF_ERROR(ValidateWhenDue(last));
      DS_ASSIGN_OR_RETURN(const bool told,
                          learner_.Any(hooks_.stopping != nullptr && hooks_.stopping()));
      const bool stop = told && !last;
      if (last || stop || CheckpointDue()) {
        const absl::Status saved = Checkpoint(last || stop);
        if (last || stop) DS_RETURN_IF_ERROR(saved);
        checkpoint_missing_ = !saved.ok();
        if (!saved.ok()) Trouble(saved);
      }
      PublishWhenDue(last);
      if (stop) return RunOutcome{.step = step_, .finished = false, .published = published_};
    }
    return RunOutcome{.step = step_, .finished = true, .published = published_};
  }

 private:
  absl::Status Begin(bool resume) {
    DS_ASSIGN_OR_RETURN(const std::vector<int64_t> checkpoints, ListCheckpoints(run_.directory));
    const std::string config_path = RunConfigPath(run_.directory);
    const bool begun = !checkpoints.empty() || access(config_path.c_str(), F_OK) == 0;
    if (!resume && run_.writes && begun) {
      return absl::FailedPreconditionError(
          StrCat(run_.directory, ": holds a run already; --resume continues it"));
    }
    if (!checkpoints.empty()) {
      step_ = checkpoints.back();
      if (run_.continues) DS_RETURN_IF_ERROR(run_.continues(run_.directory));
      const auto restored_or = RestoreCheckpoint(run_.directory, step_, learner_);
      if (!restored_or.ok()) return WithOlder(restored_or.status(), checkpoints);
      const RestoredCheckpoint& restored = *restored_or;
      DS_RETURN_IF_ERROR(source_.Restore(restored.position));
      DS_ASSIGN_OR_RETURN(state_,
                          LoopState::From(restored.state, CheckpointPath(run_.directory, step_)));
      position_ = restored.position;
    } else {
      position_ = source_.Save();
    }
    DS_RETURN_IF_ERROR(learner_.Agree(
        "the checkpoint that the run goes on from (--run is one directory that all ranks see)",
        StrCat(step_, " ", position_)));
    if (!run_.writes) return absl::OkStatus();
    DS_RETURN_IF_ERROR(WriteFileAtomically(config_path, run_.config));
    DS_RETURN_IF_ERROR(RemoveTemporaryFiles());
    DS_ASSIGN_OR_RETURN(RunLog log, RunLog::Open(run_.directory, step_));
    log_.emplace(std::move(log));
    Log({{"event", checkpoints.empty() ? "begin" : "resume"},
         {"step", step_},
         {"tokens", state_.tokens},
         {"parameters", learner_.parameters()},
         {"device", learner_.device()}});
    return absl::OkStatus();
  }

  // What a run that was killed left half.
  absl::Status RemoveTemporaryFiles() const {
    DS_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(run_.directory));
    for (const std::string& name : names) {
      const std::string path = StrCat(run_.directory, "/", name);
      if (IsTemporaryName(name) && unlink(path.c_str()) != 0 && errno != ENOENT) {
        return absl::ErrnoToStatus(errno, StrCat("cannot remove ", path));
      }
    }
    return absl::OkStatus();
  }

  // A damaged checkpoint is no dead end.
  absl::Status WithOlder(const absl::Status& status, std::span<const int64_t> checkpoints) const {
    const std::string newest = CheckpointPath(run_.directory, checkpoints.back());
    if (!absl::IsDataLoss(status) && !absl::IsNotFound(status)) return status;
    const std::string way =
        checkpoints.size() == 1
            ? "no older checkpoint is there"
            : StrCat("to go on from ",
                     CheckpointPath(run_.directory, checkpoints[checkpoints.size() - 2]),
                     ", remove ", newest);
    return absl::Status(status.code(), StrCat(StdView(status.message()), "; ", way));
  }

  void Log(const nlohmann::json& line) {
    if (!run_.writes) return;
    const absl::Status appended = log_->Append(line);
    // Once, not at every line.
    if (!appended.ok() && !log_waits_) Trouble(appended);
    log_waits_ = !appended.ok();
  }

  void Trouble(const absl::Status& status) const {
    if (hooks_.on_trouble) hooks_.on_trouble(status);
  }

  // Drawing reads the whole log: a long run draws less often, and always at its end.
  void DrawCurves(bool last) {
    if (!run_.writes) return;
    constexpr double kShare = 0.02;
    if (!last && SecondsSince(drawn_) * kShare < drawing_seconds_) return;
    const auto begin = SteadyClock::now();
    const absl::Status drawn = WriteCurves(run_.directory);
    if (!drawn.ok()) Trouble(drawn);
    drawn_ = SteadyClock::now();
    drawing_seconds_ = SecondsSince(begin);
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
      Log({{"event", "step"},
           {"step", step_},
           {"tokens", state_.tokens},
           {"loss", result.loss},
           {"grad_norm", result.grad_norm},
           {"lr", lr},
           {"seconds", seconds},
           {"data_wait_seconds", waited}});
    }
    if (hooks_.on_step) hooks_.on_step(progress_);
    return absl::OkStatus();
  }

  absl::Status Diverged(const StepResult& result, double mean) {
    Log({{"event", "diverged"},
         {"step", step_ + 1},
         {"loss", result.loss},
         {"grad_norm", result.grad_norm},
         {"smoothed_loss", mean}});
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
    if (scored == 0) {
      return absl::InvalidArgumentError("validation: expected tokens to score, found none");
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
    Log({{"event", "validation"},
         {"step", step_},
         {"tokens", state_.tokens},
         {"loss", validation.loss},
         {"accuracy", validation.accuracy}});
    DrawCurves(last);
    if (hooks_.on_validation) hooks_.on_validation(validation);
    return absl::OkStatus();
  }

  bool CheckpointDue() const {
    const CheckpointConfig& checkpoint = config_.checkpoint;
    if (checkpoint.every_steps > 0 && step_ % checkpoint.every_steps == 0) return true;
    constexpr double kRetrySeconds = 60;
    if (checkpoint_missing_ && SecondsSince(last_checkpoint_) >= kRetrySeconds) return true;
    return checkpoint.every_minutes > 0 &&
           SecondsSince(last_checkpoint_) >= 60 * checkpoint.every_minutes;
  }

  absl::Status Checkpoint(bool last) {
    if (!run_.writes) return absl::OkStatus();
    last_checkpoint_ = SteadyClock::now();  // also of one that fails: it is not tried every step
    DS_RETURN_IF_ERROR(log_->Sync());
    DS_RETURN_IF_ERROR(SaveCheckpoint(run_.directory, step_, learner_, position_, state_.Json()));
    DS_RETURN_IF_ERROR(PruneCheckpoints(run_.directory, config_.checkpoint.keep));
    Log({{"event", "checkpoint"}, {"step", step_}});
    DrawCurves(last);
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
    Log(line);
    published_ = version.status();
    if (hooks_.on_published) hooks_.on_published(step_, version);
  }

  const Run& run_;
  const LoopConfig& config_;
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
  bool log_waits_ = false;           // lines could not be written
  bool checkpoint_missing_ = false;  // the last one that was due could not be written
  absl::Status published_;
  double recent_seconds_ = 0, recent_tokens_ = 0;
  std::optional<RunLog> log_;
  double drawing_seconds_ = 0;
  SteadyClock::time_point drawn_, began_, last_checkpoint_, last_publication_;
};

}  // namespace

std::string RunConfigPath(const std::string& run) { return run + "/config.json"; }

absl::StatusOr<RunOutcome> Train(const Run& run, bool resume, Learner& learner, BatchSource& source,
                                 const RunHooks& hooks) {
  return Loop(run, learner, source, hooks).Go(resume);
}

}  // namespace dreamstate::training
