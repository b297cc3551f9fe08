// dreamstate states download
#include <memory>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/exit_codes.h"
#include "client/cli/files.h"
#include "client/cli/flag_words.h"
#include "client/cli/progress_bar.h"
#include "client/cli/state_layouts.h"
#include "client/names.h"
#include "nlohmann/json.hpp"

namespace dreamstate::cli {
namespace {

constexpr char kStandardOutput[] = "-";

struct Arguments {
  std::string name;
  std::string file;  // empty: the server's name for it; "-" = standard output
  bool replace = false;
  StateFormat format;
};

// The server's name for the file, as far as it is a plain one; else one of our own.
std::string FileNameOf(const v1::DownloadHeader& header) {
  const std::string& name = header.file_name();
  bool plain = !name.empty() && name[0] != '.' && name[0] != '-' && name.size() <= 128;
  for (const char c : name)
    plain = plain && (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-' ||
                      c == '_');
  return plain ? name : "state.download";
}

class Receiver {
 public:
  Receiver(Output& output, const Arguments& arguments) : output_(output), arguments_(arguments) {}

  absl::Status TakeHeader(const v1::DownloadHeader& header) {
    const bool repeated = got_ > 0;
    header_ = header;
    got_ = 0;
    if (ToStandardOutput()) {
      return repeated ? absl::UnavailableError("the connection was lost; what was printed is void")
                      : absl::OkStatus();
    }
    if (file_) return file_->Restart();
    path_ = arguments_.file.empty() ? FileNameOf(header) : arguments_.file;
    absl::StatusOr<std::unique_ptr<OutputFile>> created =
        OutputFile::Create(path_, arguments_.replace);
    if (!created.ok()) return created.status();
    file_ = *std::move(created);
    return absl::OkStatus();
  }

  absl::Status TakeBytes(absl::string_view bytes) {
    got_ += static_cast<int64_t>(bytes.size());
    output_.Progress(absl::StrCat(ProgressBar(got_, header_.bytes()), " ", ShowBytes(got_), " of ",
                                  ShowBytes(header_.bytes())));
    if (!ToStandardOutput()) return file_->Append(bytes);
    output_.Raw(bytes);
    return absl::OkStatus();
  }

  // All of it is there and verified.
  absl::Status Finish() {
    output_.Progress("");
    const std::string facts =
        absl::StrCat(ShowBytes(header_.bytes()), ", sha-256 ", header_.sha256());
    if (ToStandardOutput()) {
      output_.Flush();
      output_.Note(absl::StrCat(header_.state().name(), "  ", facts));
      return absl::OkStatus();
    }
    if (absl::Status status = file_->Commit(); !status.ok()) return status;
    if (output_.json()) {
      nlohmann::ordered_json line = {{"file", path_}};
      line.update(nlohmann::ordered_json::parse(ToJson(header_), nullptr,
                                                /*allow_exceptions=*/false));
      output_.Line(line.dump());
    } else {
      output_.Line(absl::StrCat(path_, "  ", facts));
    }
    return absl::OkStatus();
  }

 private:
  bool ToStandardOutput() const { return arguments_.file == kStandardOutput; }

  Output& output_;
  const Arguments& arguments_;
  v1::DownloadHeader header_;
  std::string path_;
  std::unique_ptr<OutputFile> file_;
  int64_t got_ = 0;
};

absl::Status Download(Session& session, const Arguments& arguments) {
  Output& output = session.output();
  if (arguments.file == kStandardOutput) {
    if (output.json()) return UsageError("--output -: a file of bytes and --json do not mix");
    if (output.result_is_terminal())
      return UsageError("--output -: a state is no text for a terminal; redirect it");
  } else if (!arguments.file.empty()) {
    absl::Status status = CheckWritable(arguments.file, arguments.replace);
    if (!status.ok()) return status;
  }
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  v1::DownloadStateRequest request;
  request.set_name(client::StateName(arguments.name));
  request.set_layout(arguments.format.layout);
  request.set_dtype(arguments.format.dtype);
  Receiver receiver(output, arguments);
  client::DownloadHandlers handlers;
  handlers.on_header = [&](const v1::DownloadHeader& header) {
    return receiver.TakeHeader(header);
  };
  handlers.on_bytes = [&](absl::string_view bytes) { return receiver.TakeBytes(bytes); };
  const absl::Status status = (*client)->DownloadState(request, handlers, session.Call());
  if (!status.ok()) return InFlagWords(status, {{"dtype", "--dtype"}, {"layout", "--layout"}});
  return receiver.Finish();
}

}  // namespace

void AddStatesDownload(CLI::App& parent, Session& session) {
  CLI::App* command =
      AddCommand(parent, "download", "Write a state into a file, for keeps or for other programs",
                 "  dreamstate states download STATE\n"
                 "  dreamstate states download STATE --output alice.safetensors\n"
                 "  dreamstate states download STATE --layout rwkv --dtype bf16\n"
                 "  dreamstate states download STATE -o - | dreamstate --server OTHER:50051 states "
                 "upload -");
  const auto a = std::make_shared<Arguments>();
  command->add_option("state", a->name, "The state's name or id")
      ->required()
      ->type_name("STATE")
      ->check(kUtf8);
  command
      ->add_option("-o,--output", a->file,
                   "The file; - writes to standard output; default: the state's id and the "
                   "layout's usual ending, in this directory")
      ->type_name("FILE");
  command->add_flag("--force", a->replace, "Replace the file when there is one");
  a->format.AddTo(*command, "default dreamstate", "default: the layout's own");
  command->callback([&session, a] { session.Choose([a](Session& s) { return Download(s, *a); }); });
}

}  // namespace dreamstate::cli
