// dreamstate states upload
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/files.h"
#include "client/cli/flag_words.h"
#include "client/cli/progress_bar.h"
#include "client/cli/state_layouts.h"
#include "client/names.h"

namespace dreamstate::cli {
namespace {

struct Arguments {
  std::string file;
  std::string model;
  StateFormat format;
  bool transposed = false;
  int64_t tokens = 0;
  std::vector<std::string> labels;
  absl::Duration ttl = absl::ZeroDuration();
};

// Files of our own layout say how many tokens the state has read, others do not.
std::string ShowTokens(const v1::State& state) {
  const auto& made_with = state.lineage().arguments().fields();
  const auto layout = made_with.find("layout");
  const bool known = state.token_count() > 0 ||
                     (layout != made_with.end() && layout->second.string_value() == "dreamstate");
  return known ? ShowNumber(state.token_count(), "token") : "tokens unknown (--tokens says)";
}

absl::Status Upload(Session& session, const Arguments& arguments) {
  absl::StatusOr<std::unique_ptr<InputFile>> file =
      InputFile::Open(arguments.file, session.interrupts());
  if (!file.ok()) return file.status();
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();

  v1::UploadOptions options;
  options.set_model(client::ModelName(arguments.model));
  options.set_layout(arguments.format.layout);
  options.set_dtype(arguments.format.dtype);
  options.set_transposed(arguments.transposed);
  options.set_token_count(arguments.tokens);
  for (const std::string& label : arguments.labels)
    options.mutable_annotations()->add_labels(label);
  if (arguments.ttl > absl::ZeroDuration()) {
    *options.mutable_annotations()->mutable_time_to_live() = ToProto(arguments.ttl);
  }

  Output& output = session.output();
  const int64_t size = (*file)->size();
  const client::FileBytesAt bytes = [&](int64_t offset, size_t most) {
    output.Progress(
        absl::StrCat(ProgressBar(offset, size), " ", ShowBytes(offset), " of ", ShowBytes(size)));
    return (*file)->ReadAt(offset, most);
  };
  const absl::StatusOr<v1::State> state =
      (*client)->UploadState(std::move(options), bytes, session.Call());
  output.Progress("");
  if (!state.ok()) {
    return InFlagWords(state.status(),
                       {{"chunk", arguments.file == "-" ? "standard input" : arguments.file},
                        {"options.dtype", "--dtype"},
                        {"options.layout", "--layout"},
                        {"options.token_count", "--tokens"},
                        {"options.transposed", "--transposed"}});
  }
  if (output.json()) {
    output.Json(*state);
    return absl::OkStatus();
  }
  const v1::StateShape& shape = state->shape();
  output.Line(
      absl::StrCat(state->name(), "  ", ShowBytes(state->bytes()), ": ",
                   ShowShape(shape.layers(), shape.width(), shape.heads(), shape.head_size()), ", ",
                   ShowTokens(*state)));
  return absl::OkStatus();
}

}  // namespace

void AddStatesUpload(CLI::App& parent, Session& session) {
  CLI::App* command =
      AddCommand(parent, "upload", "Keep a state that a file holds",
                 "  dreamstate states upload alice.safetensors --label library\n"
                 "  dreamstate states upload tuned.pth --layout time-state --ttl 30d\n"
                 "  dreamstate states upload state.bin --layout canonical --dtype bf16 --tokens "
                 "1330");
  const auto a = std::make_shared<Arguments>();
  command->add_option("file", a->file, "The file; - reads standard input")
      ->required()
      ->type_name("FILE");
  command->add_option("--model", a->model, "Which model; may be left out when the server has one")
      ->check(kUtf8);
  a->format.AddTo(*command, "default: told from the file",
                  "of a canonical file only, which does not say it itself; default fp32");
  command->add_flag("--transposed", a->transposed,
                    "The matrices of a time-state or rwkv file are stored [key, value]");
  command
      ->add_option("--tokens", a->tokens,
                   "Tokens that the state has read, for layouts that do not say")
      ->check(CLI::NonNegativeNumber)
      ->type_name("N");
  command->add_option("--label", a->labels, "Label for the state; may be repeated")
      ->allow_extra_args(false)
      ->check(kUtf8);
  AddDuration(*command, "--ttl", &a->ttl,
              "Delete the state after this long, for example 7d; default: keep it");
  command->callback([&session, a] { session.Choose([a](Session& s) { return Upload(s, *a); }); });
}

}  // namespace dreamstate::cli
