// dreamstate chat
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "client/cli/arguments.h"
#include "client/cli/branch_printer.h"
#include "client/cli/commands.h"
#include "client/cli/exit_codes.h"
#include "client/cli/line_reader.h"
#include "client/names.h"
#include "client/rpc_status.h"
#include "client/utf8.h"

namespace dreamstate::cli {
namespace {

constexpr char kHelp[] =
    "/branch [N]     answer the last message again in N ways (default 3) and choose one\n"
    "/undo           forget the last message and its answer\n"
    "/save [LABEL…]  keep the present state; it would expire otherwise\n"
    "/help           this list\n"
    "/quit           end (so does end of input)";

constexpr char kUser[] = "{user}";
constexpr char kDefaultTemplate[] = "User: {user}\n\nAssistant:";

struct Arguments {
  std::string model, from;
  std::string text_template;      // as typed; empty: the model's, or else kDefaultTemplate
  std::vector<std::string> stop;  // as typed; empty: StopOf the template
  int max_tokens = 0;
  absl::Duration ttl = absl::Hours(1);
  SamplingArguments sampling;
};

// "\\n" of the command line is a new line.
std::string Unescaped(const std::string& typed) {
  return absl::StrReplaceAll(typed, {{"\\n", "\n"}});
}

// How messages become text, and what ends an answer.
struct Style {
  std::string text_template;
  std::vector<std::string> stop;
};

// An answer ends where the next message would begin: "\n\nUser:".
std::vector<std::string> StopOf(const std::string& text_template) {
  const std::string before(
      absl::StripAsciiWhitespace(text_template.substr(0, text_template.find(kUser))));
  if (before.empty()) return {};
  return {absl::StrCat("\n\n", before)};
}

// The template of the model that answers: the one named, or the only one. Where several could, the
// server will say that one must be named.
absl::StatusOr<std::string> ModelsTemplate(Session& session, client::Client& client,
                                           const std::string& model) {
  absl::StatusOr<v1::Model> found;
  if (!model.empty()) {
    found = client.GetModel(model, session.Call());
    if (!found.ok()) return found.status();
  } else {
    const auto models = client.Models(session.Call()).Collect(2);
    if (!models.ok()) return models.status();
    if (models->size() != 1) return kDefaultTemplate;
    found = (*models)[0];
  }
  // A model that is not for chat can still be talked to.
  if (!absl::StrContains(found->chat_template(), kUser)) return kDefaultTemplate;
  return found->chat_template();
}

absl::StatusOr<Style> StyleOf(Session& session, client::Client& client,
                              const Arguments& arguments) {
  absl::StatusOr<std::string> text_template = arguments.text_template.empty()
                                                  ? ModelsTemplate(session, client, arguments.model)
                                                  : Unescaped(arguments.text_template);
  if (!text_template.ok()) return text_template.status();
  Style style{*std::move(text_template), {}};
  for (const std::string& stop : arguments.stop) style.stop.push_back(Unescaped(stop));
  if (style.stop.empty()) style.stop = StopOf(style.text_template);
  return style;
}

// A conversation is a chain of states, each saved after an answer; going back is only forgetting
// the last name.
class Conversation {
 public:
  Conversation(Session& session, client::Client& client, const Arguments& arguments, Style style,
               v1::Sampling sampling)
      : session_(session),
        client_(client),
        arguments_(arguments),
        style_(std::move(style)),
        sampling_(std::move(sampling)),
        lines_(session.interrupts()) {
    if (!IsEmptyState(arguments.from)) turns_.push_back({"", client::StateName(arguments.from)});
  }

