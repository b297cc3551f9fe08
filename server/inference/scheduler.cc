#include "server/inference/scheduler.h"

#include <algorithm>
#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/mutex.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/rwkv/engine.h"
#include "kernels/runtime/thread_pool.h"

namespace dreamstate::server {
namespace {

constexpr int kMaxSlots = 4096;
// How long the loop or a drain sleeps at most before it looks at the clock again: with an injected
// clock nothing else would tell it that time has passed.
constexpr absl::Duration kLongestWait = absl::Milliseconds(250);
constexpr absl::Duration kShortestWait = absl::Milliseconds(1);

SchedulerObserver& Nobody() {
  static SchedulerObserver nobody;
  return nobody;
}

absl::Status Range(std::string_view option, int64_t found, int64_t low, int64_t high) {
  if (found >= low && found <= high) return absl::OkStatus();
  return FieldError(option, StrCat("expected ", low, " to ", high, ", found ", found));
}

absl::Status Validate(const SchedulerOptions& options) {
  DS_RETURN_IF_ERROR(Range("threads", options.threads, 1, 1024));
  DS_RETURN_IF_ERROR(Range("slots", options.slots, 1, kMaxSlots));
  DS_RETURN_IF_ERROR(Range("max_step_tokens", options.max_step_tokens, options.slots, 1 << 16));
  DS_RETURN_IF_ERROR(Range("max_waiting", options.max_waiting, 1, 1 << 20));
  DS_RETURN_IF_ERROR(Range("max_waiting_bulk", options.max_waiting_bulk, 1, 1 << 20));
  return Range("max_bulk_slots", options.max_bulk_slots, 0, options.slots);
}

// What passes between the loop and everybody else. Outlives the scheduler as long as a waker does.
class Mailbox final : public Waker {
 public:
  struct Mail {
    std::deque<std::shared_ptr<Job>> jobs;
    std::vector<SchedulerSnapshot*> snapshots;  // wanted
    bool draining = false;
    bool stopping = false;
  };

  explicit Mailbox(const SchedulerOptions& options) : options_(options) {}

  absl::Status Submit(std::shared_ptr<Job> job) {
    MutexLock lock(mutex_);
    if (stopping_ || draining_) {
      return UnavailableError("the server is shutting down", options_.retry_after);
    }
    const bool bulk = job->job_class() == JobClass::kBulk;
    int& waiting = bulk ? waiting_bulk_ : waiting_;
    const int limit = bulk ? options_.max_waiting_bulk : options_.max_waiting;
    if (waiting >= limit) {
      return QuotaError(bulk ? "documents waiting" : "requests waiting",
                        StrCat(limit, " wait already"), options_.retry_after);
    }
    ++waiting;
    jobs_.push_back(std::move(job));
    woken_ = true;
    changed_.NotifyAll();
    return absl::OkStatus();
  }

  void Wake() override {
    MutexLock lock(mutex_);
    woken_ = true;
    changed_.NotifyAll();
  }

  void BeginDrain() {
    MutexLock lock(mutex_);
    draining_ = woken_ = true;
    changed_.NotifyAll();
  }

  void BeginStop() {
    MutexLock lock(mutex_);
    stopping_ = draining_ = woken_ = true;
    changed_.NotifyAll();
  }

  // Waits until nothing runs or waits, the loop stops, or `timeout` has passed. True when nothing
  // runs or waits.
  bool WaitUntilIdle(absl::Duration timeout, bool* stopping) {
    MutexLock lock(mutex_);
    if (!Idle() && !stopping_) changed_.WaitFor(mutex_, timeout);
    *stopping = stopping_;
    return Idle();
  }

  // False once the loop has ended: then nobody will fill it.
  bool AskForSnapshot(SchedulerSnapshot* snapshot) {
    MutexLock lock(mutex_);
    if (ended_) return false;
    snapshots_.push_back(snapshot);
    woken_ = true;
    changed_.NotifyAll();
    const uint64_t mine = ++snapshots_asked_;
    while (snapshots_filled_ < mine) changed_.Wait(mutex_);
    return true;
  }

