// dreamstate decode
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/arguments.h"
#include "client/cli/branch_printer.h"
#include "client/cli/commands.h"
#include "client/cli/decode_batch.h"
#include "client/cli/input.h"
#include "client/names.h"
#include "client/utf8.h"

namespace dreamstate::cli {
namespace {

struct Arguments {
  TextArgument text;
  std::string batch;
  std::string model, from;
  int branches = 1;
  int max_tokens = 0;
  SamplingArguments sampling;
  std::vector<std::string> stop;
  std::optional<int> log_probs;
  bool save = false;
  bool keep_tokens = false;
  std::vector<std::string> labels;
  absl::Duration ttl = absl::ZeroDuration();
};

absl::StatusOr<v1::DecodeRequest> RequestOf(Session& session, const Arguments& arguments) {
  v1::DecodeRequest request;
  request.set_model(client::ModelName(arguments.model));
  if (!IsEmptyState(arguments.from))
    request.mutable_source()->set_state(client::StateName(arguments.from));
  absl::StatusOr<std::optional<std::string>> text = ReadText(arguments.text, session.interrupts());
  if (!text.ok()) return text.status();
  NoteFileName(arguments.text, session.output());
  if (text->has_value() && !(*text)->empty())
    *request.mutable_prompt() = client::TextInputOf(**text);
  request.set_branches(arguments.branches);
  request.set_max_tokens(arguments.max_tokens);
  absl::StatusOr<v1::Sampling> sampling = arguments.sampling.Build();
  if (!sampling.ok()) return sampling.status();
  *request.mutable_sampling() = *std::move(sampling);
  for (const std::string& stop : arguments.stop) request.add_stop(stop);
  if (arguments.log_probs) request.set_top_log_probs(*arguments.log_probs);
  if (arguments.save) {
    v1::DecodeRequest::SaveState* save = request.mutable_save_state();
    save->set_keep_tokens(arguments.keep_tokens);
    for (const std::string& label : arguments.labels)
      save->mutable_annotations()->add_labels(label);
    if (arguments.ttl > absl::ZeroDuration()) {
      *save->mutable_annotations()->mutable_time_to_live() = ToProto(arguments.ttl);
    }
  }
  return request;
}

client::DecodeHandlers JsonLines(Output& output) {
  const auto print = [&output](const v1::DecodeResponse& response) {
    output.Json(response);
    return absl::OkStatus();
  };
  client::DecodeHandlers handlers;
  handlers.on_start = [print](const v1::DecodeStart& start) {
    v1::DecodeResponse response;
    *response.mutable_start() = start;
    return print(response);
  };
  handlers.on_piece = [print](int branch, const v1::TextPiece& piece) {
    v1::DecodeResponse response;
    response.mutable_piece()->set_branch(branch);
    *response.mutable_piece()->mutable_piece() = piece;
    return print(response);
  };
  handlers.on_finish = [print](const v1::DecodeFinish& finish) {
    v1::DecodeResponse response;
    *response.mutable_finish() = finish;
    return print(response);
  };
  return handlers;
}

std::string ReasonOf(const v1::DecodeFinish& finish, const Arguments& arguments) {
  switch (finish.reason()) {
    case v1::DecodeFinish::END:
      return "the model ended the text";
    case v1::DecodeFinish::STOP:
      if (finish.stop_index() >= 0 &&
          finish.stop_index() < static_cast<int>(arguments.stop.size())) {
        return absl::StrCat("stopped before '", arguments.stop[finish.stop_index()], "'");
      }
      return "stopped";
    case v1::DecodeFinish::MAX_TOKENS:
      return "as many as asked for";
    default:
      return "finished";
  }
}

// What is worth knowing after the text.
void NoteFinishes(Output& output, const Arguments& arguments, const v1::DecodeStart& start,
                  const std::vector<v1::DecodeFinish>& finishes) {
  output.Note(absl::StrFormat("%s, seed %d; read %d tokens in %.3f s%s", start.model_version(),
                              start.seed(), start.prompt_tokens(), start.prefill_seconds(),
                              start.reused_tokens() > 0
                                  ? absl::StrFormat(" (%d known already)", start.reused_tokens())
                                  : ""));
  for (const v1::DecodeFinish& finish : finishes) {
    std::string line = finishes.size() > 1 ? absl::StrCat("branch ", finish.branch(), ": ") : "";
    absl::StrAppendFormat(&line, "%d tokens in %.3f s", finish.generated_tokens(),
                          finish.decode_seconds());
    absl::StrAppend(&line, ", ", ReasonOf(finish, arguments));
    if (finish.has_saved_state()) absl::StrAppend(&line, "; saved ", finish.saved_state().name());
    output.Note(line);
  }
}

absl::Status Decode(Session& session, const Arguments& arguments) {
  absl::StatusOr<v1::DecodeRequest> request = RequestOf(session, arguments);
  if (!request.ok()) return request.status();
  if (!arguments.batch.empty()) return DecodeBatch(session, arguments.batch, *request);
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  Output& output = session.output();
  if (output.json()) return (*client)->Decode(*request, JsonLines(output), session.Call());

  BranchPrinter printer(output, std::max(arguments.branches, 1), arguments.log_probs.has_value());
  v1::DecodeStart start;
  std::vector<v1::DecodeFinish> finishes(std::max(arguments.branches, 1));
  client::DecodeHandlers handlers;
  handlers.on_start = [&](const v1::DecodeStart& message) {
    start = message;
    return absl::OkStatus();
  };
  handlers.on_piece = [&](int branch, const v1::TextPiece& piece) {
    printer.Piece(branch, piece);
    return absl::OkStatus();
  };
  handlers.on_finish = [&](const v1::DecodeFinish& finish) {
    printer.Finish(finish.branch());
    finishes[finish.branch()] = finish;
    return absl::OkStatus();
  };
  const absl::Status status = (*client)->Decode(*request, handlers, session.Call());
  printer.Close();
  if (status.ok()) NoteFinishes(output, arguments, start, finishes);
  return status;
}

}  // namespace

void AddDecode(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(
      parent, "decode", "Continue a text, from nothing or from a state, in one or more branches",
      "  dreamstate decode \"Once upon a time\" --max-tokens 100\n"
      "  dreamstate decode --from STATE --branches 3 --temperature 0.8 --seed 7\n"
      "  dreamstate decode --from STATE \"What next?\" --save --label draft --ttl 7d\n"
      "  cat story.txt | dreamstate decode - --stop \"The end\" --json\n"
      "  dreamstate decode --batch requests.jsonl --max-tokens 100 > answers.jsonl\n"
      "\n"
      "A line of a batch: {\"id\": \"a\", \"prompt\": \"Once\", \"source\": \"STATE\", "
      "\"maxTokens\": 50}; "
      "other\nfields are those of DecodeRequest, and what it does not say is as the flags say.");
  const auto a = std::make_shared<Arguments>();
  a->text.AddTo(*command, "text", "Read after the state, then continued");
  command
      ->add_option(
          "--batch", a->batch,
          "Many decodes side by side, a line of JSON each; answers are lines of JSON in the "
          "order in which they end; - reads standard input")
      ->type_name("FILE")
      ->excludes(command->get_option("text"))
      ->excludes(command->get_option("--file"));
  command
      ->add_option("--from", a->from, "State to continue from, or the word 'empty' (the default)")
      ->type_name("STATE")
      ->check(kUtf8);
  command->add_option("--model", a->model, "Which model; may be left out when the server has one")
      ->check(kUtf8);
  command->add_option("-n,--branches", a->branches, "Continuations from the same point, 1 to 64")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_option("--max-tokens", a->max_tokens, "Tokens a branch may generate; default 256");
  command->add_option("--stop", a->stop, "End before this text; may be repeated")
      ->allow_extra_args(false)
      ->check(kUtf8);
  command->add_option("--log-probs", a->log_probs,
                      "Show log-probabilities with this many alternatives, 0 to 20");
  a->sampling.AddTo(*command);
  CLI::Option* save =
      command->add_flag("--save", a->save, "Keep each branch's state when it finishes");
  command->add_option("--label", a->labels, "Label of saved states; may be repeated")
      ->allow_extra_args(false)
      ->check(kUtf8)
      ->needs(save);
  AddDuration(*command, "--ttl", &a->ttl, "Delete saved states after this long, for example 7d")
      ->needs(save);
  command->add_flag("--keep-tokens", a->keep_tokens, "Keep the tokens in saved states")
      ->needs(save);
  command->callback([&session, a] { session.Choose([a](Session& s) { return Decode(s, *a); }); });
}

}  // namespace dreamstate::cli