  absl::Status Run() {
    if (lines_.interactive())
      session_.output().Note("/help lists what else can be typed; /quit ends");
    for (;;) {
      absl::StatusOr<std::optional<std::string>> line = lines_.Next("> ");
      if (!line.ok()) return line.status();
      if (!line->has_value()) return absl::OkStatus();
      const std::string text(absl::StripAsciiWhitespace(**line));
      if (text == "/quit") return absl::OkStatus();
      if (text.empty()) continue;
      absl::Status status = text[0] == '/' ? Command(text) : Answer(text, 1);
      if (status.ok()) continue;
      if (!lines_.interactive()) return status;
      // At a terminal a failed turn is no reason to lose the conversation.
      session_.output().Error(absl::IsCancelled(status)   ? "interrupted; this turn is forgotten"
                              : IsPartFailedError(status) ? std::string(status.message())
                                                          : client::Explain(status));
      session_.interrupts().Reset();
    }
  }

 private:
  struct Turn {
    std::string user;   // empty for the state that the conversation began from
    std::string state;  // after the answer
  };

  absl::Status Command(const std::string& text) {
    const std::vector<std::string> words = absl::StrSplit(text, ' ', absl::SkipEmpty());
    if (words[0] == "/branch") return Branch(words);
    if (words[0] == "/undo") return Undo();
    if (words[0] == "/save") return Save(words);
    if (words[0] == "/help") {
      for (const absl::string_view line : absl::StrSplit(kHelp, '\n')) session_.output().Note(line);
      return absl::OkStatus();
    }
    return PartFailedError(absl::StrCat("no such chat command: ", words[0], "; /help lists them"));
  }

  absl::Status Answer(const std::string& user, int branches) {
    v1::DecodeRequest request;
    request.set_model(client::ModelName(arguments_.model));
    std::string prompt = absl::StrReplaceAll(style_.text_template, {{kUser, user}});
    if (!turns_.empty()) {
      request.mutable_source()->set_state(turns_.back().state);
      prompt.insert(0, "\n\n");  // the state ends with the last answer
    }
    *request.mutable_prompt() = client::TextInputOf(std::move(prompt));
    request.set_branches(branches);
    request.set_max_tokens(arguments_.max_tokens);
    *request.mutable_sampling() = sampling_;
    for (const std::string& stop : style_.stop) request.add_stop(stop);
    *request.mutable_save_state()->mutable_annotations()->mutable_time_to_live() =
        ToProto(arguments_.ttl);

    BranchPrinter printer(session_.output(), branches, /*with_log_probs=*/false);
    std::vector<std::string> saved(branches);
    client::DecodeHandlers handlers;
    handlers.on_piece = [&](int branch, const v1::TextPiece& piece) {
      printer.Piece(branch, piece);
      return absl::OkStatus();
    };
    handlers.on_finish = [&](const v1::DecodeFinish& finish) {
      printer.Finish(finish.branch());
      saved[finish.branch()] = finish.saved_state().name();
      return absl::OkStatus();
    };
    const absl::Status status = client_.Decode(request, handlers, session_.Call());
    printer.Close();
    if (!status.ok()) return status;
    absl::StatusOr<int> chosen = branches > 1 ? ChooseBranch(branches) : 0;
    if (!chosen.ok()) return chosen.status();
    turns_.push_back({user, saved[*chosen]});
    return absl::OkStatus();
  }

  absl::StatusOr<int> ChooseBranch(int branches) {
    for (;;) {
      absl::StatusOr<std::optional<std::string>> line =
          lines_.Next(absl::StrCat("go on with branch 0 to ", branches - 1, " (Enter: 0): "));
      if (!line.ok()) return line.status();
      if (!line->has_value() || absl::StripAsciiWhitespace(**line).empty()) return 0;
      int chosen;
      if (absl::SimpleAtoi(**line, &chosen) && chosen >= 0 && chosen < branches) return chosen;
      session_.output().Error(absl::StrCat("expected a number from 0 to ", branches - 1));
      if (!lines_.interactive()) return PartFailedError("no branch was chosen");
    }
  }

  absl::Status Branch(const std::vector<std::string>& words) {
    int branches = 3;
    if (words.size() > 2 || (words.size() == 2 && (!absl::SimpleAtoi(words[1], &branches) ||
                                                   branches < 1 || branches > 64))) {
      return PartFailedError("/branch takes a number from 1 to 64");
    }
    if (turns_.empty() || turns_.back().user.empty()) {
      return PartFailedError("there is no message yet that could be answered again");
    }
    const Turn last = turns_.back();
    turns_.pop_back();
    absl::Status status = Answer(last.user, branches);
    if (!status.ok()) turns_.push_back(last);
    return status;
  }

