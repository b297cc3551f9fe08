#include "server/inference/prefix_reuse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <random>
#include <set>

#include "core/base/strings.h"
#include "server/inference/harvest_job.h"
#include "tests/server/inference/serving_fixture.h"

namespace dreamstate::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Tokens = std::vector<int32_t>;

Tokens Join(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Tokens that are the same for the same arguments.
Tokens Text(uint32_t seed, size_t number) {
  std::mt19937 random(seed);
  Tokens tokens;
  while (tokens.size() < number) tokens.push_back(static_cast<int32_t>(2 + random() % 254));
  return tokens;
}

TEST(PrefixMarks, AreWhereAStateSavesMoreThanItCosts) {
  struct Row {
    const char* text;
    int64_t held, known, size;
    PrefixKeep keep;
    std::vector<int64_t> marks;
  };
  const auto prompt = PrefixKeep::kPrompt;
  const std::vector<Row> table = {
      {"a new prompt: its end", 0, 0, 300, prompt, {300}},
      {"too short to be worth it", 0, 0, 31, prompt, {}},
      {"just long enough", 0, 0, 32, prompt, {32}},
      {"known to its end", 300, 300, 300, prompt, {}},
      {"the next turn of a chat", 300, 300, 340, prompt, {340}},
      {"a short next turn", 300, 300, 320, prompt, {}},
      {"it parts from what was read", 0, 100, 300, prompt, {100, 300}},
      {"it parts behind what is held", 80, 120, 300, prompt, {120, 300}},
      {"it parts too soon", 80, 100, 300, prompt, {300}},
      {"it parts shortly before its end", 0, 280, 300, prompt, {280}},
      {"all of it is part of a longer one", 0, 300, 300, prompt, {300}},
      {"a long prompt: places inside", 0, 0, 1600, prompt, {512, 1024, 1600}},
      {"a very long one: no more", 0, 0, 130'000, prompt, {32'768, 65'536, 98'304, 130'000}},
      {"no place inside next to the end", 0, 0, 1100, prompt, {512, 1100}},
      {"nor next to where it parts", 0, 500, 1600, prompt, {500, 1024, 1600}},
      {"nor in what is held", 1024, 1024, 1600, prompt, {1600}},
      {"a document: only where it parts", 0, 700, 1600, PrefixKeep::kPartings, {700}},
      {"a document that is new", 0, 0, 1600, PrefixKeep::kPartings, {}},
      {"nothing", 0, 700, 1600, PrefixKeep::kNothing, {}},
  };
  for (const Row& row : table) {
    EXPECT_EQ(PrefixMarks(row.held, row.known, row.size, row.keep), row.marks) << row.text;
  }
  for (int64_t size = 1; size < 5000; size += 7) {
    const std::vector<int64_t> marks = PrefixMarks(0, size / 3, size, prompt);
    EXPECT_LE(marks.size(), static_cast<size_t>(kMostInside) + 2);
    EXPECT_TRUE(std::is_sorted(marks.begin(), marks.end()));
    EXPECT_EQ(std::set<int64_t>(marks.begin(), marks.end()).size(), marks.size());
  }
}

// One document's results.
class CollectingHarvest final : public HarvestSink {
 public:
  bool HasRoom() override { return true; }
  absl::Time alarm() override { return absl::InfiniteFuture(); }
  void TokensRead(int64_t tokens) override { tokens_ += tokens; }
  void StateMade(v1::HarvestedState state) override {
    MutexLock lock(mutex_);
    states_[state.position()] = std::move(state);
  }
  void DocumentDone(const DocumentTask&, const absl::Status& status) override {
    done_.set_value(status);
  }
  std::map<int64_t, v1::HarvestedState> Wait() {
    const absl::Status status = done_.get_future().get();
    EXPECT_TRUE(status.ok()) << status;
    MutexLock lock(mutex_);
    return states_;
  }
  int64_t tokens() const { return tokens_; }

 private:
  Mutex mutex_;
  std::map<int64_t, v1::HarvestedState> states_ ABSL_GUARDED_BY(mutex_);
  std::promise<absl::Status> done_;
  int64_t tokens_ = 0;
};

// A server that remembers prefixes; without room one that does not.
struct Remembering {
  explicit Remembering(int64_t room = int64_t{64} << 20, SchedulerOptions options = {})
      : trie(room), serving(options) {
    if (room > 0) serving.context.prefixes = &trie;
    harvest_memory = std::make_shared<HarvestMemory>(serving.context.limits);
  }

  DecodeTask Task(Tokens prompt, int64_t max_tokens = 12) const {
    DecodeTask task = serving.Task("", max_tokens);
    task.prompt = std::move(prompt);
    task.top_log_probs = 2;
    return task;
  }
  struct Decoded {
    v1::DecodeStart start;
    std::map<int, BranchText> branches;
  };
  Decoded Decode(const DecodeTask& task) const {
    CollectingSink sink;
    absl::Status status = serving.Submit(task, &sink);
    if (status.ok()) status = sink.Wait();
    EXPECT_TRUE(status.ok()) << status;
    return {sink.messages().front().start(), Branches(sink.messages())};
  }
  ScoreResult Score(const ScoreTask& task) const {
    std::promise<absl::StatusOr<ScoreResult>> promise;
    EXPECT_TRUE(serving.session->scheduler
                    ->Submit(std::make_shared<ScoreJob>(
                        task, serving.Times(),
                        [&](absl::StatusOr<ScoreResult> result) { promise.set_value(result); },
                        serving.context.prefixes))
                    .ok());
    return promise.get_future().get().value();
  }
  ScoreTask Scoring(Tokens context, Tokens target) const {
    ScoreTask task;
    task.session = serving.session;
    task.context = std::move(context);
    task.target = std::move(target);
    return task;
  }
  // The states at `positions`, by position.
  std::map<int64_t, v1::HarvestedState> Harvest(const Tokens& tokens,
                                                const std::vector<int64_t>& positions,
                                                const Source& source = {}) {
    auto plan = std::make_shared<HarvestPlan>();
    plan->session = serving.session;
    plan->source = source;
    plan->inline_tensors = true;
    DocumentTask task;
    task.id = "document";
    task.tokens = tokens;
    for (const int64_t position : positions) task.marks.push_back({position, position});
    CollectingHarvest sink;
    EXPECT_TRUE(
        serving.session->scheduler
            ->Submit(std::make_shared<HarvestJob>(serving.context, plan, task, serving.Times(),
                                                  harvest_memory->Open("", "").value(), &sink))
            .ok());
    auto states = sink.Wait();
    EXPECT_EQ(sink.tokens(), positions.back());
    return states;
  }
  // A state of its own to begin from; the same in every server that is asked for it first.
  Source Saved(const Tokens& tokens) {
    DecodeTask task = Task(tokens, 1);
    task.save.emplace();
    const std::string name = Decode(task).branches.at(0).finish.saved_state().name();
    return serving.Stored(name.substr(7));
  }

  state::PrefixTrie trie;
  Serving serving;
  std::shared_ptr<HarvestMemory> harvest_memory;
};

void ExpectSame(const std::map<int, BranchText>& a, const std::map<int, BranchText>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [index, branch] : a) {
    const BranchText& other = b.at(index);
    EXPECT_EQ(branch.tokens, other.tokens);
    EXPECT_EQ(branch.raw, other.raw);
    EXPECT_EQ(branch.log_probs, other.log_probs);
    EXPECT_EQ(branch.finish.reason(), other.finish.reason());
    EXPECT_EQ(branch.finish.has_saved_state(), other.finish.has_saved_state());
  }
}

void ExpectSame(const state::Record& a, const state::Record& b) {
  EXPECT_EQ(a.state, b.state);
  EXPECT_EQ(a.last_hidden, b.last_hidden);
  EXPECT_EQ(a.token_count, b.token_count);
  EXPECT_EQ(a.lineage.tokens_sha256, b.lineage.tokens_sha256);
  EXPECT_EQ(a.lineage.arguments, b.lineage.arguments);
}

TEST(PrefixReuse, APromptIsReadOnceAndGivesTheSameBits) {
  Remembering with, without(0);
  const Tokens base = Text(1, 200);
  struct Row {
    const char* text;
    Tokens prompt;
    int64_t reused;
  };
  const std::vector<Row> rows = {
      {"new", base, 0},
      {"equal", base, 200},
      {"extends", Join(base, Text(2, 60)), 200},
      {"extends further", Join(Join(base, Text(2, 60)), Text(3, 5)), 260},
      {"shorter", Text(1, 150), 0},
      {"shorter again", Text(1, 150), 150},
      {"parts from it", Join(Text(1, 100), Text(4, 50)), 0},
      {"parts at the same place", Join(Text(1, 100), Text(5, 50)), 100},
      {"another", Text(6, 200), 0},
      {"short", Text(1, 20), 0},
      {"short again", Text(1, 20), 0},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.text);
    const DecodeTask task = with.Task(row.prompt);
    const Remembering::Decoded reused = with.Decode(task);
    ExpectSame(reused.branches, without.Decode(without.Task(row.prompt)).branches);
    EXPECT_EQ(reused.start.prefix_tokens(), row.reused);
    EXPECT_EQ(reused.start.reused_tokens(), row.reused);
    EXPECT_EQ(reused.start.prompt_tokens(), static_cast<int64_t>(row.prompt.size()) - row.reused);
  }
  EXPECT_TRUE(with.trie.CheckInvariants().ok());
}