  // For the loop. Sleeps first, at most `timeout`, unless woken since the last call.
  void Take(absl::Duration timeout, Mail* mail) {
    MutexLock lock(mutex_);
    if (timeout == absl::InfiniteDuration()) {
      while (!woken_) changed_.Wait(mutex_);
    } else if (!woken_ && timeout > absl::ZeroDuration()) {
      changed_.WaitFor(mutex_, timeout);
    }
    woken_ = false;
    mail->jobs.swap(jobs_);
    mail->snapshots.swap(snapshots_);
    mail->draining = draining_;
    mail->stopping = stopping_;
  }

  void SnapshotsFilled(size_t number) {
    MutexLock lock(mutex_);
    snapshots_filled_ += number;
    changed_.NotifyAll();
  }

  void LeftTheLine(JobClass job_class) {
    MutexLock lock(mutex_);
    --(job_class == JobClass::kBulk ? waiting_bulk_ : waiting_);
  }

  void SetRunning(int running) {
    MutexLock lock(mutex_);
    running_ = running;
    if (Idle()) changed_.NotifyAll();
  }

  // The loop's last word; what was submitted meanwhile is handed over.
  void End(Mail* mail) {
    MutexLock lock(mutex_);
    ended_ = true;
    mail->jobs.swap(jobs_);
    mail->snapshots.swap(snapshots_);
  }

 private:
  bool Idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return running_ == 0 && waiting_ == 0 && waiting_bulk_ == 0;
  }

  const SchedulerOptions options_;
  Mutex mutex_;
  ConditionVariable changed_;
  std::deque<std::shared_ptr<Job>> jobs_ ABSL_GUARDED_BY(mutex_);
  std::vector<SchedulerSnapshot*> snapshots_ ABSL_GUARDED_BY(mutex_);
  uint64_t snapshots_asked_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t snapshots_filled_ ABSL_GUARDED_BY(mutex_) = 0;
  int waiting_ ABSL_GUARDED_BY(mutex_) = 0;  // in jobs_ and in the loop's line
  int waiting_bulk_ ABSL_GUARDED_BY(mutex_) = 0;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

void WorkList::Add(int tag, WorkKind kind, int64_t tokens) {
  entries_.push_back({job_, tag});
  offers_.push_back({kind, tokens});
}

// Everything but the mailbox and the thread belongs to the loop.
struct Scheduler::Impl {
  // A job with its place in the line, and what it works with once it runs.
  struct Member final : JobContext {
    Impl* loop;
    std::shared_ptr<Job> job;
    uint64_t number;
    std::vector<int> held;
    bool ended = false;

    rwkv::Engine& engine() override { return loop->engine; }
    SchedulerObserver& observer() override { return *loop->observer; }
    absl::Time now() const override { return loop->clock.Now(); }
    std::span<const int> slots() const override { return held; }
    void ReleaseSlot(int slot) override {
      if (std::erase(held, slot) > 0) loop->free_slots.push_back(slot);
    }
    std::span<float> logits(int slot) override {
      const size_t vocab = static_cast<size_t>(loop->engine.config().vocab);
      return std::span(loop->logits_rows).subspan(static_cast<size_t>(slot) * vocab, vocab);
    }
    std::span<float> last_hidden(int slot) override {
      const size_t width = static_cast<size_t>(loop->engine.config().width);
      return std::span(loop->hidden_rows).subspan(static_cast<size_t>(slot) * width, width);
    }
  };

  Impl(std::shared_ptr<const rwkv::Weights> weights, const SchedulerOptions& given,
       SchedulerObserver* listener, const Clock& time)
      : options(given),
        observer(listener == nullptr ? &Nobody() : listener),
        clock(time),
        pool(given.threads),
        engine(std::move(weights),
               {.max_tokens = given.max_step_tokens,
                .max_sequences = given.slots,
                .slots = given.slots},
               pool),
        logits_rows(static_cast<size_t>(given.slots) * static_cast<size_t>(engine.config().vocab)),
        hidden_rows(static_cast<size_t>(given.slots) * static_cast<size_t>(engine.config().width)),
        mailbox(std::make_shared<Mailbox>(given)) {
    for (int slot = given.slots - 1; slot >= 0; --slot) free_slots.push_back(slot);
  }