  absl::Status Undo() {
    if (turns_.empty() || turns_.back().user.empty())
      return PartFailedError("there is nothing to undo");
    turns_.pop_back();
    session_.output().Note("the last message and its answer are forgotten");
    return absl::OkStatus();
  }

  absl::Status Save(const std::vector<std::string>& words) {
    if (turns_.empty()) return PartFailedError("there is no state yet");
    v1::UpdateStateRequest request;
    request.set_name(turns_.back().state);
    request.mutable_update_mask()->add_paths("time_to_live");  // none: kept
    if (words.size() > 1) {
      request.mutable_update_mask()->add_paths("labels");
      for (size_t i = 1; i < words.size(); ++i) {
        request.mutable_annotations()->add_labels(client::ToValidUtf8(words[i], "?"));
      }
    }
    const absl::StatusOr<v1::State> saved = client_.UpdateState(request, session_.Call());
    if (!saved.ok()) return saved.status();
    session_.output().Note(absl::StrCat("kept ", saved->name(),
                                        "; go on later with: dreamstate chat --from ",
                                        client::IdOf(saved->name())));
    return absl::OkStatus();
  }

  Session& session_;
  client::Client& client_;
  const Arguments& arguments_;
  const Style style_;
  const v1::Sampling sampling_;
  LineReader lines_;
  std::vector<Turn> turns_;
};

absl::Status Chat(Session& session, const Arguments& arguments) {
  if (session.output().json())
    return UsageError("chat is for people: for programs there is decode --json --save");
  if (!arguments.text_template.empty() && !absl::StrContains(arguments.text_template, kUser)) {
    return UsageError("--template: expected {user} in it, for the place of what you type");
  }
  absl::StatusOr<v1::Sampling> sampling = arguments.sampling.Build();
  if (!sampling.ok()) return sampling.status();
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  absl::StatusOr<Style> style = StyleOf(session, **client, arguments);
  if (!style.ok()) return style.status();
  return Conversation(session, **client, arguments, *std::move(style), *std::move(sampling)).Run();
}

}  // namespace

void AddChat(CLI::App& parent, Session& session) {
  CLI::App* command =
      AddCommand(parent, "chat", "Talk with a model; every answer is a state to go back to",
                 "  dreamstate chat\n"
                 "  dreamstate chat --from STATE --temperature 0.8 --max-tokens 200\n"
                 "  dreamstate chat --template \"Q: {user}\\nA:\" --stop \"\\nQ:\"\n"
                 "\n"
                 "While talking:\n" +
                     absl::StrReplaceAll(absl::StrCat("  ", kHelp), {{"\n", "\n  "}}));
  const auto a = std::make_shared<Arguments>();
  command->add_option("--from", a->from, "State to begin from; default: the empty one")
      ->type_name("STATE")
      ->check(kUtf8);
  command->add_option("--model", a->model, "Which model; may be left out when the server has one")
      ->check(kUtf8);
  command
      ->add_option("--template", a->text_template,
                   "What a message becomes; \\n is a new line; default: the model's template, or "
                   "User: {user}\\n\\nAssistant:")
      ->type_name("TEXT")
      ->check(kUtf8);
  command
      ->add_option(
          "--stop", a->stop,
          "End an answer before this text; may be repeated; default: what the template begins "
          "with, such as \\n\\nUser:")
      ->allow_extra_args(false)
      ->check(kUtf8);
  command->add_option("--max-tokens", a->max_tokens, "Tokens an answer may have; default 256");
  AddDuration(*command, "--ttl", &a->ttl,
              "How long the states of this talk are kept unless saved; default 1h");
  a->sampling.AddTo(*command);
  command->callback([&session, a] { session.Choose([a](Session& s) { return Chat(s, *a); }); });
}

}  // namespace dreamstate::cli