TEST(PrefixReuse, TheNextTurnOfAChatReadsOnlyWhatWasSaid) {
  Remembering with, without(0);
  Tokens chat = Text(1, 100);
  for (uint32_t turn = 0; turn < 4; ++turn) {
    SCOPED_TRACE(turn);
    const Remembering::Decoded answer = with.Decode(with.Task(chat, 40));
    ExpectSame(answer.branches, without.Decode(without.Task(chat, 40)).branches);
    // All but what was said since, and the last token of the answer, which nobody has read yet.
    const int64_t expected = turn == 0 ? 0 : static_cast<int64_t>(chat.size()) - 36;
    EXPECT_EQ(answer.start.prefix_tokens(), expected);
    chat = Join(Join(chat, answer.branches.at(0).tokens), Text(10 + turn, 35));
  }
}

TEST(PrefixReuse, BranchesAndSavedStatesAreTheSame) {
  Remembering with, without(0);
  const Tokens prompt = Text(1, 120);
  std::string stop;
  for (int round = 0; round < 3; ++round) {
    for (const int branches : {1, 3, 8}) {
      SCOPED_TRACE(StrCat(branches, " branches, round ", round));
      DecodeTask task = with.Task(prompt, 50);
      task.branches = branches;
      task.save.emplace();
      // In the last round states have to be made again, without tokens that were trimmed.
      if (round == 2) task.stop = {stop};
      DecodeTask plain = task;
      plain.session = without.serving.session;
      const Remembering::Decoded reused = with.Decode(task), read = without.Decode(plain);
      EXPECT_EQ(reused.start.prefix_tokens(), round + branches > 1 ? 120 : 0);
      ExpectSame(reused.branches, read.branches);
      for (const auto& [index, branch] : reused.branches) {
        const std::string id = branch.finish.saved_state().name().substr(7);
        const std::string other = read.branches.at(index).finish.saved_state().name().substr(7);
        ExpectSame(*with.serving.Stored(id).record, *without.serving.Stored(other).record);
      }
      if (round == 0 && branches == 1) stop = reused.branches.at(0).raw.substr(20, 4);
    }
  }
}

