// dreamstate score
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/exit_codes.h"
#include "client/cli/input.h"
#include "client/names.h"
#include "client/utf8.h"
#include "nlohmann/json.hpp"

namespace dreamstate::cli {
namespace {

struct Arguments {
  TextArgument text;
  std::string model;
  std::vector<std::string> from;
  std::string context;
  bool per_token = false;
};

struct Score {
  std::string source;  // states/{state}, or "empty"
  v1::ScoreResponse response;
};

void PrintTable(Output& output, const std::vector<Score>& scores) {
  Table table({"SOURCE", "NATS", "BITS PER BYTE", "BYTES", "TOKENS"},
              {false, true, true, true, true});
  for (const Score& score : scores) {
    table.Add({score.source, absl::StrFormat("%.4f", score.response.total_nats()),
               absl::StrFormat("%.4f", score.response.bits_per_byte()),
               absl::StrCat(score.response.target_bytes()),
               absl::StrCat(score.response.target_tokens())});
  }
  table.Print(output);
}

void PrintTokens(Output& output, const std::vector<Score>& scores) {
  std::vector<std::string> header = {"POSITION", "TOKEN"};
  int tokens = 0;
  for (const Score& score : scores) {
    header.push_back(absl::StrCat(score.source, " NATS"));
    tokens = std::max(tokens, score.response.token_nats_size());
  }
  std::vector<bool> right_aligned(scores.size() + 2, true);
  right_aligned[1] = false;
  Table table(std::move(header), std::move(right_aligned));
  for (int token = 0; token < tokens; ++token) {
    // The target is the same for all.
    const auto& bytes = scores[0].response.token_bytes();
    const std::string shown = token < bytes.size() ? absl::CHexEscape(bytes[token]) : std::string();
    std::vector<std::string> row = {absl::StrCat(token), absl::StrCat("\"", shown, "\"")};
    for (const Score& score : scores) {
      const bool known = token < score.response.token_nats_size();
      row.push_back(known ? absl::StrFormat("%.4f", score.response.token_nats(token)) : "-");
    }
    table.Add(std::move(row));
  }
  output.Line("");
  table.Print(output);
}

void PrintBest(Output& output, const std::vector<Score>& scores) {
  const auto nats = [](const Score& a, const Score& b) {
    return a.response.total_nats() < b.response.total_nats();
  };
  const auto [best, worst] = std::minmax_element(scores.begin(), scores.end(), nats);
  if (best->response.total_nats() == worst->response.total_nats()) {
    output.Line("all equal");
    return;
  }
  output.Line(absl::StrFormat("lowest (best): %s, %.4f bits per byte below %s", best->source,
                              worst->response.bits_per_byte() - best->response.bits_per_byte(),
                              worst->source));
}

absl::Status RunScore(Session& session, const Arguments& arguments) {
  absl::StatusOr<std::optional<std::string>> text = ReadText(arguments.text, session.interrupts());
  if (!text.ok()) return text.status();
  if (!text->has_value() || (*text)->empty()) {
    return UsageError("nothing to score: give a text, --file, or - for standard input");
  }
  NoteFileName(arguments.text, session.output());
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();

  v1::ScoreRequest request;
  request.set_model(client::ModelName(arguments.model));
  *request.mutable_target() = client::TextInputOf(**std::move(text));
  if (!arguments.context.empty())
    *request.mutable_context() = client::TextInputOf(arguments.context);
  request.set_per_token(arguments.per_token);

  Output& output = session.output();
  std::vector<std::string> sources = arguments.from;
  if (sources.empty()) sources.push_back(kEmptyState);
  std::vector<Score> scores;
  for (const std::string& given : sources) {
    Score score;
    if (IsEmptyState(given)) {
      score.source = kEmptyState;
      request.clear_source();
    } else {
      score.source = client::StateName(given);
      request.mutable_source()->set_state(score.source);
    }
    absl::StatusOr<v1::ScoreResponse> response = (*client)->Score(request, session.Call());
    if (!response.ok()) return response.status();
    score.response = *std::move(response);
    if (output.json()) {
      nlohmann::ordered_json line = {{"source", score.source}};
      line.update(nlohmann::ordered_json::parse(ToJson(score.response), nullptr,
                                                /*allow_exceptions=*/false));
      output.Line(line.dump());
    }
    scores.push_back(std::move(score));
  }
  if (output.json()) return absl::OkStatus();
  PrintTable(output, scores);
  if (arguments.per_token) PrintTokens(output, scores);
  if (scores.size() > 1) PrintBest(output, scores);
  return absl::OkStatus();
}

}  // namespace

void AddScore(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(
      parent, "score", "How well a model, from a state, foresees a text; lower is better",
      "  dreamstate score \"The end.\"\n"
      "  dreamstate score --file chapter2.txt --from STATE --from empty\n"
      "  dreamstate score --context \"2 + 2 =\" \" 4\" --per-token --json");
  const auto a = std::make_shared<Arguments>();
  a->text.AddTo(*command, "text", "What is scored");
  command
      ->add_option("--from", a->from,
                   "State to read from, or the word 'empty' (the default); repeated: compares them")
      ->type_name("STATE")
      ->allow_extra_args(false)
      ->check(kUtf8);
  command->add_option("--model", a->model, "Which model; may be left out when the server has one")
      ->check(kUtf8);
  command->add_option("--context", a->context, "Read before the text without being scored");
  command->add_flag("--per-token", a->per_token, "Show the loss of every token");
  command->callback([&session, a] { session.Choose([a](Session& s) { return RunScore(s, *a); }); });
}

}  // namespace dreamstate::cli
