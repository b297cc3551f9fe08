#include <iomanip>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/status.h"
#include "core/text/tokenizer.h"
#include "server/trainer/command.h"
#include "server/trainer/format_table.h"
#include "server/trainer/import_backbone.h"
#include "server/trainer/progress.h"

namespace dreamstate::trainer {
namespace {

constexpr char kExamples[] = R"(Examples:
  dreamstate-trainer import tiny.bin --name tiny --repository /var/lib/dreamstate/models
  dreamstate-trainer import rwkv7-g1-0.4b.pth --name rwkv7-0.4b --repository models
  dreamstate-trainer import model.safetensors --name mine --repository models --json
Files: PyTorch .pth and safetensors with the official RWKV-7 names, safetensors of Hugging Face and
web-rwkv (.st), rwkv.cpp .bin (FP32, FP16).
A vocabulary of 65536 is World's: its tokenizer, and the chat template "User: {user}\n\nAssistant:".
Exit codes: 0 done, 1 failed, 2 wrong usage.)";

// What is wrong with an option's value, behind the option's name; empty when nothing is.
std::string Problem(const absl::Status& status) {
  const std::string message(status.message());
  constexpr std::string_view kSubjectEnd = ": ";
  const size_t end = message.find(kSubjectEnd);
  return end == std::string::npos ? message : message.substr(end + kSubjectEnd.size());
}
std::string CheckName(const std::string& name) {
  return Problem(repository::ValidateModelName(name));
}
std::string CheckTokenizer(const std::string& name) {
  return name.empty() ? "" : Problem(text::MakeTokenizer(name).status());
}
std::string CheckTemplate(const std::string& text) { return Problem(CheckChatTemplate(text)); }

// The losses of a self-test are of the tokens behind the first.
int64_t LossTokens(const repository::SelfTest& test) {
  return static_cast<int64_t>(test.tokens.size()) - 1;
}

void PrintText(const Imported& imported, const ImportOptions& options) {
  const repository::Manifest& manifest = imported.manifest;
  const repository::Component& backbone = manifest.components.front();
  const rwkv::Config& config = imported.config;
  const auto targets = static_cast<double>(LossTokens(manifest.self_test));
  std::cout << "published    " << manifest.model << " version " << manifest.version << " in "
            << options.repository << "\n"
            << "fingerprint  " << backbone.digest << "\n"
            << "sizes        " << imported.parameters << " parameters, " << backbone.bytes
            << " bytes; layers " << config.layers << ", width " << config.width << ", heads "
            << config.heads << ", vocabulary " << config.vocab << "; a state has "
            << config.state_bytes() << " bytes\n"
            << std::fixed << std::setprecision(4) << "self-test    "
            << manifest.self_test.expected_nll / targets << " nats a token over "
            << std::setprecision(0) << targets << " tokens; tolerance in nats a token"
            << std::setprecision(4);
  const char* separator = ": ";
  for (const auto& [format, tolerance] : manifest.self_test.tolerance.items()) {
    std::cout << separator << format << " " << tolerance.get<double>() / targets;
    separator = ", ";
  }
  std::cout << "\n";
  std::cout << "weights      " << DescribeWeightFormats(backbone.config, imported.parameters)
            << "\n";
  if (imported.same_backbone_version) {
    std::cout << "note         same backbone as version " << *imported.same_backbone_version
              << "\n";
  }
}

void PrintJson(const Imported& imported) {
  const repository::Manifest& manifest = imported.manifest;
  const repository::Component& backbone = manifest.components.front();
  nlohmann::ordered_json result = {
      {"model", manifest.model},
      {"version", manifest.version},
      {"fingerprint", backbone.digest},
      {"bytes", backbone.bytes},
      {"state_bytes", imported.config.state_bytes()},
      {"config", backbone.config},
      {"self_test",
       {{"tokens", LossTokens(manifest.self_test)},
        {"expected_nll", manifest.self_test.expected_nll},
        {"tolerance", manifest.self_test.tolerance}}},
  };
  if (imported.same_backbone_version) {
    result["same_backbone_version"] = *imported.same_backbone_version;
  }
  std::cout << result.dump() << "\n";
}

}  // namespace

Command MakeImportCommand(CLI::App& app) {
  struct Arguments {
    ImportOptions options;
    bool json = false;
  };
  const auto arguments = std::make_shared<Arguments>();
  ImportOptions& options = arguments->options;
  CLI::App* import = app.add_subcommand("import", "Publish a model from a file of another engine");
  import->footer(kExamples);
  import->add_option("FILE", options.file, "The model to import")->required();
  import->add_option("--name", options.name, "Name of the model: a-z 0-9 - . _")
      ->required()
      ->check(CheckName);
  import->add_option("--repository", options.repository, "Model repository; made when missing")
      ->required();
  import
      ->add_option("--tokenizer", options.tokenizer,
                   "Tokenizer of the model: byte or world; by default the vocabulary says which")
      ->check(CheckTokenizer);
  import->add_option("--end-token", options.end_token, "Token that ends a text")
      ->capture_default_str();
  import->add_option("--separator-token", options.separator_token, "Token between two texts")
      ->capture_default_str();
  import
      ->add_option("--chat-template", options.chat_template,
                   "Text with {user} where the user's words go; empty: the model is not for chat")
      ->check(CheckTemplate);
  import->add_option("--self-test-text", options.self_test_text,
                     "Text whose loss tells servers that the model computes as it did here");
  import->add_flag("--json", arguments->json, "Print the result as one line of JSON");
  return {import, [arguments]() -> absl::Status {
            ProgressPrinter progress(std::cerr);
            arguments->options.progress = [&progress](std::string_view stage, int64_t bytes) {
              progress.Begin(stage, bytes);
            };
            DS_ASSIGN_OR_RETURN(const Imported imported, ImportBackbone(arguments->options));
            progress.End();
            if (arguments->json) {
              PrintJson(imported);
            } else {
              PrintText(imported, arguments->options);
              std::cerr << "hint: serve it with \"dreamstate-server --repository "
                        << arguments->options.repository << " --store states\"\n";
            }
            return absl::OkStatus();
          }};
}

}  // namespace dreamstate::trainer