TEST(PrefixReuse, SourcesAreKeptApart) {
  Remembering with, without(0);
  const Tokens text = Text(1, 90);
  const Source first = with.Saved(Text(2, 10)), second = with.Saved(Text(3, 10));
  without.Saved(Text(2, 10));
  without.Saved(Text(3, 10));
  for (int round = 0; round < 2; ++round) {
    for (const Source& source : {Source(), first, second}) {
      DecodeTask task = with.Task(text);
      task.source = source;
      const Remembering::Decoded reused = with.Decode(task);
      EXPECT_EQ(reused.start.prefix_tokens(), round == 0 ? 0 : 90);
      EXPECT_EQ(reused.start.reused_tokens(), source.token_count() + (round == 0 ? 0 : 90));
      DecodeTask plain = without.Task(text);
      if (source.record != nullptr) plain.source = without.serving.Stored(source.id);
      ExpectSame(reused.branches, without.Decode(plain).branches);
    }
  }
  // One that was sent along has no name that it could be found by.
  for (int round = 0; round < 2; ++round) {
    DecodeTask task = with.Task(text);
    task.source.record = first.record;
    EXPECT_EQ(with.Decode(task).start.prefix_tokens(), 0);
  }
}

TEST(PrefixReuse, TheSeparatorIsReadAsBefore) {
  Remembering with;
  for (int round = 0; round < 2; ++round) {
    const Remembering::Decoded decoded = with.Decode(with.Task({}, 60));
    EXPECT_EQ(decoded.start.prompt_tokens(), 1);
    EXPECT_EQ(decoded.start.prefix_tokens(), 0);
    // What was said after it is known to whoever sends the separator himself.
    const Tokens chat = Join(Join({kSeparator}, decoded.branches.at(0).tokens), {5});
    EXPECT_EQ(with.Decode(with.Task(chat, 1)).start.prefix_tokens(), 60);
  }
}

