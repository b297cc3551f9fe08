// dreamstate states harvest
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/exit_codes.h"
#include "client/cli/input.h"
#include "client/cli/progress_bar.h"
#include "client/names.h"
#include "client/rpc_status.h"
#include "client/utf8.h"

namespace dreamstate::cli {
namespace {

constexpr size_t kMaxIdBytes = 256;

struct Arguments {
  std::vector<std::string> files;
  std::optional<std::string> text;
  std::string model;
  std::string from;
  std::vector<std::string> labels;
  absl::Duration ttl = absl::ZeroDuration();
  std::optional<int> every;
  std::vector<int64_t> positions;
  bool append_separator = false;
  bool keep_tokens = false;
  std::string request_id;
};

// Where a document comes from; files are opened only when their turn comes.
struct DocumentSource {
  std::string id;
  std::string path;  // empty: `content`
  std::string content;
};

std::string IdOfPath(const std::string& path) {
  std::string id = client::ToValidUtf8(path, "?");
  if (id.size() > kMaxIdBytes) id = client::ToValidUtf8(id.substr(id.size() - kMaxIdBytes), "?");
  return id;
}

absl::StatusOr<std::vector<DocumentSource>> Sources(const Arguments& arguments,
                                                    Interrupts& interrupts) {
  std::vector<DocumentSource> sources;
  std::set<std::string> ids;
  if (arguments.text) {
    if (arguments.text->empty()) return UsageError("--text: is empty");
    sources.push_back({"text", "", *arguments.text});
  }
  // Every file is looked at before the first is sent: a typing error in the last one should not
  // cost an hour.
  for (const std::string& path : arguments.files) {
    if (path == "-") {
      absl::StatusOr<std::string> bytes = ReadStandardInput(interrupts);
      if (!bytes.ok()) return bytes.status();
      sources.push_back({"stdin", "", *std::move(bytes)});
    } else {
      if (absl::Status status = CheckFile(path); !status.ok()) return status;
      sources.push_back({IdOfPath(path), path, ""});
    }
  }
  for (const DocumentSource& source : sources) {
    if (!ids.insert(source.id).second) return UsageError(absl::StrCat(source.id, ": named twice"));
  }
  if (sources.empty())
    return UsageError("nothing to harvest: name files, give --text, or - for standard input");
  return sources;
}

v1::Document DocumentOf(const Arguments& arguments, const std::string& id, std::string bytes) {
  v1::Document document;
  document.set_id(id);
  *document.mutable_content() = client::TextInputOf(std::move(bytes));
  if (arguments.every) document.set_every_n(*arguments.every);
  for (const int64_t position : arguments.positions)
    document.mutable_positions()->add_values(position);
  document.set_append_separator(arguments.append_separator);
  return document;
}

std::string ProgressLine(const v1::HarvestProgress& progress, int64_t documents,
                         absl::Duration elapsed) {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  const double rate = seconds > 0 ? static_cast<double>(progress.tokens_done()) / seconds : 0;
  return absl::StrCat(ProgressBar(progress.documents_done(), documents), " ",
                      progress.documents_done(), "/", documents, " documents, ",
                      ShowCount(progress.tokens_done()), " tokens, ",
                      ShowCount(static_cast<int64_t>(rate)), " tokens/s");
}

absl::Status Harvest(Session& session, const Arguments& arguments) {
  absl::StatusOr<std::vector<DocumentSource>> sources = Sources(arguments, session.interrupts());
  if (!sources.ok()) return sources.status();
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();

  v1::HarvestOptions options;
  options.set_model(client::ModelName(arguments.model));
  if (!IsEmptyState(arguments.from)) options.set_source_state(client::StateName(arguments.from));
  options.set_keep_tokens(arguments.keep_tokens);
  options.set_request_id(arguments.request_id);
  for (const std::string& label : arguments.labels)
    options.mutable_annotations()->add_labels(label);
  if (arguments.ttl > absl::ZeroDuration()) {
    *options.mutable_annotations()->mutable_time_to_live() = ToProto(arguments.ttl);
  }

  Output& output = session.output();
  const auto count = static_cast<int64_t>(sources->size());
  const absl::Time begin = absl::Now();
  client::HarvestHandlers handlers;
  handlers.on_state = [&](const v1::HarvestedState& harvested) {
    if (output.json()) {
      v1::HarvestStatesResponse line;
      *line.mutable_state() = harvested;
      output.Json(line);
    } else {
      output.Line(absl::StrFormat("%s  %8d tokens  %s", harvested.state().name(),
                                  harvested.position(), client::OneLine(harvested.document_id())));
    }
    return absl::OkStatus();
  };
  handlers.on_error = [&](const v1::DocumentError& error) {
    if (output.json()) {
      v1::HarvestStatesResponse line;
      *line.mutable_error() = error;
      output.Json(line);
    }
    output.Error(absl::StrCat(error.document_id(), ": ", error.message()));
    return absl::OkStatus();
  };
  handlers.on_progress = [&](const v1::HarvestProgress& progress) {
    output.Progress(ProgressLine(progress, count, absl::Now() - begin));
    return absl::OkStatus();
  };
  const client::DocumentAt documents =
      [&](int64_t index) -> absl::StatusOr<std::optional<v1::Document>> {
    if (index >= count) return std::optional<v1::Document>();
    const DocumentSource& source = (*sources)[index];
    if (source.path.empty()) return DocumentOf(arguments, source.id, source.content);
    absl::StatusOr<std::string> bytes = ReadFile(source.path);
    if (!bytes.ok()) return bytes.status();
    return DocumentOf(arguments, source.id, *std::move(bytes));
  };
  const absl::StatusOr<v1::HarvestSummary> summary =
      (*client)->Harvest(std::move(options), documents, handlers, session.Call());
  output.Progress("");
  if (!summary.ok()) return summary.status();
  if (output.json()) {
    v1::HarvestStatesResponse line;
    *line.mutable_summary() = *summary;
    output.Json(line);
  }
  output.Note(absl::StrFormat("%s of %s, %s tokens in %.2f s",
                              ShowNumber(summary->states(), "state"), ShowNumber(count, "document"),
                              ShowCount(summary->tokens()), summary->seconds()));
  if (summary->errors() > 0) {
    return PartFailedError(absl::StrCat(summary->errors(), " of ", ShowNumber(count, "document"),
                                        " could not be read"));
  }
  return absl::OkStatus();
}

}  // namespace

void AddStatesHarvest(CLI::App& parent, Session& session) {
  CLI::App* command =
      AddCommand(parent, "harvest", "Read documents and keep the states behind them",
                 "  dreamstate states harvest book.txt notes.txt --label library --ttl 7d\n"
                 "  dreamstate states harvest book.txt --every 1000\n"
                 "  dreamstate states harvest --text \"Once upon a time\" --positions 5,10\n"
                 "  curl -s https://example.org/page | dreamstate states harvest -");
  const auto a = std::make_shared<Arguments>();
  command
      ->add_option(
          "files", a->files,
          "Documents, one a file; - reads standard input. The path becomes the document's id")
      ->type_name("FILE");
  command->add_option("--text", a->text, "A document given here");
  command->add_option("--model", a->model, "Which model; may be left out when the server has one")
      ->check(kUtf8);
  command
      ->add_option("--from", a->from,
                   "State that reading starts from, or the word 'empty' (the default)")
      ->type_name("STATE")
      ->check(kUtf8);
  command->add_option("--label", a->labels, "Label for every state; may be repeated")
      ->allow_extra_args(false)
      ->check(kUtf8);
  AddDuration(*command, "--ttl", &a->ttl,
              "Delete the states after this long, for example 7d; default: keep them");
  CLI::Option* every =
      command->add_option("--every", a->every, "A state after every N tokens, and at the end")
          ->type_name("N");
  command
      ->add_option("--positions", a->positions,
                   "States after these token counts, for example 10,20")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->excludes(every);
  command->add_flag("--append-separator", a->append_separator,
                    "Feed the separator last, so that the state is ready to begin another text");
  command->add_flag("--keep-tokens", a->keep_tokens,
                    "Keep the tokens too, so that the state can be re-made elsewhere");
  command
      ->add_option("--request-id", a->request_id,
                   "Repeating a harvest with the same id answers with the states made before")
      ->check(kUtf8);
  command->callback([&session, a] { session.Choose([a](Session& s) { return Harvest(s, *a); }); });
}

}  // namespace dreamstate::cli