  void Loop();
  absl::Status EndReason(const Job& job, absl::Time now) const;
  void End(Member& member, const absl::Status& status);
  bool SweepWaiting(absl::Time now);
  bool AdmitWaiting(absl::Time now);
  bool SweepRunning(absl::Time now);
  void CollectWork();
  void Step();
  absl::Duration TimeToNextAlarm() const;
  SchedulerSnapshot Picture() const;
  void Answer(Mailbox::Mail* mail);
  void ReportLoad();

  const SchedulerOptions options;
  SchedulerObserver* const observer;
  const Clock& clock;
  kernels::ThreadPool pool;
  rwkv::Engine engine;
  std::vector<float> logits_rows;  // [slots][V]
  std::vector<float> hidden_rows;  // [slots][D]
  const std::shared_ptr<Mailbox> mailbox;
  std::thread thread;
  std::thread::id thread_id;
  Mutex join_mutex;  // of those who wait for the thread

  bool draining = false;
  uint64_t next_number = 1;
  uint64_t steps = 0;
  std::vector<int> free_slots;
  std::deque<std::unique_ptr<Member>> waiting;
  std::vector<std::unique_ptr<Member>> running;
  int reported_waiting = -1, reported_running = -1, reported_free = -1;
  // Of one step; kept so that a steady step allocates nothing.
  WorkList work;
  std::vector<int> counts;
  std::vector<rwkv::Segment> segments;
};

absl::Status Scheduler::Impl::EndReason(const Job& job, absl::Time now) const {
  // The deadline first: gRPC reports a call that is late as cancelled, too.
  if (now >= job.deadline()) return absl::DeadlineExceededError("the deadline passed");
  if (job.cancelled()) return absl::CancelledError("the caller is gone");
  if (absl::Status end = job.version_end(); !end.ok()) return end;
  return job.failure();
}

// The job is told and its slots are taken back; whoever holds the member removes it.
void Scheduler::Impl::End(Member& member, const absl::Status& status) {
  member.job->End(status);
  free_slots.insert(free_slots.end(), member.held.begin(), member.held.end());
  member.held.clear();
  member.ended = true;
}

bool Scheduler::Impl::SweepWaiting(absl::Time now) {
  const size_t before = waiting.size();
  for (const std::unique_ptr<Member>& member : waiting) {
    absl::Status reason = EndReason(*member->job, now);
    if (reason.ok() && draining) {
      reason = UnavailableError("the server is shutting down", options.retry_after);
    }
    if (reason.ok()) continue;
    End(*member, reason);
    mailbox->LeftTheLine(member->job->job_class());
  }
  std::erase_if(waiting, [](const auto& member) { return member->ended; });
  return waiting.size() != before;
}

bool Scheduler::Impl::AdmitWaiting(absl::Time now) {
  if (waiting.empty()) return false;
  const std::vector<size_t> admitted = Admit(Picture());
  for (const size_t i : admitted) {
    std::unique_ptr<Member>& member = waiting[i];
    const int wanted = member->job->slots_wanted();
    for (int k = 0; k < wanted; ++k) {
      member->held.push_back(free_slots.back());
      free_slots.pop_back();
    }
    running.push_back(std::move(member));
    mailbox->SetRunning(static_cast<int>(running.size()));
    Member& started = *running.back();
    mailbox->LeftTheLine(started.job->job_class());
    observer->OnAdmitted(started.job->kind(), now - started.job->arrival());
    started.job->Start(started);
  }
  std::erase_if(waiting, [](const auto& member) { return member == nullptr; });
  return !admitted.empty();
}

bool Scheduler::Impl::SweepRunning(absl::Time now) {
  const size_t before = running.size();
  for (const std::unique_ptr<Member>& member : running) {
    member->job->Poll();
    const absl::Status reason = EndReason(*member->job, now);
    if (!reason.ok() || member->job->done()) End(*member, reason);
  }
  std::erase_if(running, [](const auto& member) { return member->ended; });
  if (running.size() == before) return false;
  mailbox->SetRunning(static_cast<int>(running.size()));
  return true;
}

void Scheduler::Impl::CollectWork() {
  work.entries_.clear();
  work.offers_.clear();
  for (const std::unique_ptr<Member>& member : running) {
    work.job_ = member->job.get();
    member->job->Offer(work);
  }
}

void Scheduler::Impl::Step() {
  const absl::Time start = clock.Now();
  const size_t offers = work.offers_.size();
  counts.resize(offers);
  PlanStep(work.offers_, {options.max_step_tokens, options.slots}, steps++, counts);
  segments.clear();
  StepReport report;
  for (size_t i = 0; i < offers; ++i) {
    if (counts[i] == 0) continue;
    segments.emplace_back();
    work.entries_[i].job->Fill(work.entries_[i].tag, counts[i], &segments.back());
    (work.offers_[i].kind == WorkKind::kDecode ? report.decode_tokens : report.prefill_tokens) +=
        counts[i];
  }
  report.sequences = static_cast<int>(segments.size());
  if (const absl::Status status = engine.Forward(segments); !status.ok()) {
    // Requests are checked before they become jobs, so this is our bug: end what was in the batch,
    // go on with the rest.
    const absl::Status reason = absl::InternalError(StrCat("forward: ", status.ToString()));
    for (size_t i = 0; i < offers; ++i) {
      if (counts[i] == 0) continue;
      for (const std::unique_ptr<Member>& member : running) {
        if (member->job.get() == work.entries_[i].job && !member->ended) End(*member, reason);
      }
    }
    std::erase_if(running, [](const auto& member) { return member->ended; });
    mailbox->SetRunning(static_cast<int>(running.size()));
    return;
  }
  for (size_t i = 0; i < offers; ++i) {
    if (counts[i] > 0) work.entries_[i].job->Read(work.entries_[i].tag, counts[i]);
  }
  report.duration = clock.Now() - start;
  observer->OnStep(report);
}

absl::Duration Scheduler::Impl::TimeToNextAlarm() const {
  if (waiting.empty() && running.empty()) return absl::InfiniteDuration();
  absl::Time next = absl::InfiniteFuture();
  for (const std::unique_ptr<Member>& member : waiting) {
    next = std::min(next, member->job->deadline());
  }
  for (const std::unique_ptr<Member>& member : running) {
    next = std::min({next, member->job->deadline(), member->job->alarm()});
  }
  return std::clamp(next - clock.Now(), kShortestWait, kLongestWait);
}

SchedulerSnapshot Scheduler::Impl::Picture() const {
  SchedulerSnapshot snapshot;
  snapshot.slots = options.slots;
  snapshot.max_bulk_slots = options.max_bulk_slots;
  snapshot.max_waiting = options.max_waiting;
  snapshot.max_waiting_bulk = options.max_waiting_bulk;
  snapshot.draining = draining;
  snapshot.free_slots = free_slots;
  for (const std::unique_ptr<Member>& member : waiting) {
    snapshot.waiting.push_back(
        {member->number, member->job->job_class(), member->job->slots_wanted()});
  }
  for (const std::unique_ptr<Member>& member : running) {
    snapshot.running.push_back({member->number, member->job->job_class(), member->held});
  }
  return snapshot;
}

void Scheduler::Impl::Answer(Mailbox::Mail* mail) {
  for (SchedulerSnapshot* wanted : mail->snapshots) *wanted = Picture();
  if (!mail->snapshots.empty()) mailbox->SnapshotsFilled(mail->snapshots.size());
  mail->snapshots.clear();
}

void Scheduler::Impl::ReportLoad() {
  const int now_waiting = static_cast<int>(waiting.size());
  const int now_running = static_cast<int>(running.size());
  const int now_free = static_cast<int>(free_slots.size());
  if (now_waiting == reported_waiting && now_running == reported_running &&
      now_free == reported_free) {
    return;
  }
  reported_waiting = now_waiting;
  reported_running = now_running;
  reported_free = now_free;
  observer->OnLoad(now_waiting, now_running, options.slots - now_free, options.slots);
}

void Scheduler::Impl::Loop() {
  Mailbox::Mail mail;
  absl::Duration nap = absl::ZeroDuration();
  while (true) {
    mailbox->Take(nap, &mail);
    draining = mail.draining;
    for (std::shared_ptr<Job>& job : mail.jobs) {
      auto member = std::make_unique<Member>();
      member->loop = this;
      member->job = std::move(job);
      member->number = next_number++;
      waiting.push_back(std::move(member));
    }
    mail.jobs.clear();
    Answer(&mail);
    if (mail.stopping) break;

    const absl::Time now = clock.Now();
    bool changed = SweepWaiting(now);
    changed |= AdmitWaiting(now);
    changed |= SweepRunning(now);
    CollectWork();
    ReportLoad();
    if (!work.offers_.empty()) {
      Step();
      changed = true;
    }
    nap = changed ? absl::ZeroDuration() : TimeToNextAlarm();
  }

  const absl::Status reason = UnavailableError("the server is shutting down", options.retry_after);
  mailbox->End(&mail);
  for (const std::unique_ptr<Member>& member : running) End(*member, reason);
  for (const std::unique_ptr<Member>& member : waiting) {
    End(*member, reason);
    mailbox->LeftTheLine(member->job->job_class());
  }
  for (const std::shared_ptr<Job>& job : mail.jobs) {
    job->End(reason);
    mailbox->LeftTheLine(job->job_class());
  }
  running.clear();
  waiting.clear();
  mail.jobs.clear();
  Answer(&mail);
  observer->OnLoad(0, 0, 0, 0);  // its slots are gone, too
  mailbox->SetRunning(0);
}

absl::StatusOr<std::shared_ptr<Scheduler>> Scheduler::Create(
    std::shared_ptr<const rwkv::Weights> weights, const SchedulerOptions& options,
    SchedulerObserver* observer, const Clock& clock) {
  DS_RETURN_IF_ERROR(Validate(options));
  SchedulerOptions effective = options;
  if (effective.max_bulk_slots == 0) effective.max_bulk_slots = std::max(1, effective.slots / 2);
  auto impl = std::make_shared<Impl>(std::move(weights), effective, observer, clock);
  std::string numerics = impl->engine.numerics();
  impl->thread = std::thread([impl] { impl->Loop(); });
  impl->thread_id = impl->thread.get_id();
  return std::shared_ptr<Scheduler>(new Scheduler(std::move(impl), effective, std::move(numerics)));
}

Scheduler::Scheduler(std::shared_ptr<Impl> impl, const SchedulerOptions& options,
                     std::string numerics)
    : options_(options), numerics_(std::move(numerics)), impl_(std::move(impl)) {}

Scheduler::~Scheduler() { Stop(); }

absl::Status Scheduler::Submit(std::shared_ptr<Job> job) {
  const bool bulk = job->job_class() == JobClass::kBulk;
  const int most = bulk ? options_.max_bulk_slots : options_.slots;
  if (job->slots_wanted() < 1 || job->slots_wanted() > most) {
    return absl::InvalidArgumentError(
        StrCat("slots: expected 1 to ", most, ", found ", job->slots_wanted()));
  }
  const std::string_view kind = job->kind();
  const absl::Status status = impl_->mailbox->Submit(std::move(job));
  if (!status.ok()) impl_->observer->OnRefused(kind);
  return status;
}

std::shared_ptr<Waker> Scheduler::waker() const { return impl_->mailbox; }

void Scheduler::BeginDrain() { impl_->mailbox->BeginDrain(); }

bool Scheduler::Drain(absl::Duration limit) {
  BeginDrain();
  const absl::Time end = impl_->clock.Now() + limit;
  while (true) {
    const absl::Duration left = end - impl_->clock.Now();
    bool stopping = false;
    const absl::Duration wait = std::clamp(left, absl::ZeroDuration(), kLongestWait);
    if (impl_->mailbox->WaitUntilIdle(wait, &stopping)) return true;
    if (stopping || left <= absl::ZeroDuration()) return false;
  }
}

void Scheduler::Stop() {
  impl_->mailbox->BeginStop();
  // The last one to let go of a session may be a job, on the loop itself: then the loop ends by
  // itself, with its own share of what it works with.
  if (impl_->thread_id == std::this_thread::get_id()) {
    impl_->thread.detach();
    return;
  }
  MutexLock lock(impl_->join_mutex);
  if (impl_->thread.joinable()) impl_->thread.join();
}

SchedulerSnapshot Scheduler::Snapshot() const {
  SchedulerSnapshot snapshot;
  if (!impl_->mailbox->AskForSnapshot(&snapshot)) snapshot = impl_->Picture();
  return snapshot;
}

}  // namespace dreamstate::server