TEST(PrefixReuse, ScoresAreTheSame) {
  Remembering with, without(0);
  const Tokens context = Text(1, 150), target = Text(2, 30);
  const std::vector<std::pair<Tokens, Tokens>> rows = {
      {context, target},
      {context, target},                         // all of it is known
      {context, Text(3, 1)},                     // nothing is read at all
      {Join(context, Text(4, 40)), target},      // extends
      {Text(1, 140), target},                    // shorter
      {Join(Text(1, 70), Text(5, 70)), target},  // parts
      {Join(Text(1, 70), Text(6, 70)), target},  // is known where it parts
      {Text(1, 10), target},
      {{}, target},
      {{}, Join(context, target)}};
  for (const auto& [before, scored] : rows) {
    const ScoreResult reused = with.Score(with.Scoring(before, scored));
    const ScoreResult read = without.Score(without.Scoring(before, scored));
    EXPECT_EQ(reused.token_nats, read.token_nats);
    EXPECT_EQ(reused.total_nats, read.total_nats);
  }
  EXPECT_EQ(with.trie.stats().hits, 4);
  // A decode of what was scored knows it, too.
  EXPECT_EQ(with.Decode(with.Task(context)).start.prefix_tokens(), 150);
}

TEST(PrefixReuse, HarvestsOfDocumentsThatBeginAlikeAreTheSame) {
  Remembering with, without(0);
  const Tokens base = Text(1, 300);
  const std::vector<std::pair<Tokens, std::vector<int64_t>>> rows = {
      {Join(base, Text(2, 50)), {350}},
      {Join(base, Text(3, 50)), {350}},       // parts: its state is kept
      {Join(base, Text(4, 50)), {310, 350}},  // begins there
      {Join(base, Text(5, 50)), {300, 350}},  // its first state is the one that is known
      {Join(base, Text(6, 50)), {200, 350}},  // its first state lies before
      {base, {300}},                          // nothing is read
      {Text(1, 20), {5, 20}},
  };
  for (const auto& [tokens, positions] : rows) {
    const auto reused = with.Harvest(tokens, positions);
    const auto read = without.Harvest(tokens, positions);
    ASSERT_EQ(reused.size(), read.size());
    for (const auto& [position, state] : read) {
      EXPECT_EQ(reused.at(position).SerializeAsString(), state.SerializeAsString());
    }
  }
  EXPECT_EQ(with.trie.stats().hits, 3);
  EXPECT_EQ(with.trie.stats().tokens, 900);
  EXPECT_EQ(with.trie.stats().states, 1);
}

TEST(PrefixReuse, ALongPromptIsKnownInsideToo) {
  Remembering with, without(0);
  const Tokens book = Text(1, 1600);
  with.Decode(with.Task(book, 1));
  for (const size_t read : {1500, 1100, 700, 300}) {
    const Tokens prompt = Join(Tokens(book.begin(), book.begin() + static_cast<ptrdiff_t>(read)),
                               Text(static_cast<uint32_t>(read), 100));
    const Remembering::Decoded reused = with.Decode(with.Task(prompt));
    ExpectSame(reused.branches, without.Decode(without.Task(prompt)).branches);
    EXPECT_EQ(reused.start.prefix_tokens(), static_cast<int64_t>(read) / 512 * 512);
  }
}

// Does something when the prompt has been read, before the first token is drawn.
class WhenReadSink final : public DecodeSink {
 public:
  explicit WhenReadSink(std::function<void()> then) : then_(std::move(then)) {}
  ReaderProgress reader() override { return {}; }
  void Send(v1::DecodeResponse message) override {
    if (message.has_start()) then_();
  }
  void Finish(const absl::Status& status, Unread /*unread*/) override { done_.set_value(status); }
  absl::Status Wait() { return done_.get_future().get(); }

 private:
  const std::function<void()> then_;
  std::promise<absl::Status> done_;
};

TEST(PrefixReuse, AnEndRightBehindThePromptIsKeptWithItsOwnHiddenVector) {
  // In small steps, with room for one state.
  const SchedulerOptions options = {.slots = 2, .max_step_tokens = 8};
  Remembering without(0, options);
  const int64_t state_bytes = TestWeights()->config.state_bytes();
  Remembering with(state_bytes * 3 / 2, options);
  const Tokens base = Text(1, 64), prompt = Join(base, Text(2, 20));
  with.Decode(with.Task(base, 1));
  ASSERT_EQ(with.trie.stats().states, 1);
  // It begins near its end, where nothing more is to be kept; then another text's state displaces
  // the one it began from, and its end is worth keeping after all.
  WhenReadSink sink([&] {
    auto other = std::make_shared<state::PrefixState>();
    other->values.resize(static_cast<size_t>(state_bytes) / sizeof(float));
    with.trie.Remember({.fingerprint = "other"}, Text(3, 64), std::move(other));
  });
  ASSERT_TRUE(with.serving.Submit(with.Task(prompt, 1), &sink).ok());
  ASSERT_TRUE(sink.Wait().ok());
  ASSERT_GE(with.trie.stats().evicted, 1);

  const Remembering::Decoded reused = with.Decode(with.Task(prompt));
  EXPECT_EQ(reused.start.prefix_tokens(), 84);
  ExpectSame(reused.branches, without.Decode(without.Task(prompt)).branches);
}

TEST(PrefixReuse, AStateThatOverflowedIsNotKept) {
  Remembering with;
  state::Record record;
  record.fingerprint = TestWeights()->fingerprint;
  record.state = state::State::Empty(state::Shape::Of(TestWeights()->config));
  record.state.wkv.assign(record.state.wkv.size(), 3e38f);
  record.state.shift.assign(record.state.shift.size(), 3e38f);
  ASSERT_TRUE(with.serving.store.Put("default", record, {}).ok());
  for (int round = 0; round < 2; ++round) {
    DecodeTask task = with.Task(Text(1, 64));
    task.source = with.serving.Stored("s1");
    CollectingSink sink;
    ASSERT_TRUE(with.serving.Submit(task, &sink).ok());
    EXPECT_EQ(sink.Wait().code(), absl::StatusCode::kFailedPrecondition);
  }
  EXPECT_EQ(with.trie.stats().states, 0);
}

// Whatever is asked, in whatever order, many at once, with a trie that is too small for it all: the
// same bits as from a server that remembers nothing.
TEST(PrefixReuse, RandomWorkIsTheSameAsWithoutReuse) {
  const SchedulerOptions options = {.threads = 2, .slots = 6, .max_step_tokens = 48};
  Remembering with(int64_t{3} << 20, options), without(0, options);
  std::vector<Source> sources = {{}}, plain_sources = {{}};
  for (const uint32_t seed : {1, 2}) {
    sources.push_back(with.Saved(Text(seed, 10)));
    plain_sources.push_back(without.Saved(Text(seed, 10)));
  }
  std::mt19937 random(3);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  std::vector<Tokens> known = {Text(1, 150)};
  const auto next_text = [&] {
    Tokens tokens = known[below(known.size())];
    tokens.resize(below(3) == 0 ? tokens.size() : 1 + below(tokens.size()));
    const Tokens more = Text(static_cast<uint32_t>(below(5)), below(3) == 0 ? 0 : below(180));
    tokens = Join(tokens, more);
    if (tokens.size() > 1200) tokens.resize(1200);
    known.push_back(tokens);
    return tokens;
  };
  int64_t reused = 0;
  for (int round = 0; round < 25; ++round) {
    // Several decodes side by side, then the rest.
    std::vector<DecodeTask> tasks;
    std::vector<size_t> from;
    for (int i = 0; i < 5; ++i) {
      DecodeTask task = with.Task(next_text(), static_cast<int64_t>(1 + below(60)));
      task.branches = static_cast<int>(1 + below(3));
      task.sampling.seed = random();
      if (below(2) == 0) task.sampling.logit_bias.clear();
      if (below(3) == 0) task.stop = {std::string(1, static_cast<char>(2 + below(254)))};
      if (below(2) == 0) task.save.emplace();
      from.push_back(below(sources.size()));
      task.source = sources[from.back()];
      tasks.push_back(task);
    }
    std::vector<CollectingSink> sinks(tasks.size());
    for (size_t i = 0; i < tasks.size(); ++i) {
      ASSERT_TRUE(with.serving.Submit(tasks[i], &sinks[i]).ok());
    }
    for (size_t i = 0; i < tasks.size(); ++i) {
      ASSERT_TRUE(sinks[i].Wait().ok());
      reused += sinks[i].messages().front().start().prefix_tokens();
      DecodeTask plain = tasks[i];
      plain.session = without.serving.session;
      plain.source = plain_sources[from[i]];
      const auto read = without.Decode(plain).branches;
      const auto branches = Branches(sinks[i].messages());
      ExpectSame(branches, read);
      for (const auto& [index, branch] : branches) {
        if (!branch.finish.has_saved_state()) continue;
        const std::string id = branch.finish.saved_state().name().substr(7);
        const std::string other = read.at(index).finish.saved_state().name().substr(7);
        ExpectSame(*with.serving.Stored(id).record, *without.serving.Stored(other).record);
        known.push_back(Join(tasks[i].prompt, branch.tokens));  // a chat may go on
      }
    }
    const Tokens context = next_text(), target = Text(static_cast<uint32_t>(round), 1 + below(40));
    EXPECT_EQ(with.Score(with.Scoring(context, target)).token_nats,
              without.Score(without.Scoring(context, target)).token_nats);
    const Tokens document = next_text();
    const int64_t size = static_cast<int64_t>(document.size());
    std::vector<int64_t> positions = {size};
    if (size > 1) positions.insert(positions.begin(), 1 + static_cast<int64_t>(below(size - 1)));
    const auto states = with.Harvest(document, positions);
    for (const auto& [position, state] : without.Harvest(document, positions)) {
      EXPECT_EQ(states.at(position).SerializeAsString(), state.SerializeAsString());
    }
    const absl::Status invariants = with.trie.CheckInvariants();
    ASSERT_TRUE(invariants.ok()) << invariants;
    ASSERT_FALSE(HasFailure()) << "in round " << round;
  }
  EXPECT_GT(reused, 2000);
  EXPECT_GT(with.trie.stats().evicted, 0);
}

}  // namespace
}  // namespace dreamstate::server
